"""Page sizes and page tokens: opaque, bound to their method and filters, and checked when they come back. Pure."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, TypeVar

from google.protobuf.message import Message

from service import errors
from service.operations.listing import Key, Page

T = TypeVar("T")

DEFAULT_SIZE = 50
MAX_SIZE = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST_SIZE = 12


def size(request: Any) -> int:
    """Return how many rows the request wants at most; negative ones are refused by the rules in the protos."""
    return min(request.page_size or DEFAULT_SIZE, MAX_SIZE)


def after(request: Any, *kinds: type[datetime | str | int]) -> Key | None:
    """Return the key that the request's token holds, with parts of these kinds, or None for the first page."""
    if not request.page_token:
        return None
    try:
        token = urlsafe_b64decode(request.page_token.encode())
        digest, key = token[:_DIGEST_SIZE], token[_DIGEST_SIZE:]
        # Several texts decode to the same bytes; only the one that was given counts.
        if digest != _digest(request, key) or urlsafe_b64encode(token).decode() != request.page_token:
            raise ValueError  # noqa: TRY301 - one error for all that can be wrong
        parts = json.loads(key)
        if not isinstance(parts, list):
            raise ValueError  # noqa: TRY301, TRY004 - as above
        return tuple(_part(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise errors.InvalidArgument(
            "PAGE_TOKEN_INVALID",
            "the page_token is not one of this method with these filters",
            violations=[("page_token", "must be the next_page_token of a response to the same request")],
        ) from None


def _part(part: Any, kind: type[datetime | str | int]) -> datetime | str | int:
    """Check a part of a key. The digest catches mistakes; a forger can compute it."""
    if kind is datetime and type(part) is int:
        return _EPOCH + timedelta(microseconds=part)
    if kind is int and type(part) is int and 0 <= part < 2**63:
        return part
    if kind is str and isinstance(part, str) and "\0" not in part:
        # Raises for what is no text.
        part.encode()
        return part
    raise ValueError


def of(rows: Sequence[T], *, key: Callable[[T], Key], after: Key | None, size: int) -> Page[T]:
    """Return a page of rows that come from elsewhere, in order of their keys."""
    rest = [row for row in rows if after is None or key(row) > after]
    page = rest[:size]
    return Page(page, key(page[-1]) if len(rest) > size else None)


def token(request: Message, page: Page[Any]) -> str:
    """Return the token of the page that follows, empty when none does."""
    if page.next is None:
        return ""
    parts = [(part - _EPOCH) // timedelta(microseconds=1) if isinstance(part, datetime) else part for part in page.next]
    key = json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()
    return urlsafe_b64encode(_digest(request, key) + key).decode()


def _digest(request: Message, key: bytes) -> bytes:
    filters = type(request)()
    filters.CopyFrom(request)
    for field in ("page_size", "page_token"):
        filters.ClearField(field)
    digest = blake2b(request.DESCRIPTOR.full_name.encode(), digest_size=_DIGEST_SIZE)
    digest.update(b"\0" + key + b"\0" + filters.SerializeToString(deterministic=True))
    return digest.digest()
