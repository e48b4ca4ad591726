"""Assistants at servers that speak OpenAI's Assistants API."""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from service import deadline, errors
from service.openai_gateway import Gateway, OutcomeUnknownError, Refused, refusal_of, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import openai

ANSWER_SECONDS = 20.0
"""How long an answer may take."""
PAGE = 100
"""The most that the API lists at once."""
MOST_PAGES = 1_000
MOST_PAGE_BYTES = 64 * 2**20
"""Of one page, whose assistants may have 256,000 characters of instructions each."""

_HEADERS = {"Content-Type": "application/json", "OpenAI-Beta": "assistants=v2"}
_ABSENT = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Missing(Refused):
    """There is no such assistant."""

    def __init__(self) -> None:
        super().__init__({}, "")


class GoneError(Exception):
    """The server has no assistants at all."""


class Listed(NamedTuple):
    id: str
    created_at: float
    """In seconds since 1970, by the server's clock."""
    metadata: Mapping[str, Any]


class Assistants:
    """Asks for one thing at a time; all but `create` may be done again. Bodies are JSON, and sent as they are."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def create(self, body: str) -> str:
        """Create one, and return its id. OutcomeUnknownError where it may or may not have been created."""
        asked = self._gateway.submit(lambda client: _post(client, "/assistants", body, {"timeout": _timeout()}))
        try:
            told = asked.result(min(ANSWER_SECONDS, max(0.0, deadline.remaining())))
        except TimeoutError:
            raise OutcomeUnknownError from None
        except Refused:
            self.require_api()
            raise
        finally:
            asked.give_up()
        if (made := _listed(told)) is None:
            raise OutcomeUnknownError
        return made.id

    def update(self, id: str, body: str) -> None:
        self._of_one(id, lambda client, options: _post(client, f"/assistants/{id}", body, options))

    def get(self, id: str) -> Listed:
        found = self._of_one(
            id, lambda client, options: client.get(f"/assistants/{id}", cast_to=object, options=_with(options))
        )
        if (listed := _listed(found)) is None:
            raise unavailable()
        return listed

    def delete(self, id: str) -> None:
        self._of_one(
            id, lambda client, options: client.delete(f"/assistants/{id}", cast_to=object, options=_with(options))
        )

    def newest(self) -> Iterator[Listed]:
        """Iterate over those that are listed, the newest first; GoneError where the server has no such list."""
        after: str | None = None
        for _ in range(MOST_PAGES):
            params = {"limit": PAGE, "order": "desc"} | ({} if after is None else {"after": after})
            try:
                page = self._gateway.ask(partial(_page, params), _refusal, MOST_PAGE_BYTES)
            except Missing:
                if after is None:
                    raise GoneError from None
                # That it stands behind is gone.
                raise unavailable() from None
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].id

    def require_api(self) -> None:
        """Raise GoneError where the server has no assistants at all."""
        next(self.newest(), None)

    def _of_one(self, id: str, question: Any) -> Any:
        """Ask about one assistant: Missing where it is not there, and GoneError where none are."""
        if _ID.fullmatch(id) is None:
            raise Missing
        try:
            return self._gateway.ask(question, _refusal)
        except Missing:
            self.require_api()
            raise


def _timeout() -> float:
    return min(ANSWER_SECONDS, max(0.1, deadline.remaining()))


def _with(options: dict[str, Any]) -> Any:
    return {**options, "headers": _HEADERS}


def _post(client: openai.OpenAI, path: str, body: str, options: dict[str, Any]) -> object:
    return client.post(path, content=body.encode(), cast_to=object, options=_with(options))


def _page(params: dict[str, object], client: openai.OpenAI, options: dict[str, Any]) -> list[Listed]:
    told = client.get("/assistants", cast_to=object, options=_with({**options, "params": params}))
    entries = told.get("data") if isinstance(told, dict) else None
    if not isinstance(entries, list):
        raise TypeError("no list")
    page = [_listed(entry) for entry in entries]
    if None in page:
        raise ValueError("no assistant")
    return [listed for listed in page if listed is not None]


def _listed(told: object) -> Listed | None:
    match told:
        case {"id": str(id), "created_at": int() | float() as created_at, **rest} if _ID.fullmatch(id):
            metadata = rest.get("metadata")
            return Listed(id, created_at, metadata if isinstance(metadata, dict) else {})
    return None


def _refusal(error: openai.APIStatusError) -> errors.Error:
    return Missing() if error.status_code in _ABSENT else refusal_of(error)
