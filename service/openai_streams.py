"""What OpenAI tells over one connection, of which whoever listens can let go at any time."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from service.handoff import GoneError, Handoff
from service.openai_gateway import Gateway, unavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    import openai

LOOK_SECONDS = 0.2
"""How soon it ends once it is stopped."""


def read(
    gateway: Gateway,
    open_: Callable[[openai.OpenAI], openai.Stream[Any]],
    stopped: threading.Event,
    silent_seconds: float,
    grace_seconds: float = 0.0,
) -> Generator[object]:
    """Yield what comes until it ends, or `stopped` is set; TimeoutError after so many seconds of silence.

    Something that comes first is waited for although `stopped` is set, for `grace_seconds`. A thread of the gateway's
    waits for the connection, and this one for that thread, so nothing below delays it. Errors are those of `submit`.
    """
    told: Handoff[object] = Handoff()
    reading = gateway.submit(lambda client: _hand_on(open_(client), told, silent_seconds))
    reading.add_done_callback(lambda _: told.close())
    try:
        heard = time.monotonic()
        while not stopped.is_set() or (grace_seconds := grace_seconds - LOOK_SECONDS) > 0:
            try:
                thing = told.take(LOOK_SECONDS)
            except TimeoutError:
                if time.monotonic() - heard >= silent_seconds:
                    break
            except GoneError:
                reading.result()
                return
            else:
                yield thing
                heard, grace_seconds = time.monotonic(), 0.0
        if reading.cancel():
            # It was never sent: all threads were busy.
            raise unavailable()
        if not stopped.is_set():
            raise TimeoutError
    finally:
        told.close()
        reading.give_up()


def _hand_on(stream: openai.Stream[Any], told: Handoff[object], seconds: float) -> None:
    with stream, suppress(GoneError):
        for thing in stream:
            told.put(thing, seconds)
