"""What OpenAI tells over one connection, of which whoever listens can let go at any time."""

from __future__ import annotations

import socket
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
    streams: list[openai.Stream[Any]] = []
    reading = gateway.submit(lambda client: _hand_on(open_(client), streams, told, silent_seconds))
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
        if not reading.done():
            for stream in streams:
                _break(stream)


def _hand_on(
    stream: openai.Stream[Any], streams: list[openai.Stream[Any]], told: Handoff[object], seconds: float
) -> None:
    streams.append(stream)
    with stream, suppress(GoneError):
        for thing in stream:
            told.put(thing, seconds)


def _break(stream: openai.Stream[Any]) -> None:
    """Wake the thread that waits for more of it."""
    connection = stream.response.extensions["network_stream"].get_extra_info("socket")
    with suppress(OSError):
        # Not the method of a TLS socket, which also takes away what the other thread is using.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
