"""What one caller may have of the connections: others do not wait until all calls of one are done."""

import threading
from queue import Empty, SimpleQueue

from service import deadline, errors

MAX_WAITING = 32
"""How many calls of one caller may wait for its share. Where several have many, it is fewer for each."""


class _Caller:
    """One who has calls that work or wait to."""

    def __init__(self, most: int) -> None:
        self.calls = 0
        self.permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self.permits.put(None)


class Shares:
    """Lets so many calls of each caller work at once, makes some more wait, and rejects the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.room = 2 * (most + MAX_WAITING)
        """How many calls may work or wait, of all callers that have more than their share. Some of it is always free: a
        caller may have as many calls as are left."""
        self._calls = 0
        self._callers: dict[str, _Caller] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> _Caller:
        """Begin to work for the caller; what is returned is given back at the end."""
        with self._lock:
            caller = self._callers.get(name)
            if caller is None:
                caller = self._callers[name] = _Caller(self._most)
            if caller.calls >= max(self._most, self.room - self._calls):
                raise errors.ResourceExhausted(
                    "OVERLOADED", "too many calls of this caller wait already", retry_seconds=1.0
                )
            caller.calls += 1
            self._calls += 1
        left = deadline.remaining()
        try:
            caller.permits.get(timeout=None if left == float("inf") else max(0.0, left))
        except Empty:
            self._end(name, caller)
            raise errors.deadline_exceeded() from None
        return caller

    def give(self, name: str, caller: _Caller) -> None:
        caller.permits.put(None)
        self._end(name, caller)

    def _end(self, name: str, caller: _Caller) -> None:
        with self._lock:
            caller.calls -= 1
            self._calls -= 1
            if not caller.calls:
                del self._callers[name]
