"""Encoded responses, kept until something they depend on changes. Stops serving when it may have missed a change."""

import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from cachetools import LRUCache

from service.positions import Position, Write
from service.tags import EVERYTHING

LIVE_SECONDS = 0.9
"""After how long without word from the database nothing is served from here."""
STALE_SECONDS = 600.0
"""How old a response may be that is served while the database is unreachable, to a caller that accepts it."""
AWAY_SECONDS = 0.5
"""How long a caller that accepts the last known response waits for a database that does not respond."""

_OVERHEAD = 600
"""The bytes that an entry takes beside its key, its response and its tags: measured, CPython 3.11."""
_OF_A_TAG = 100
"""The bytes that a tag takes, for each entry that has it."""
_MAX_CHANGES = 100_000
_MAX_STATES = 100_000

State = int | str | None

Seen = dict[str, State]
"""What a response depends on: the tag of each thing, and its state where that is known."""

_UNKEPT = "unkept"
"""Beside the tags of a response that is not to be kept."""

_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)


def saw(tag: str, state: State = None) -> None:
    """Record what the response that is being made depends on: one of `service.tags`, and its state where known."""
    seen = _seen.get()
    if seen is not None and (state is not None or tag not in seen):
        seen[tag] = state


def is_watched() -> bool:
    """Whether anybody asks what is seen. To name all that a response depends on takes longer than to find that out."""
    return _seen.get() is not None


def keep_none() -> None:
    """Have the response that is being made not kept."""
    saw(_UNKEPT)


@contextmanager
def watching() -> Iterator[Seen]:
    """Yield what is seen in the block."""
    seen: Seen = {}
    reset = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(reset)


class _Entry(NamedTuple):
    answer: bytes
    tags: tuple[str, ...]
    since: int
    """The number of changes known before it was read."""


class Figures(NamedTuple):
    """What a cache has done since it was made, and what it holds."""

    hits: int
    misses: int
    passed_by: int
    """Requests that wanted no response from here, or came while none could be trusted."""
    evictions: int
    entries: int
    bytes: int


class _Entries(LRUCache[Hashable, _Entry]):
    """Entries that count how many of them went for lack of room."""

    evictions = 0

    def popitem(self) -> tuple[Hashable, _Entry]:
        self.evictions += 1
        return super().popitem()


class Cache:
    """A bounded number of bytes of responses.

    Each change has a number. An entry is valid while none of its tags has changed since the number at which its reading
    began, so what was read before a change is never put back after it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries = _Entries(max_bytes, getsizeof=_size)
        self._hits = self._misses = self._passed_by = 0
        self._changed: dict[str, int] = {}
        self._states: LRUCache[str, State] = LRUCache(_MAX_STATES)
        self._changes = self._floor = 0
        self._confirmed = float("-inf")
        self._position: Position | None = None
        self._lock = threading.Lock()

    def is_live(self) -> bool:
        """Whether every change of the last moment is known here."""
        return self.seconds_behind() < LIVE_SECONDS

    def seconds_behind(self) -> float:
        """Return for how long changes may have been missed; infinity where it is not known."""
        return time.monotonic() - self._confirmed

    def confirm(self, moment: float, position: Position) -> None:
        """Record that every change up to this moment, on the clock of `time.monotonic`, and this position is known."""
        self._confirmed, self._position = moment, position

    def has_seen(self, write: Write) -> bool:
        """Whether what the transaction has changed is known here."""
        position = self._position
        return position is not None and position.epoch == write.epoch and position.snapshot.sees(write.transaction_id)

    def begin(self) -> int:
        """Return the number that `put` needs; call it before anything is read."""
        return self._changes

    def get(self, key: Hashable) -> bytes | None:
        """Return the response kept under the key, unless it has changed or may have."""
        if not self.is_live():
            self.pass_by()
            return None
        with self._lock:
            answer = self._get(key)
            if answer is None:
                self._misses += 1
            else:
                self._hits += 1
            return answer

    def pass_by(self) -> None:
        """Count a request that wants no response from here."""
        with self._lock:
            self._passed_by += 1

    def figures(self) -> Figures:
        with self._lock:
            entries = self._entries
            return Figures(
                self._hits, self._misses, self._passed_by, entries.evictions, len(entries), int(entries.currsize)
            )

    def last_known(self, key: Hashable) -> tuple[bytes, float] | None:
        """Return the response as it was when changes were last known, and how many seconds ago that was."""
        age = self.seconds_behind()
        with self._lock:
            answer = self._get(key) if age <= STALE_SECONDS else None
        return None if answer is None else (answer, age)

    def note(self, seen: Seen) -> None:
        """Treat a row seen in a new state as changed, without waiting to be told of it.

        A caller that has seen the new state never sees the old one after it.
        """
        with self._lock:
            changed = [
                tag for tag, state in seen.items() if state is not None and self._states.get(tag, state) != state
            ]
            self._states.update((tag, state) for tag, state in seen.items() if state is not None)
        self.change(changed)

    def put(self, key: Hashable, answer: bytes, seen: Seen, began: int) -> None:
        """Keep a response whose reading began then, unless something it depends on has changed meanwhile.

        One that depends on nothing is not kept: no change would ever end it.
        """
        entry = _Entry(answer, tuple(seen), began)
        if not seen or _UNKEPT in seen or not self.is_live():
            return
        if not self._is_good(entry) or _size(entry) > self._entries.maxsize:
            return
        with self._lock:
            self._entries[key] = entry

    def change(self, tags: Iterable[str]) -> None:
        """Forget what depends on any of these tags."""
        with self._lock:
            for tag in tags:
                self._changes += 1
                if tag == EVERYTHING or len(self._changed) >= _MAX_CHANGES:
                    self._forget()
                else:
                    self._changed[tag] = self._changes

    def start_over(self) -> None:
        """Forget everything: changes may have been missed."""
        with self._lock:
            self._confirmed, self._position = float("-inf"), None
            self._changes += 1
            self._forget()

    def _forget(self) -> None:
        self._floor = self._changes
        self._changed.clear()
        self._entries.clear()

    def _get(self, key: Hashable) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._is_good(entry):
            return entry.answer
        del self._entries[key]
        return None

    def _is_good(self, entry: _Entry) -> bool:
        changed = self._changed
        return entry.since >= self._floor and all(changed.get(tag, 0) <= entry.since for tag in entry.tags)


def _size(entry: _Entry) -> int:
    return len(entry.answer) + _OVERHEAD + _OF_A_TAG * len(entry.tags)
