"""Organizations and their members. The last ADMIN of one can be deleted, and neither leave nor be demoted."""

from collections.abc import Mapping, Sequence

import peewee as pw

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, refused_by, transaction
from service.models.organizations import Invitation, Member, Organization
from service.models.templates import Template
from service.models.users import User
from service.operations import quotas, rights
from service.operations.listing import Key, Page, Source

_SOURCE = Source(
    keys="organizations t join organization_members m on m.organization_id = t.id",
    id="t.id",
    order=("t.name", "t.id"),
    message_size=Organization.message_size("t"),
    rows="organizations t on t.id = page.id",
    select=Organization.columns("t"),
    of=Organization.of,
    key=lambda organization: (organization.name, organization.id),
)

_MEMBERS = Source(
    keys="organization_members t",
    id="t.id",
    order=("t.create_time", "t.id"),
    message_size=Member.message_size("t"),
    rows="organization_members t on t.id = page.id",
    select=Member.columns("t"),
    of=Member.of,
    key=lambda member: (member.create_time, member.id),
)


@transaction
def create(actor: Actor, *, name: str, user_id: str) -> Organization:
    """Add an organization, whose first member, an ADMIN, is the user, or the caller for an empty one."""
    user_id = rights.user(actor, user_id)
    rights.create_organization(actor)
    hold_user(user_id, mode=quotas.owner_lock(actor))
    quotas.require_room(actor, "organizations", user_id)
    organization = Organization.add(name=name)
    Member.add(organization=organization.id, user=user_id, role="admin")
    return organization


@read
def get(actor: Actor, id: str) -> Organization:
    """Return one organization."""
    organization = Organization.fetch_one("where t.id = %s", [id])
    if organization is None:
        raise errors.not_found("ORGANIZATION", id=id)
    rights.read_organization(actor, id)
    return organization


@read
def page(actor: Actor, *, user_id: str, after: Key | None, size: int) -> Page[Organization]:
    """Return the organizations that a user, or the caller for an empty one, is a member of, by name."""
    user_id = rights.user(actor, user_id)
    where, parameters = ["m.user_id = %s"], [user_id]
    if actor.organization_id is not None:
        where.append("t.id = %s")
        parameters.append(actor.organization_id)
    found = _SOURCE.page(where=where, parameters=parameters, after=after, size=size)
    if not found.rows and not User.fetch("where t.id = %s", [user_id]):
        raise errors.not_found("USER", id=user_id)
    return found


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, object], *, etag: str) -> Organization:
    """Write `changes`, unless `etag` is given and no longer current."""
    organization = lock(id)
    rights.write_organization(actor, id)
    require_open(id)
    organization.require_etag(etag)
    return organization.change(**changes)


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Delete an organization with its members, their selections and keys there, unless it has templates."""
    organization = lock(id)
    rights.write_organization(actor, id)
    require_open(id)
    organization.require_etag(etag)
    with refused_by(
        "templates_belong_to_an_organization",
        lambda: errors.FailedPrecondition(
            "ORGANIZATION_IN_USE",
            "the organization has templates",
            {"templates": str(Template.select().where(Template.organization == id).count())},
        ),
    ):
        organization.delete_instance()


@transaction
def add_member(actor: Actor, *, organization_id: str, user_id: str, role: str) -> Member:
    """Make a user a member, or raise MEMBER_ALREADY_EXISTS. An invitation of the user ends."""
    lock(organization_id)
    rights.add_member(actor, organization_id)
    if role != "admin":
        require_open(organization_id)
    hold_user(user_id)
    forget_invitation(organization_id, user_id)
    return Member.add(organization=organization_id, user=user_id, role=role)


@read
def get_member(actor: Actor, id: str) -> Member:
    """Return one membership."""
    member = Member.fetch_one("where t.id = %s", [id])
    if member is None:
        raise errors.not_found("MEMBER", id=id)
    rights.read_member(actor, id, member.organization_id)
    return member


@read
def page_of_members(actor: Actor, organization_id: str, *, after: Key | None, size: int) -> Page[Member]:
    """Return the members of an organization, the oldest first."""
    get(actor, organization_id)
    return _MEMBERS.page(where=["t.organization_id = %s"], parameters=[organization_id], after=after, size=size)


@transaction
def update_member(actor: Actor, id: str, changes: Mapping[str, object], *, etag: str) -> Member:
    """Write `changes`, unless `etag` is given and no longer current, or no ADMIN would be left.

    The invitations of an ADMIN who is demoted end.
    """
    member = _locked_member(id)
    rights.write_member(actor, id, member.organization_id)
    member.require_etag(etag)
    after = member.change(**changes)
    if member.role == "admin" and after.role != "admin":
        _require_admin(member.organization_id)
        Invitation.delete().where(
            Invitation.organization == member.organization_id, Invitation.inviter_id == member.user_id
        ).execute()
    else:
        require_open(member.organization_id)
    return after


@transaction
def remove_member(actor: Actor, id: str, *, etag: str) -> None:
    """End a membership, with the user's selections and keys there, unless no ADMIN would be left.

    From a closed organization members can still be removed. One that has neither members nor templates is deleted.
    """
    member = _locked_member(id)
    rights.remove_member(actor, id, member.organization_id, member.user_id)
    member.require_etag(etag)
    member.delete_instance()
    if member.role == "admin":
        _require_admin(member.organization_id)
    else:
        delete_deserted([member.organization_id])


def lock(id: str) -> Organization:
    """Lock an organization, for a change of it, of its members or of its invitations."""
    organization = Organization.lock_one(Organization.id == id)
    if organization is None:
        raise errors.not_found("ORGANIZATION", id=id)
    return organization


def hold(id: str) -> Organization:
    """Return the organization, which nobody can delete until the transaction ends."""
    organization = Organization.lock_one(Organization.id == id, mode="FOR KEY SHARE")
    if organization is None:
        raise errors.not_found("ORGANIZATION", id=id)
    return organization


def hold_member(organization_id: str, user_id: str) -> None:
    """Keep the user a member until the transaction ends. For anyone else, the organization does not exist."""
    if not Member.lock(Member.organization == organization_id, Member.user == user_id, mode="FOR KEY SHARE"):
        raise errors.not_found("ORGANIZATION", id=organization_id)


def lock_those_of(user_id: str) -> list[str]:
    """Lock the organizations that a user is a member of, by id, and return their ids."""
    memberships = Member.select(Member.organization).where(Member.user == user_id)
    return [organization.id for organization in Organization.lock(Organization.id.in_(memberships))]


def of_nobody_else(user_id: str) -> list[str]:
    """Return the organizations that would be deleted with a user: they have no other member, and no template."""
    members = Member.select().where(Member.organization == Organization.id)
    found = Organization.select(Organization.id).where(
        pw.fn.exists(members.where(Member.user == user_id)),
        ~pw.fn.exists(members.where(Member.user != user_id)),
        ~pw.fn.exists(Template.select().where(Template.organization == Organization.id)),
    )
    return [organization.id for organization in found]


def require_open(id: str) -> None:
    """Raise unless the organization has an ADMIN: what is its own is not written otherwise."""
    if not _has_admin(id):
        raise errors.FailedPrecondition(
            "ORGANIZATION_CLOSED",
            "the organization has no ADMIN; an administrator of the platform can add one",
            {"organization_id": id},
        )


def delete_deserted(ids: Sequence[str]) -> None:
    """Delete those of the organizations that have neither members nor templates."""
    members = Member.select().where(Member.organization == Organization.id)
    for organization in Organization.lock(Organization.id.in_(ids), ~pw.fn.exists(members), mode="FOR UPDATE"):
        if not Template.select().where(Template.organization == organization.id).exists():
            organization.delete_instance()


def forget_invitation(id: str, user_id: str, *, if_: str = "true") -> None:
    """Delete the invitation of a user to an organization, if there is one that meets the condition."""
    sql = f"delete from organization_invitations where organization_id = %s and user_id = %s and {if_}"
    database.execute_sql(sql, [id, user_id])


def _require_admin(id: str) -> None:
    """Raise unless the organization, which is locked, has an ADMIN."""
    if not _has_admin(id):
        raise errors.FailedPrecondition(
            "LAST_ADMIN", "the organization would be left without an ADMIN", {"organization_id": id}
        )


def _has_admin(id: str) -> bool:
    sql = "select from organization_members where organization_id = %s and role = 'admin' limit 1"
    return database.execute_prepared(sql, [id]).fetchone() is not None


def hold_user(id: str, *, mode: str = "FOR KEY SHARE") -> None:
    """As users.hold, which is above this module."""
    if not User.lock(User.id == id, mode=mode):
        raise errors.not_found("USER", id=id)


def _locked_member(id: str) -> Member:
    """Lock the organization, for which all changes of its members wait, and return the member."""
    found = Member.fetch_one("where t.id = %s", [id])
    if found is not None and Organization.lock_one(Organization.id == found.organization_id) is not None:
        member = Member.lock_one(Member.id == id, Member.organization == found.organization_id)
        if member is not None:
            return member
    raise errors.not_found("MEMBER", id=id)
