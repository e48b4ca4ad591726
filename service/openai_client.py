"""The HTTP client of OpenAI's SDK: each request is a span, until its response has ended, and its outcome is counted."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import openai

from service import traces
from service.happenings import happened

_PARTS = frozenset({"assistants", "cancel", "files", "models", "responses"})
"""The parts of paths that are named; all else is an id, or before the first of them."""


class Client(openai.DefaultHttpxClient):
    """Sends requests as its parent does, and tells what became of each when it has the headers of the response."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        end = traces.request(f"{request.method} {_path(request)}", request.headers)
        outcome = "unreachable"
        try:
            response = super().send(request, **options)
            outcome = _outcome(response.status_code)
        finally:
            happened("asked_openai", outcome)
            if outcome == "unreachable":
                end(outcome)
        # What is streamed goes on for as long as somebody reads it.
        if options.get("stream") and isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Told(response.stream, end, outcome)
        else:
            end(outcome)
        return response


class _Told(httpx2.SyncByteStream):
    """What is streamed, whose end is told."""

    def __init__(self, stream: httpx2.SyncByteStream, end: Callable[[str], None], outcome: str) -> None:
        self._stream = stream
        self._end = end
        self._outcome = outcome

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except httpx2.HTTPError:
            self._end("cut")
            raise

    def close(self) -> None:
        self._stream.close()
        self._end(self._outcome)


def _path(request: httpx2.Request) -> str:
    """Return the path without ids, such as `/responses/{id}/cancel`."""
    parts: list[str] = []
    for part in request.url.path.split("/"):
        if part in _PARTS:
            parts.append(part)
        elif parts and parts[-1] != "{id}":
            parts.append("{id}")
    return "/" + "/".join(parts)


def _outcome(status: int) -> str:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return "ok"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limited"
    return "refused" if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
