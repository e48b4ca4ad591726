"""Writes with a request_id: however often they are sent, they have one effect and one response."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar

import peewee as pw
from cachetools import LRUCache

from service import call, deadline, errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import is_lock_timeout, read, transaction
from service.happenings import happened
from service.operations import kept_rights, quotas
from service.positions import Write

T = TypeVar("T")

KEEP_BYTES = 64 * 1024
"""The largest response that is kept whole, where what it shows can be read again."""
COUNT_EVERY = 1_000
"""After how many new request ids of a caller they are counted at the latest."""
FULL_SECONDS = 60.0
"""For how long a caller that has as many as it may is refused without counting again."""
MAX_CALLERS = 10_000
DELETED = "deleted:"
"""Begins the caller of a row that names, as its method, a deleted user whose request ids still count."""

_clock = time.monotonic


@dataclass(frozen=True)
class Request(Generic[T]):
    """What tells a retry from another request, and how its response is kept."""

    method: str
    request_id: str
    fingerprint: bytes
    """A digest of the whole request but its request_id."""
    encode: Callable[[T], bytes]
    again: Callable[[str], T] | None
    """Reads what the response shows, by its id, as the actor may read it now. None where every response is kept."""


class _Kept(NamedTuple):
    """What is kept of a response: itself, or a digest and the id of what it shows."""

    response: bytes | None
    digest: bytes | None = None
    resource_id: str | None = None


class _Room(NamedTuple):
    left: int
    """How many request ids may be added before they are counted again."""
    full_until: float
    """On the clock of `time.monotonic`."""


_rooms: LRUCache[str, _Room] = LRUCache(MAX_CALLERS)
_rooms_lock = threading.Lock()


@read
def saved(actor: Actor, request: Request[T]) -> bytes | None:
    """Return the response that the request got before, if it did and the actor may still make it."""
    return _saved(actor, request)


def once(actor: Actor, request: Request[T], operation: Callable[[], T]) -> bytes:
    """Run the operation, unless the request has succeeded before; return its encoded result either way.

    The key is inserted first and in the transaction of the effect, so a retry either waits for the first attempt or
    finds its response. That also settles a commit whose outcome was lost.
    """
    try:
        return _attempt(actor, request, operation)
    except errors.Unavailable as error:
        if error.reason != "COMMIT_UNKNOWN" or deadline.remaining() <= 0:
            raise
        unknown = error
    try:
        return _attempt(actor, request, operation)
    except (errors.Unavailable, errors.DeadlineExceeded):
        raise unknown from None


@transaction
def _attempt(actor: Actor, request: Request[T], operation: Callable[[], T]) -> bytes:
    key = _key(actor, request)
    while not _claim(key, request.fingerprint):
        if (response := _saved(actor, request)) is not None:
            return response
        # It was purged in between.
    _require_room(actor)
    with kept_rights.recording() as recorded:
        result = operation()
        response = request.encode(result)
    kept = _kept(request, result, response)
    needed = kept_rights.after_write(actor, recorded)
    if kept.response is None:
        needed.append([kept_rights.READ_AGAIN])
    database.execute_sql(
        "update idempotency_keys set response = %s, digest = %s, resource_id = %s, rights = %s,"
        " transaction_id = pg_current_xact_id()::text::bigint, epoch = (select epoch from registry)"
        " where (caller, method, request_id) = %s",
        (*kept, json.dumps(needed), key),
    )
    return response


def _key(actor: Actor, request: Request[T]) -> tuple[str, str, str]:
    return actor.name, request.method, request.request_id


def _kept(request: Request[T], result: Any, response: bytes) -> _Kept:
    if request.again is None or len(response) <= KEEP_BYTES:
        return _Kept(response)
    return _Kept(None, sha256(response).digest(), result.id)


def _saved(actor: Actor, request: Request[T]) -> bytes | None:
    found = database.execute_sql(
        "select fingerprint, rights, epoch::text, transaction_id, response, digest, resource_id"
        " from idempotency_keys"
        " where (caller, method, request_id) = %s",
        (_key(actor, request),),
    ).fetchone()
    if found is None:
        return None
    fingerprint, needed, epoch, transaction_id, *kept = found
    if bytes(fingerprint) != request.fingerprint:
        raise errors.InvalidArgument(
            "REQUEST_ID_REUSED",
            "the request_id was used for another request of this method",
            {"request_id": request.request_id},
        )
    kept_rights.require(actor, needed)
    response = _response(request, _Kept(*kept))
    # Those from before there was a log have none.
    call.current().repeated = None if epoch is None else Write(epoch, transaction_id)
    happened("replayed")
    return response


def _response(request: Request[T], kept: _Kept) -> bytes:
    """Return a response that was kept, or make it again of what it showed, if that is the same as then."""
    if kept.response is not None:
        return bytes(kept.response)
    id = kept.resource_id or ""
    try:
        again = None if request.again is None else request.encode(request.again(id))
    except errors.NotFound:
        again = None
    if again is None or sha256(again).digest() != bytes(kept.digest or b""):
        raise errors.FailedPrecondition(
            "ANSWER_NOT_KEPT",
            "the write was done; its response is too large to be kept, and what it showed has changed since",
            {"id": id},
        )
    return again


def _require_room(actor: Actor) -> None:
    """Raise unless the caller, whose new request id has been inserted, may have one more.

    They are counted once for many: a caller may pass the limit by COUNT_EVERY for each process.
    """
    # Services are the operator's, and call for many.
    if not quotas.bind(actor) or actor.is_service:
        return
    with _rooms_lock:
        room = _rooms.get(actor.name, _Room(0, 0.0))
        if room.left > 0:
            _rooms[actor.name] = room._replace(left=room.left - 1)
            return
    limit = quotas.limit("request_ids")
    count = limit + 1 if _clock() < room.full_until else quotas.count("request_ids", _counted(actor))
    with _rooms_lock:
        full_until = room.full_until if _clock() < room.full_until else _clock() + FULL_SECONDS
        _rooms[actor.name] = _Room(0, full_until) if count > limit else _Room(min(limit - count, COUNT_EVERY), 0.0)
    if count > limit:
        raise quotas.exceeded("request_ids", count)


def _counted(actor: Actor) -> list[str]:
    """Return the callers whose request ids count for the actor: also those of its Clerk id who were deleted."""
    if actor.user_id is None or actor.clerk_id is None:
        return [actor.name]
    deleted = _deleted(actor.clerk_id)
    # Their rows count as well, so no more of them can matter.
    found = database.execute_prepared(
        "select method from idempotency_keys where caller = %s limit %s", [deleted, quotas.limit("request_ids")]
    ).fetchall()
    prefix = actor.name.removesuffix(actor.user_id)
    return [actor.name, deleted, *(f"{prefix}{user_id}" for (user_id,) in found)]


def keep_counting(user_id: str, clerk_id: str) -> None:
    """Have the request ids of a user who is deleted count for whoever comes back with its Clerk id.

    The row that says so is purged when they are. They stay its own: nobody else gets their responses.
    """
    database.execute_sql(
        "insert into idempotency_keys (caller, method, request_id, fingerprint, response) values (%s, %s, '', '', '')"
        " on conflict do nothing",
        (_deleted(clerk_id), user_id),
    )


def _deleted(clerk_id: str) -> str:
    """Return the caller of the rows that name the deleted users of a Clerk id."""
    return f"{DELETED}{sha256(clerk_id.encode()).hexdigest()}"


def forget_room() -> None:
    """Count the request ids of every caller at its next one."""
    with _rooms_lock:
        _rooms.clear()


def _claim(key: tuple[str, str, str], fingerprint: bytes) -> bool:
    """Insert the key and return whether it is new. Waits for a twin that is still running."""
    try:
        claimed = database.execute_sql(
            "insert into idempotency_keys (caller, method, request_id, fingerprint) values (%s, %s, %s, %s)"
            " on conflict do nothing",
            (*key, fingerprint),
        )
    except pw.DatabaseError as error:
        if not is_lock_timeout(error):
            raise
        raise errors.Aborted(
            "REQUEST_IN_PROGRESS", "another call with this request_id is still running", {"request_id": key[2]}
        ) from None
    return bool(claimed.rowcount)
