"""The messages of a callback stream on their way out. grpcio's callback waits until the reader has room for each."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager

from service import errors
from service.interceptors.interceptor import Send

MAX_MESSAGES = 1_000
MAX_BYTES = 1024 * 1024
"""What may wait behind the message that is being sent."""
TURN = 8
"""How many messages of a stream are sent one after another while others wait for a thread."""


Message = bytes | errors.Error | Callable[[], bytes | None] | None


class Outbox:
    """Sends the messages of one stream in order, on threads of a pool: whoever puts one in waits for nobody."""

    def __init__(
        self, pool: Executor, send: Send, sending: Callable[[], AbstractContextManager[None]], drop: Callable[[], None]
    ) -> None:
        self._pool, self._send, self._sending, self._drop = pool, send, sending, drop
        """`sending` is what each message is sent in; `drop` ends a stream whose reader is too slow."""
        self._lock = threading.Lock()
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._is_busy = self._is_over = False

    def put(self, message: Message) -> None:
        """Send a message when those before it have been, or end the stream with None or an error.

        A function is called for one message after another until it returns None. After the end, nothing is sent.
        """
        with self._lock:
            if self._is_over:
                return
            self._is_over = message is None or isinstance(message, errors.Error)
            self._queue.append(message)
            self._bytes += _size(message)
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
        for _ in range(TURN):
            with self._lock:
                if not self._queue:
                    self._is_busy = False
                    return
                message = self._queue[0]
            is_source = callable(message)
            try:
                made = message() if callable(message) else message
                if made is not None or not is_source:
                    with self._sending():
                        self._send(made)
            except Exception:
                self._drop()
                raise
            if made is None or not is_source:
                with self._lock:
                    # It is empty where the call was over meanwhile.
                    if self._queue:
                        self._bytes -= _size(self._queue.popleft())
        # Others have their turn.
        self._pool.submit(self._drain)


def _size(message: Message) -> int:
    return len(message) if isinstance(message, bytes) else 0
