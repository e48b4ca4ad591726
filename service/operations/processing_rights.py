"""Who may read and write the records of runs."""

from service import errors
from service.actor import Actor
from service.operations import rights
from service.operations.kept_rights import right


def reads(actor: Actor, user_id: str, organization_id: str | None) -> bool:
    """Whether the actor is the user of a record, where it is a member, or an ADMIN of the organization."""
    if organization_id is None:
        return actor.is_trusted or actor.user_id == user_id
    if actor.user_id == user_id:
        return organization_id in rights.readable(actor, [organization_id])
    return reads_all(actor, organization_id)


def reads_all(actor: Actor, organization_id: str) -> bool:
    """Whether the actor may read the records of every user in the organization, and write them."""
    return rights.administers(actor, organization_id)


@right("write_record")
def write(actor: Actor, id: str, user_id: str, organization_id: str | None) -> None:
    """Raise unless the actor may read the record, with credentials that are good where it is."""
    if not reads(actor, user_id, organization_id):
        raise errors.not_found("PROCESSING_RECORD", id=id)
    if organization_id is None:
        rights.write_own(actor, None)
