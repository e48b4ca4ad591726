"""What every write does: one effect and one answer for each request_id."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

from google.protobuf.message import Message

from service import actor
from service.operations import idempotency

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def write(request: Any, answer: type[M], encode: Callable[[T], M], operation: Callable[[], T]) -> M:
    """Answer the encoded result of the operation, or what was answered when the request was first sent."""
    if not request.request_id:
        return encode(operation())
    saved = idempotency.once(
        actor.current(),
        idempotency.Request(
            # Each method has a request type of its own.
            method=request.DESCRIPTOR.full_name.removesuffix("Request"),
            request_id=request.request_id,
            fingerprint=_fingerprint(request),
            encode=lambda result: encode(result).SerializeToString(),
        ),
        operation,
    )
    return answer.FromString(saved)


def _fingerprint(request: Message) -> bytes:
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    return sha256(rest.SerializeToString(deterministic=True)).digest()
