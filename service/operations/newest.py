"""The newest changes, held once for all watches of a process."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from service.database.changes import Change
from service.operations.watch import size_of
from service.positions import Position

MAX_CHANGES = 20_000
MAX_BYTES = 16 * 1024 * 1024


class Reading(NamedTuple):
    """What became visible at once."""

    number: int
    position: Position
    changes: Sequence[Change]
    size: int


class Newest:
    """The newest readings that have changes. Guarded by the lock of its `Watches`."""

    def __init__(self) -> None:
        self.floor = 0
        """The number of the last reading of which nothing is held any more."""
        self._readings: list[Reading] = []
        self._count = self._size = 0
        self._heard: list[Change] = []
        """What has come of the reading that is going on."""
        self._heard_size = 0

    def last(self) -> int:
        """Return the number of the last reading that is held; 0 where none is."""
        return self._readings[-1].number if self._readings else 0

    def hear(self, changes: Sequence[Change], *, is_wanted: bool) -> None:
        self._heard_size += sum(map(size_of, changes))
        if is_wanted and len(self._heard) + len(changes) <= MAX_CHANGES and self._heard_size <= MAX_BYTES:
            self._heard += changes
        else:
            # A watch that is to be told of them reads them from the database again, in pages.
            self._heard = []
            self._heard_size = MAX_BYTES + 1

    def end_reading(self, number: int, position: Position) -> bool:
        """Hold what was heard, and return whether older readings were dropped to make room."""
        heard, size = self._heard, self._heard_size
        self.lose()
        if size > MAX_BYTES:
            self.forget(number)
        elif heard:
            self._readings.append(Reading(number, position, heard, size))
            self._count += len(heard)
            self._size += size
        floor = self.floor
        while len(self._readings) > 1 and (self._count > MAX_CHANGES or self._size > MAX_BYTES):
            self._drop(1)
        return self.floor > floor

    def between(self, number: int, last: int) -> Iterator[Reading]:
        for reading in self._readings[bisect_right(self._readings, number, key=attrgetter("number")) :]:
            if reading.number > last:
                return
            yield reading

    def drop_to(self, number: int) -> None:
        """Drop what all watches have been told."""
        self._drop(bisect_right(self._readings, number, key=attrgetter("number")))

    def lose(self) -> None:
        """Drop what has come of the reading that is going on."""
        self._heard, self._heard_size = [], 0

    def forget(self, number: int) -> None:
        """Drop all that is held up to a reading: it is read from the database again."""
        self._readings = []
        self._count = self._size = 0
        self.floor = number

    def _drop(self, count: int) -> None:
        for reading in self._readings[:count]:
            self._count -= len(reading.changes)
            self._size -= reading.size
            self.floor = reading.number
        del self._readings[:count]
