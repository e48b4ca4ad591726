"""Writes with a request_id: however often they are sent, they have one effect and one response."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import peewee as pw

from service import deadline, errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import is_lock_timeout, read, transaction
from service.operations import kept_rights

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """What tells a retry from another request, and how its response is kept."""

    method: str
    request_id: str
    fingerprint: bytes
    """A digest of the whole request but its request_id."""
    encode: Callable[[T], bytes]


@read
def saved(actor: Actor, request: Request[T]) -> bytes | None:
    """Return the response that the request got before, if it did and the actor may still make it."""
    return _saved(actor, (actor.name, request.method, request.request_id), request.fingerprint)


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
    key = (actor.name, request.method, request.request_id)
    while not _claim(key, request.fingerprint):
        if (response := _saved(actor, key, request.fingerprint)) is not None:
            return response
        # It was purged in between.
    with kept_rights.recording() as recorded:
        response = request.encode(operation())
    database.execute_sql(
        "update idempotency_keys set response = %s, rights = %s where (caller, method, request_id) = %s",
        (response, json.dumps(kept_rights.after_write(actor, recorded)), key),
    )
    return response


def _saved(actor: Actor, key: tuple[str, str, str], fingerprint: bytes) -> bytes | None:
    found = database.execute_sql(
        "select fingerprint, response, rights from idempotency_keys where (caller, method, request_id) = %s", (key,)
    ).fetchone()
    if found is None:
        return None
    if bytes(found[0]) != fingerprint:
        raise errors.InvalidArgument(
            "REQUEST_ID_REUSED", "the request_id was used for another request of this method", {"request_id": key[2]}
        )
    kept_rights.require(actor, found[2])
    return bytes(found[1])


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
