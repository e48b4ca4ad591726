"""Who may do what: the one place where it is decided. docs/access.md has it as a table.

What an actor may not read does not exist: the error is the one of a thing that is not there. What it may read and not
write is PERMISSION_DENIED.
"""

from collections.abc import Iterable
from datetime import datetime

from service import cache, errors, tags
from service.actor import SYSTEM, Actor
from service.database.handle import database
from service.database.transactions import read
from service.models import api_keys
from service.operations import protected_labels
from service.operations.kept_rights import REACH, denied, right


@right(REACH)
def reach_as_far(actor: Actor, organization_id: str | None) -> None:
    """Raise for a key that is limited to another organization."""
    if actor.organization_id not in {None, organization_id}:
        raise denied("the key is limited to an organization")


def write(actor: Actor) -> None:
    """Raise for a caller that may only read."""
    if actor.is_reader:
        raise denied("the caller may read and not write")


@right("administer")
def administer(actor: Actor) -> None:
    """Raise unless the actor writes what belongs to the platform: types, tools, models, defaults."""
    if not (actor.is_trusted or actor.is_admin):
        raise denied("only administrators of the platform may do this")


@right("be_user")
def be_user(actor: Actor, user_id: str) -> None:
    """Raise unless the actor is the user or acts for the user."""
    if actor.is_trusted or actor.user_id == user_id:
        return
    if actor.is_service:
        raise denied("a service names the user that it acts for in x-omniflo-user")
    raise errors.not_found("USER", id=user_id)


def user(actor: Actor, user_id: str, field: str = "user_id") -> str:
    """Return the id of the user that a call is about: the one in the field, or the caller."""
    if not user_id:
        if actor.is_trusted:
            raise errors.field_invalid((field, "is required, since calls are not authenticated"))
        user_id = actor.user_id or ""
    be_user(actor, user_id)
    return user_id


def reads_user(actor: Actor, user_id: str) -> bool:
    return actor.is_trusted or actor.is_service or actor.user_id == user_id


@right("provision")
def provision(actor: Actor, user_id: str | None) -> None:
    """Raise unless the actor may provision the user, or a new one for None."""
    if not (actor.is_trusted or actor.is_service or (user_id is not None and actor.user_id == user_id)):
        raise denied("only services may provision other users than the caller")


@right("delete_user")
def delete_user(actor: Actor, user_id: str) -> None:
    if not reads_user(actor, user_id):
        raise errors.not_found("USER", id=user_id)
    _everywhere(actor)


@right("create_organization")
def create_organization(actor: Actor) -> None:
    _everywhere(actor)


def read_organization(actor: Actor, organization_id: str) -> None:
    """Raise unless the actor is a member."""
    _require_member(actor, organization_id, errors.not_found("ORGANIZATION", id=organization_id))


@right("write_organization")
def write_organization(actor: Actor, organization_id: str) -> None:
    """Raise unless the actor is an ADMIN."""
    read_organization(actor, organization_id)
    if not _has_role(actor, organization_id, "admin"):
        raise denied("only ADMINs of the organization may do this")


@right("add_member")
def add_member(actor: Actor, organization_id: str) -> None:
    """Raise unless the actor administers the platform: everybody else asks the user, by inviting."""
    if actor.is_trusted or actor.is_admin:
        return
    read_organization(actor, organization_id)
    raise denied("only administrators of the platform may do this; ADMINs of the organization invite")


def read_invitations(actor: Actor, organization_id: str) -> None:
    """Raise unless the actor is an ADMIN."""
    read_organization(actor, organization_id)
    if not _has_role(actor, organization_id, "admin"):
        raise denied("only ADMINs of the organization may read its invitations")


@right("accept_invitation")
def accept_invitation(actor: Actor, id: str, organization_id: str, user_id: str) -> None:
    """Raise unless the actor is the user who is invited."""
    decline_invitation(actor, id, organization_id, user_id)
    if not (actor.is_trusted or actor.user_id == user_id):
        raise denied("only the user who is invited may do this")


@right("decline_invitation")
def decline_invitation(actor: Actor, id: str, organization_id: str, user_id: str) -> None:
    """Raise unless the actor is the user who is invited, or an ADMIN of the organization."""
    if actor.user_id == user_id and reaches(actor, organization_id):
        return
    if not _has_role(actor, organization_id, "admin"):
        raise errors.not_found("INVITATION", id=id)


def read_member(actor: Actor, id: str, organization_id: str) -> None:
    _require_member(actor, organization_id, errors.not_found("MEMBER", id=id))


@right("write_member")
def write_member(actor: Actor, id: str, organization_id: str) -> None:
    """Raise unless the actor is an ADMIN of the member's organization."""
    read_member(actor, id, organization_id)
    write_organization(actor, organization_id)


@right("remove_member")
def remove_member(actor: Actor, id: str, organization_id: str, user_id: str) -> None:
    """Raise unless the actor is an ADMIN of the member's organization, or the member."""
    if actor.user_id == user_id and reaches(actor, organization_id):
        return
    write_member(actor, id, organization_id)


@right("write_key")
def write_key(actor: Actor, id: str, user_id: str, organization_id: str | None) -> None:
    """Raise unless the key belongs to the actor, and reaches no further than the key that the actor calls with."""
    if not (actor.is_trusted or (actor.user_id == user_id and actor.organization_id in {None, organization_id})):
        raise errors.not_found("API_KEY", id=id)


@right("make_secret")
def make_secret(actor: Actor) -> None:
    """Raise for a service with fewer rights than the user it acts for: a key of that user would give it all of them."""
    if actor.is_below_user:
        raise denied("only an admin service gets keys of the platform's administrators")


def end_of_key(actor: Actor) -> datetime | None:
    """Return when the API key that the actor calls with ends; None for never, and for an actor without one."""
    return None if actor.api_key_id is None else _line_of(actor.api_key_id).expire_time


@right("make_key")
def make_key(actor: Actor, until: str | None) -> None:
    """Raise for an API key that would make one which outlives it, or that has too many above it to make any."""
    if actor.api_key_id is None:
        return
    line = _line_of(actor.api_key_id)
    if len(line.ids) >= api_keys.MAX_GENERATIONS:
        raise denied(f"a key with {api_keys.MAX_GENERATIONS - 1} keys above it makes none")
    # Without an end of its own, it gets that of the key.
    if until is not None:
        _require_no_later(until, line.expire_time)


@right("extend_key")
def extend_key(actor: Actor, id: str, now: str | None, until: str | None) -> None:
    """Raise for an API key that would have a key last longer: itself, one that it made past its own end, or another.

    What it extended would outlive it.
    """
    if actor.api_key_id is None:
        return
    own = _line_of(actor.api_key_id)
    is_own = actor.api_key_id in api_keys.line(id).ids
    _require_no_later(until, own.expire_time if is_own else _moment(now))


@right("renew_key")
def renew_key(actor: Actor, id: str) -> None:
    """Raise for an API key that would get the secret of another than itself and those that it made."""
    if actor.api_key_id is None:
        return
    _line_of(actor.api_key_id)
    if actor.api_key_id not in api_keys.line(id).ids:
        raise denied("a key gets the secrets of itself and of the keys made with it, and no others")


@right("write_own")
def write_own(actor: Actor, organization_id: str | None) -> None:
    """Raise unless the actor may write its own things in the organization, as a member, or platform-wide for None."""
    if organization_id is None:
        _everywhere(actor)
    else:
        read_organization(actor, organization_id)


def read_template(actor: Actor, id: str, organization_id: str | None) -> None:
    if not _reads_templates(actor, organization_id):
        raise errors.not_found("TEMPLATE", id=id)


@right("create_template")
def create_template(actor: Actor, organization_id: str | None) -> None:
    """Raise unless the actor, which is the author, is more than a VIEWER of the organization."""
    write_own(actor, organization_id)
    if organization_id is not None and not _has_role(actor, organization_id, "admin", "member"):
        raise denied("VIEWERs of the organization create no templates")


@right("write_template")
def write_template(actor: Actor, id: str, author_id: str, organization_id: str | None) -> None:
    """Raise unless the actor is the author, no VIEWER by now, or an administrator of where the template belongs."""
    read_template(actor, id, organization_id)
    if actor.is_trusted or administers(actor, organization_id):
        return
    if actor.user_id == author_id and (
        actor.organization_id is None if organization_id is None else _has_role(actor, organization_id, "member")
    ):
        return
    raise denied("only the author and administrators may do this")


@right("write_default")
def write_default(actor: Actor, organization_id: str | None) -> None:
    """Raise unless the actor may make and unmake defaults: it administers the platform, or the organization."""
    if not (actor.is_trusted or administers(actor, organization_id)):
        raise denied("only administrators may make or unmake a default")


@right("write_label")
def write_label(actor: Actor, id: str, author_id: str, organization_id: str | None, label: str) -> None:
    """Raise unless the actor may move the label: who may write the template, or its defaults if it is protected."""
    write_template(actor, id, author_id, organization_id)
    if protected_labels.are_in([label]):
        write_default(actor, organization_id)


def scopes(actor: Actor) -> tuple[str, list[str]]:
    """Return a query for the scopes whose templates the actor may read, and its parameters."""
    if actor.is_trusted:
        return "select '' union all select id from organizations", []
    if actor.user_id is None:
        return "select ''", []
    of_user = "select '' union all select organization_id from organization_members where user_id = %s"
    if actor.organization_id is None:
        return of_user, [actor.user_id]
    return f"{of_user} and organization_id = %s", [actor.user_id, actor.organization_id]


def readable(actor: Actor, organization_ids: Iterable[str | None]) -> set[str | None]:
    """Return the organizations, None being the platform, whose templates the actor may read."""
    return {organization_id for organization_id in organization_ids if _reads_templates(actor, organization_id)}


def countable(actor: Actor) -> tuple[str, list[str]]:
    """Return a query for the scopes whose templates the actor may count: all, for an administrator of the platform."""
    return scopes(SYSTEM if actor.is_admin else actor)


def counts_selections(actor: Actor, organization_id: str | None) -> bool:
    """Whether the actor may count everybody's selections of a template there, and not only its own."""
    return actor.is_trusted or actor.is_admin or administers(actor, organization_id)


def reaches(actor: Actor, organization_id: str) -> bool:
    """Whether the actor's credentials are valid in the organization."""
    return actor.organization_id in {None, organization_id}


@read
def _role(actor: Actor, organization_id: str) -> str | None:
    """Return the actor's role in the organization, as it is now."""
    if actor.user_id is None or not reaches(actor, organization_id):
        return None
    cache.saw(tags.user(actor.user_id))
    found = database.execute_prepared(
        "select role from organization_members where organization_id = %s and user_id = %s",
        [organization_id, actor.user_id],
    ).fetchone()
    return None if found is None else str(found[0])


def _reads_templates(actor: Actor, organization_id: str | None) -> bool:
    return organization_id is None or _is_member(actor, organization_id)


def _is_member(actor: Actor, organization_id: str) -> bool:
    return actor.is_trusted or _role(actor, organization_id) is not None


def _has_role(actor: Actor, organization_id: str, *roles: str) -> bool:
    return actor.is_trusted or _role(actor, organization_id) in roles


def administers(actor: Actor, organization_id: str | None) -> bool:
    """Whether the actor administers the organization, or the platform for None."""
    return actor.is_admin if organization_id is None else _has_role(actor, organization_id, "admin")


@read
def _line_of(key_id: str) -> api_keys.Line:
    """Return the line of the key of a call. It may have ended since the caller was last looked up."""
    line = api_keys.line(key_id)
    if line.is_over:
        raise errors.Unauthenticated("key_over")
    return line


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _require_no_later(until: str | None, end: datetime | None) -> None:
    moment = _moment(until)
    if end is not None and (moment is None or moment > end):
        raise denied("a key makes and extends nothing that would outlive it")


def _require_member(actor: Actor, organization_id: str, otherwise: errors.Error) -> None:
    if not _is_member(actor, organization_id):
        raise otherwise


def _everywhere(actor: Actor) -> None:
    if actor.organization_id is not None:
        raise denied("the key is limited to an organization")
