"""How long statements take, by the operation that executes them. Their texts are not told: values may be in them."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

DRAIN_AT = 256
"""The notes after which whoever makes another one counts them."""

Observer = Callable[[str, float, str | None], None]
"""Is told of each statement on its thread, as `note` is."""


class Sum(NamedTuple):
    """Statements of one name."""

    calls: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    """The seconds of the slowest one."""

    def plus(self, other: "Sum") -> "Sum":
        return Sum(self.calls + other.calls, self.seconds + other.seconds, max(self.slowest, other.slowest))


class Statements:
    """The statements of this process."""

    def __init__(self) -> None:
        # A note takes a tenth of what it takes to count.
        self._notes: deque[tuple[str, float]] = deque()
        self._lock = threading.Lock()
        self._totals: dict[str, Sum] = {}
        self._new: dict[str, Sum] = {}
        self._observer: Observer | None = None

    def observe(self, observer: Observer | None) -> None:
        """Have somebody told of each statement, or nobody."""
        self._observer = observer

    def note(self, name: str, seconds: float, error: str | None) -> None:
        """Take note of a statement that has ended, with the kind of its error; names are few, and ours."""
        self._notes.append((name, seconds))
        if len(self._notes) >= DRAIN_AT:
            with self._lock:
                self._drain()
        if self._observer is not None:
            self._observer(name, seconds, error)

    def totals(self) -> Mapping[str, Sum]:
        """Return all since the start of the process, by name."""
        with self._lock:
            self._drain()
            return dict(self._totals)

    def take(self) -> Mapping[str, Sum]:
        """Return all since it was last asked, by name."""
        with self._lock:
            self._drain()
            taken, self._new = self._new, {}
            return taken

    def give_back(self, taken: Mapping[str, Sum]) -> None:
        """Have the next `take` return these too."""
        with self._lock:
            _add(self._new, taken)

    def _drain(self) -> None:
        notes: dict[str, list[float]] = {}
        for _ in range(len(self._notes)):
            name, seconds = self._notes.popleft()
            notes.setdefault(name, []).append(seconds)
        noted = {name: Sum(len(each), sum(each), max(each)) for name, each in notes.items()}
        _add(self._totals, noted)
        _add(self._new, noted)


def _add(to: dict[str, Sum], those: Mapping[str, Sum]) -> None:
    for name, one in those.items():
        to[name] = to.get(name, Sum()).plus(one)


statements = Statements()
