"""Streams end: after their longest time, and when the server drains."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from service import errors
from service.interceptors.interceptor import Interceptor, Send, behaviour_of, is_callback, is_stream, like

CHECK_SECONDS = 1.0
"""How often streams are checked, and how long one whose time is up has to end by itself."""
DRAIN_SECONDS = 2.0
"""For how long streams end, where a server drains that has a hundred of them or more."""
SPREAD = 0.1
"""The longest time varies by this part of it, so that streams opened together do not end together."""


class _Stream:
    """A stream that is open."""

    def __init__(self, context: Any, send: Send | None, seconds: float) -> None:
        self._context = context
        self._send = send
        """Of a callback stream. Any other ends itself, at its next message."""
        self._lock = threading.Lock()
        self._is_over = False
        self.ends = time.monotonic() + seconds

    def send(self, message: Any) -> None:
        """Send a message of a callback stream, or end it; after its end, nothing."""
        with self._lock:
            if self._is_over or self._send is None:
                return
            self._is_over = message is None or isinstance(message, errors.Error)
        self._send(message)

    def end(self) -> None:
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if self._send is None:
            if was_over:
                # Since the last time it has waited for a message, or for something else.
                self._context.cancel()
        elif not was_over:
            self._send(_ended())

    def until_over(self, messages: Iterable[Any]) -> Iterator[Any]:
        """Yield messages until the stream is to end."""
        for message in messages:
            if self._is_over:
                raise _ended()
            yield message


class Streams(Interceptor):
    """Bounds every call with a stream on one of its sides. A thread looks for those whose time is up."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest = longest_seconds
        self._open: set[_Stream] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End all streams, one after another: their callers all open another one elsewhere.

        Those that do not notice are cancelled with the calls that outlast the drain.
        """
        self._stopped.set()
        streams = self._all()
        pause = threading.Event()
        for stream in streams:
            stream.end()
            pause.wait(DRAIN_SECONDS / max(len(streams), 100))

    def wraps(self, method: str) -> bool:
        # Health ends its own. A stream of reflection may go on asking for as long as it likes.
        return "ServerReflection" in method or super().wraps(method)

    def wrap(self, method: str, handler: Any) -> Any:
        del method
        if not is_stream(handler):
            return handler
        behaviour = behaviour_of(handler)

        def callback(request: Any, context: grpc.ServicerContext, send_response_callback: Send) -> None:
            stream = self._opened(context, send_response_callback)
            behaviour(stream.until_over(request) if handler.request_streaming else request, context, stream.send)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._held(context) as held:
                messages = held.until_over(request) if handler.request_streaming else request
                yield from held.until_over(behaviour(messages, context))

        def answer(requests: Any, context: grpc.ServicerContext) -> Any:
            with self._held(context) as held:
                return behaviour(held.until_over(requests), context)

        if is_callback(handler):
            return like(handler, callback)
        return like(handler, stream if handler.response_streaming else answer)

    @contextmanager
    def _held(self, context: grpc.ServicerContext) -> Iterator[_Stream]:
        """Bound a stream that holds its thread."""
        stream = self._opened(context, None)
        try:
            yield stream
        finally:
            self._closed(stream)

    def _opened(self, context: grpc.ServicerContext, send: Send | None) -> _Stream:
        seconds = self._longest * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
        stream = _Stream(context, send, seconds)
        with self._lock:
            self._open.add(stream)
        if self._stopped.is_set() or not context.add_callback(lambda: self._closed(stream)):
            self._closed(stream)
            raise _ended()
        return stream

    def _closed(self, stream: _Stream) -> None:
        with self._lock:
            self._open.discard(stream)

    def _all(self) -> list[_Stream]:
        with self._lock:
            return list(self._open)

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            now = time.monotonic()
            for stream in self._all():
                if now >= stream.ends:
                    stream.end()


def _ended() -> errors.Unavailable:
    return errors.Unavailable("STREAM_ENDED", "the stream has lasted its longest, or the server drains; open another")
