"""Invitations: whoever is to be a member of an organization is asked first."""

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.organizations import Invitation, Member
from service.models.row import new_id
from service.operations import organizations, quotas, rights, users
from service.operations.listing import Key, Page, Source

LIFE_DAYS = 7

_SOURCE = Source(
    keys="organization_invitations t join organizations place on place.id = t.organization_id",
    id="t.id",
    order=("t.create_time", "t.id"),
    descending=True,
    message_size=f"{Invitation.message_size('t')} + octet_length(place.name)",
    rows="organization_invitations t on t.id = page.id join organizations place on place.id = t.organization_id",
    select=f"place.name, {Invitation.columns('t')}",
    of=Invitation.of_joined,
    key=lambda invitation: (invitation.create_time, invitation.id),
)


@transaction
def invite(actor: Actor, *, organization_id: str, user_id: str, role: str) -> Invitation:
    """Invite a user, or raise MEMBER_ALREADY_EXISTS or INVITATION_ALREADY_EXISTS."""
    organizations.lock(organization_id)
    rights.write_organization(actor, organization_id)
    organizations.require_open(organization_id)
    users.hold(user_id)
    if Member.fetch("where t.organization_id = %s and t.user_id = %s", [organization_id, user_id]):
        raise errors.AlreadyExists(
            "MEMBER_ALREADY_EXISTS", "the user is a member of the organization", {"field": "invitation.user_id"}
        )
    organizations.forget_invitation(organization_id, user_id, if_="expire_time <= clock_timestamp()")
    quotas.require_room(actor, "invitations", organization_id)
    id = new_id()
    database.execute_sql(
        "insert into organization_invitations (id, organization_id, user_id, role, inviter_id, expire_time)"
        " values (%s, %s, %s, %s, %s, statement_timestamp() + make_interval(days => %s))",
        [id, organization_id, user_id, role, actor.user_id, LIFE_DAYS],
    )
    return _open(id)


@transaction
def accept(actor: Actor, id: str) -> Member:
    """Make the user who is invited a member, and end the invitation."""
    invitation = _locked(id)
    rights.accept_invitation(actor, id, invitation.organization_id, invitation.user_id)
    organizations.require_open(invitation.organization_id)
    users.hold(invitation.user_id, mode=quotas.owner_lock(actor))
    quotas.require_room(actor, "organizations", invitation.user_id)
    quotas.require_room(actor, "members", invitation.organization_id)
    invitation.delete_instance()
    return Member.add(organization=invitation.organization_id, user=invitation.user_id, role=invitation.role)


@transaction
def decline(actor: Actor, id: str) -> None:
    """End an invitation, as the user who is invited or as an ADMIN of the organization."""
    invitation = _locked(id)
    rights.decline_invitation(actor, id, invitation.organization_id, invitation.user_id)
    invitation.delete_instance()


@read
def page(
    actor: Actor, *, user_id: str = "", organization_id: str = "", after: Key | None, size: int
) -> Page[Invitation]:
    """Return the invitations of an organization, or of a user, or of the caller where both are empty; newest first."""
    where, parameters = ["t.expire_time > clock_timestamp()"], []
    if organization_id:
        organizations.get(actor, organization_id)
        rights.read_invitations(actor, organization_id)
        where.append("t.organization_id = %s")
        parameters.append(organization_id)
    else:
        user_id = rights.user(actor, user_id)
        where.append("t.user_id = %s")
        parameters.append(user_id)
        if actor.organization_id is not None:
            where.append("t.organization_id = %s")
            parameters.append(actor.organization_id)
    found = _SOURCE.page(where=where, parameters=parameters, after=after, size=size)
    if not found.rows and not organization_id:
        users.get(actor, id=user_id)
    return found


def _open(id: str) -> Invitation:
    invitation = Invitation.open(id)
    if invitation is None:
        raise errors.not_found("INVITATION", id=id)
    return invitation


def _locked(id: str) -> Invitation:
    """Lock the organization, for which all changes of its members and invitations wait, and return the invitation."""
    organizations.lock(_open(id).organization_id)
    return _open(id)
