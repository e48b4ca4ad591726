"""The HTTP client of OpenAI's SDK: each request is a span, and its outcome is counted."""

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
        outcome = "unreachable"
        with traces.request(f"{request.method} {_path(request)}", request.headers) as end:
            try:
                response = super().send(request, **options)
                outcome = _outcome(response.status_code)
            finally:
                happened("asked_openai", outcome)
                end(outcome)
        return response


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
