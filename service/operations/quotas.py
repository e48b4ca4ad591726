"""How much of a kind one owner may have, so that nobody fills the database with what the service gives to everybody."""

from typing import Literal, NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database

Kind = Literal[
    "templates",
    "organizations",
    "api_keys",
    "members",
    "invitations",
    "request_ids",
    "revisions",
    "usages",
    "processing_records",
]


class Limits(NamedTuple):
    """By kind: the first three are for each user, the next two for each organization."""

    templates: int = 5_000
    """That the user is the author of."""
    organizations: int = 500
    """That the user is a member of."""
    api_keys: int = 5_000
    members: int = 10_000
    invitations: int = 1_000
    request_ids: int = 50_000
    """That are kept for a caller who is no service, and for those of its Clerk id who were deleted."""
    revisions: int = 10_000
    """Of a template."""
    usages: int = 100_000
    """That the user, or those of its Clerk id who were deleted, have recorded within 48 hours."""
    processing_records: int = 10_000
    """Of a user."""


class _Counted(NamedTuple):
    rows: str
    """The rows that an owner has, by an index."""
    owner: str


_COUNTED: dict[Kind, _Counted] = {
    "templates": _Counted("templates where user_id = %s", "the user"),
    "organizations": _Counted("organization_members where user_id = %s", "the user"),
    "api_keys": _Counted("api_keys where user_id = %s", "the user"),
    "members": _Counted("organization_members where organization_id = %s", "the organization"),
    "invitations": _Counted("organization_invitations where organization_id = %s", "the organization"),
    "request_ids": _Counted("idempotency_keys where caller = any(%s::text[])", "the caller"),
    "revisions": _Counted("template_revisions where template_id = %s", "the template"),
    "usages": _Counted("usage_events where caller = %s", "the user"),
    "processing_records": _Counted("processing_records where user_id = %s", "the user"),
}


class _Now:
    """What holds in this process."""

    limits = Limits()


def configure(limits: Limits) -> None:
    """Set the limits of this process."""
    _Now.limits = limits


def bind(actor: Actor) -> bool:
    """Whether there are limits for the actor: not for administrators, nor where calls are not authenticated."""
    return not (actor.is_trusted or actor.is_admin)


def owner_lock(actor: Actor) -> str:
    """Return how to lock the owner of what is to be added, so that calls count one after the other."""
    return "FOR NO KEY UPDATE" if bind(actor) else "FOR KEY SHARE"


def limit(kind: Kind) -> int:
    return int(getattr(_Now.limits, kind))


def count(kind: Kind, owner: str | bytes | list[str]) -> int:
    """Return how many the owner has, but no more than one above the limit: what decides is read, and nothing else."""
    sql = f"select count(*) from (select from {_COUNTED[kind].rows} limit %s) found"
    (found,) = database.execute_prepared(sql, [owner, limit(kind) + 1]).fetchone()
    return int(found)


def require_room(actor: Actor, kind: Kind, owner_id: str | bytes, more: int = 1) -> None:
    """Raise unless the owner, who is locked as `owner_lock` says, may have one more, or so many."""
    if bind(actor) and (there := count(kind, owner_id)) + more > limit(kind):
        raise exceeded(kind, there)


def exceeded(kind: Kind, count: int) -> errors.ResourceExhausted:
    return errors.ResourceExhausted(
        "QUOTA_EXCEEDED",
        f"{_COUNTED[kind].owner} has as many {kind.replace('_', ' ')} as the service allows",
        {"quota": kind, "limit": str(limit(kind)), "count": str(count)},
    )
