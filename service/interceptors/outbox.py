"""The messages of a callback stream on their way out. grpcio's callback waits until the reader has room for each."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager

from service.interceptors.interceptor import Send

MAX_MESSAGES = 1_000
MAX_BYTES = 1024 * 1024
"""What may wait behind the message that is being sent."""


class Outbox:
    """Sends the messages of one stream in order, on threads of a pool: whoever puts one in waits for nobody."""

    def __init__(
        self, pool: Executor, send: Send, sending: Callable[[], AbstractContextManager[None]], drop: Callable[[], None]
    ) -> None:
        self._pool, self._send, self._sending, self._drop = pool, send, sending, drop
        """`sending` is what each message is sent in; `drop` ends a stream whose reader is too slow."""
        self._lock = threading.Lock()
        self._queue: deque[bytes | None] = deque()
        self._bytes = 0
        self._is_busy = self._is_over = False

    def put(self, message: bytes | None) -> None:
        """Send a message when those before it have been, or end the stream with None; after its end, nothing."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = message is None
            self._queue.append(message)
            self._bytes += len(message or b"")
            is_full = len(self._queue) > MAX_MESSAGES or self._bytes > MAX_BYTES
            starts, self._is_busy = not self._is_busy, True
        if is_full:
            self._drop()
        if starts:
            self._pool.submit(self._drain)

    def close(self) -> None:
        """Forget what was not sent: the call is over."""
        with self._lock:
            self._is_over = True
            self._queue.clear()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._is_busy = False
                    return
                message = self._queue.popleft()
                self._bytes -= len(message or b"")
            try:
                with self._sending():
                    self._send(message)
            except Exception:
                self._drop()
                raise
