"""Who may record usage, and who may read it."""

from service.actor import Actor
from service.operations import rights


def records_for_anybody(actor: Actor) -> bool:
    """Whether the actor, which may write, may record what others have used."""
    if actor.is_admin:
        # A replay needs it again.
        rights.administer(actor)
    return actor.is_trusted or actor.is_admin or actor.is_service


def record_own(actor: Actor, user_id: str, organization_id: str | None) -> None:
    """Raise unless the actor may record what it used itself in the organization, or in none for None."""
    rights.be_user(actor, user_id)
    rights.write_own(actor, organization_id)


def readable(actor: Actor, user_id: str, organization_id: str) -> tuple[str, str]:
    """Return the user and the organization whose usage the actor gets that asks for these; empty is any."""
    if actor.is_trusted or actor.is_admin:
        return user_id, organization_id
    if organization_id:
        rights.read_organization(actor, organization_id)
        if rights.administers(actor, organization_id):
            return user_id, organization_id
    user_id = user_id or actor.user_id or ""
    rights.be_user(actor, user_id)
    return user_id, organization_id or actor.organization_id or ""
