"""What goes wrong, and when."""

import random
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto


class Fault(Enum):
    # These happen instead of what was asked for.
    RATE_LIMITED = auto()
    """429, and a Retry-After."""
    SERVER_ERROR = auto()
    BUSY = auto()
    """503, and a Retry-After."""
    SILENT = auto()
    """The connection is taken, and nothing is ever said."""
    CUT = auto()
    """The body ends before its length."""
    TRUNCATED = auto()
    """A complete body of half a JSON."""
    UNAUTHORIZED = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    GONE = auto()
    """410, as for an API that has ended."""
    DRIPPING = auto()
    """A byte a second, each soon enough for a timeout of reads."""
    REDIRECT = auto()
    """To `redirect_to`."""
    BROKEN = auto()
    """The connection is cut while the request is being sent."""
    TOO_OLD = auto()
    """400, as for a run that is more than five minutes old and is to be streamed."""

    # These happen to the answer: what was asked for is done.
    LOST = auto()
    """The connection is cut instead of an answer."""
    BAD_GATEWAY = auto()
    """502, and a page of a proxy."""
    SLOW = auto()
    """The answer begins `slow_seconds` later."""
    CUT_STREAM = auto()
    """The connection is cut after `events` events; after any number of them, if that is None."""
    SILENT_STREAM = auto()
    """Nothing more is said after `events` events, as above."""
    MUTED_STREAM = auto()
    """The stream ends after `events` events, as above, as if it were complete."""

    # These happen to a run, and are told in its answer.
    FAILED = auto()
    INCOMPLETE = auto()
    NO_JSON = auto()
    """The text is prose, whatever the schema."""


INSTEAD = frozenset(Fault) - {
    Fault.LOST,
    Fault.BAD_GATEWAY,
    Fault.SLOW,
    Fault.CUT_STREAM,
    Fault.SILENT_STREAM,
    Fault.MUTED_STREAM,
    Fault.FAILED,
    Fault.INCOMPLETE,
    Fault.NO_JSON,
}


class Faults:
    """Says for each request what goes wrong with it: what was set for all, then what is next, then what chance has."""

    def __init__(self) -> None:
        self.all: Fault | None = None
        self.next: deque[Fault] = deque()
        """Of one request each."""
        self.events: int | None = 1
        self.retry_after = "7"
        self.slow_seconds = 0.5
        self.silent_seconds = 60.0
        self.only = ""
        """How the method and path begin of requests that something goes wrong with: `POST /v1/responses`."""
        self._chances: Mapping[Fault, float] = {}
        self._random = random.Random(0)
        self._lock = threading.Lock()

    def by_chance(self, seed: int, chances: Mapping[Fault, float]) -> None:
        """Have each request meet each of these faults with its probability."""
        with self._lock:
            self._random, self._chances = random.Random(seed), dict(chances)

    def of(self, request: str) -> Fault | None:
        """Return what goes wrong with a request, by its method and path."""
        if not request.startswith(self.only):
            return None
        with self._lock:
            if self.all is not None:
                return self.all
            if self.next:
                return self.next.popleft()
            chance = self._random.random()
            for fault, probability in self._chances.items():
                chance -= probability
                if chance < 0:
                    return fault
            return None

    def after(self, count: int) -> int:
        """Return after how many of so many events a stream goes wrong."""
        with self._lock:
            return self._random.randint(0, count) if self.events is None else min(self.events, count)

    @contextmanager
    def failing(self, fault: Fault, only: str = "") -> Iterator[None]:
        self.all, self.only = fault, only
        try:
            yield
        finally:
            self.all, self.only = None, ""
