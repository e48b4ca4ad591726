"""What every write does: one effect and one response for each request_id."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

from google.protobuf.message import Message

from service import actor, call
from service.operations import idempotency, rights

TRAILER = "x-omniflo-token"

A = TypeVar("A")
M = TypeVar("M", bound=Message)
T = TypeVar("T")


def write(
    request: Any,
    answer: type[M],
    encode: Callable[[T], M],
    operation: Callable[[], T],
    again: Callable[[str], T] | None = None,
) -> M:
    """Return the encoded result of the operation, or the response that the request got when it was first sent.

    A response that may be large is not kept: `again` reads what it shows, by the id of the result. Nothing is kept of
    a request with `validate_only`, whose operation writes nothing.
    """
    rights.write(actor.current())
    call.current().request_id = request.request_id
    call.current().message = getattr(request, "message", "")
    if not request.request_id or getattr(request, "validate_only", False):
        result = encode(operation())
    else:
        result = answer.FromString(idempotency.once(actor.current(), _key(request, encode, again), operation))
    _tell_token()
    return result


def write_secret(request: Any, answer: type[M], encode: Callable[[T], M], operation: Callable[[], T]) -> M:
    """As `write`, for a response with a `secret`. The secret is not kept: a replay does not have it."""
    made: dict[bytes, M] = {}

    def kept(result: T) -> M:
        message, rest = encode(result), encode(result)
        rest.ClearField("secret")
        made[rest.SerializeToString()] = message
        return rest

    saved = write(request, answer, kept, operation)
    # The message with the secret, if this call made it; also when the outcome of its commit was lost at first.
    return made.get(saved.SerializeToString(), saved)


def write_after(
    request: Any, answer: type[M], encode: Callable[[T], M], ask: Callable[[], A], operation: Callable[[A], T]
) -> M:
    """As `write`, for an operation on what `ask` returns. `ask` runs before its transaction.

    A retry does not ask: the kept response is looked up first.
    """
    rights.write(actor.current())
    call.current().request_id = request.request_id
    if request.request_id:
        saved = idempotency.saved(actor.current(), _key(request, encode))
        if saved is not None:
            _tell_token()
            return answer.FromString(saved)
    asked = ask()
    return write(request, answer, encode, lambda: operation(asked))


def _tell_token() -> None:
    """Have the response say which transaction it was, for reads that are to show it."""
    running = call.current()
    write = running.repeated or running.write
    if write is not None:
        running.trailers[TRAILER] = write.token()


def _key(request: Any, encode: Callable[[T], M], again: Callable[[str], T] | None = None) -> idempotency.Request[T]:
    return idempotency.Request(
        # Each method has a request type of its own.
        method=request.DESCRIPTOR.full_name.removesuffix("Request"),
        request_id=request.request_id,
        fingerprint=_fingerprint(request),
        encode=lambda result: encode(result).SerializeToString(),
        again=again,
    )


def _fingerprint(request: Message) -> bytes:
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    return sha256(rest.SerializeToString(deterministic=True)).digest()
