"""Files at OpenAI: handed on as they come in, and never kept here."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from service import deadline, errors
from service.handoff import GoneError, Handoff
from service.openai_gateway import MARGIN_SECONDS, Gateway, OutcomeUnknownError, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import openai

KEPT_SECONDS = 30 * 24 * 3600
"""After which OpenAI deletes a file by itself; the longest that it allows."""
CONNECT_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""How long OpenAI may take nothing of what it is sent, or not answer to the end of it."""
LONGEST_SECONDS = 900.0
"""How long an upload may take, if its caller's deadline is not sooner."""

IMAGES = frozenset({".gif", ".jpeg", ".jpg", ".png", ".webp"})


def content_part(file_id: str, filename: str) -> dict[str, str]:
    """Return the part of a run's input that is this file; what it is depends on the end of its name, as at OpenAI."""
    if PurePath(filename.lower()).suffix in IMAGES:
        return {"type": "input_image", "file_id": file_id, "detail": "auto"}
    return {"type": "input_file", "file_id": file_id}


class Files:
    """Sends files to OpenAI, and deletes them there."""

    def __init__(self, gateway: Gateway, *, silent_seconds: float = SILENT_SECONDS) -> None:
        self._gateway = gateway
        self._silent = silent_seconds

    def upload(self, filename: str, chunks: Iterator[bytes]) -> str:
        """Send a file on, chunk by chunk, and return its id.

        An upload that fails is not sent again: its chunks are gone. OpenAI keeps no file that did not come to its end.
        Only one whose answer is lost may be there, and it is deleted with the others, after 30 days. What `chunks`
        raises ends the upload, and is raised.
        """
        give_up = time.monotonic() + min(deadline.remaining() - MARGIN_SECONDS, LONGEST_SECONDS)
        body = _Body(give_up)
        sent = self._gateway.submit(lambda client: _send(client, filename, body, self._silent))
        # Whatever ends the request, nothing more is taken.
        sent.add_done_callback(lambda _: body.chunks.close())
        try:
            try:
                for chunk in chunks:
                    if chunk:
                        body.chunks.put(chunk, self._left(give_up))
                body.chunks.put(b"", self._left(give_up))
            except GoneError:
                # The answer, which came before the end of the file, says why.
                pass
            return _id(sent.result(self._left(give_up)))
        except (TimeoutError, OutcomeUnknownError):
            if deadline.remaining() <= MARGIN_SECONDS:
                raise errors.deadline_exceeded() from None
            raise unavailable() from None
        finally:
            sent.give_up()
            body.chunks.close()

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is not there is deleted."""
        self._gateway.ask(lambda client, options: _delete(client, file_id, options))

    def _left(self, give_up: float) -> float:
        return min(self._silent, give_up - time.monotonic())


class _Body:
    """What the SDK reads as a file: of unknown length, so it is sent in chunks, and read once."""

    def __init__(self, give_up: float) -> None:
        self.chunks: Handoff[bytes] = Handoff()
        self._give_up = give_up

    def read(self, _size: int = -1) -> bytes:
        # A caller may take its time between two chunks, within the whole.
        return self.chunks.take(self._give_up - time.monotonic())


def _send(client: openai.OpenAI, filename: str, body: _Body, silent: float) -> object:
    import openai  # noqa: PLC0415 - the gateway has, by now

    file: Any = (filename, body)
    return client.files.create(
        file=file,
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": KEPT_SECONDS},
        timeout=openai.Timeout(silent, connect=CONNECT_SECONDS),
    )


def _id(file: object) -> str:
    id = getattr(file, "id", None)
    if not isinstance(id, str) or re.fullmatch(r"[A-Za-z0-9_-]{1,128}", id) is None:
        raise unavailable()
    return id


def _delete(client: openai.OpenAI, file_id: str, options: dict[str, Any]) -> None:
    import openai  # noqa: PLC0415 - as above

    with suppress(openai.NotFoundError):
        client.files.delete(file_id, **options)
