"""What a thread of the gateway's has to do with the network: bounded, and ended by who does not wait any more."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

MOST_BYTES = 16 * 2**20
"""Of a response, or from one event of a stream to the next: twice the largest text that is read of a run."""

_of_thread = threading.local()


class Wire:
    """The connection that a thread works with, and how much it may still read."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._left = most
        # Whoever cuts it must not meet a connection that is somebody else's by now.
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_cut = False

    def run(self, work: Callable[[], T]) -> T:
        """Do something whose connection is this, on the current thread."""
        _of_thread.wire = self
        try:
            return work()
        finally:
            _of_thread.wire = None
            self.leave()

    def use(self, connection: socket.socket | None) -> bool:
        """Note what is read from or written to next; False once it is cut."""
        with self._lock:
            self._connection = connection
            return not self._is_cut

    def leave(self) -> None:
        """Note that the connection may be used by others."""
        with self._lock:
            self._connection = None

    def allow(self) -> None:
        """Begin to count anew."""
        self._left = self._most

    def count(self, size: int) -> bool:
        """Count what was read; False once it is too much."""
        self._left -= size
        return self._left >= 0

    def cut(self) -> None:
        """Wake the thread that waits for the network, and have it fail, as it does before its next step there."""
        with self._lock, suppress(OSError):
            self._is_cut = True
            if self._connection is not None:
                # Not the method of a TLS socket, which also takes away what the other thread is using.
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


def of_thread() -> Wire | None:
    return getattr(_of_thread, "wire", None)


class Asked(Generic[T]):
    """What a thread of the gateway's works on."""

    def __init__(self, future: Future[T], wire: Wire) -> None:
        self._future = future
        self._wire = wire

    def result(self, seconds: float | None = None) -> T:
        return self._future.result(seconds)

    def add_done_callback(self, call: Callable[[object], object]) -> None:
        self._future.add_done_callback(call)

    def cancel(self) -> bool:
        """Have it never begin; False if it has begun."""
        return self._future.cancel()

    def give_up(self) -> None:
        """End it, whatever it is doing: nobody waits for it any more."""
        if not self._future.done() and not self._future.cancel():
            self._wire.cut()
