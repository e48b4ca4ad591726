"""One thing at a time from a thread to another, either of which may go away."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class GoneError(Exception):
    """The other side has gone away, and left nothing."""


class Handoff(Generic[T]):
    """Holds one thing, which whoever has made it cannot follow with another before it is taken."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[T] = []
        self._is_closed = False

    def put(self, thing: T, seconds: float) -> None:
        """Wait until there is room, at most for so long: GoneError, or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_closed or not self._held, max(0.0, seconds)):
                raise TimeoutError
            if self._is_closed:
                raise GoneError
            self._held.append(thing)
            self._changed.notify_all()

    def take(self, seconds: float) -> T:
        """Wait until there is something, at most for so long: GoneError, or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_closed or self._held, max(0.0, seconds)):
                raise TimeoutError
            if not self._held:
                raise GoneError
            self._changed.notify_all()
            return self._held.pop()

    def close(self) -> None:
        """Go away. What is held can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
