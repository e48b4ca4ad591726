"""Where somebody is in the log of changes: which transactions can be seen from there. Also as tokens, for callers."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_ID = 2**63 - 1


class Snapshot(NamedTuple):
    """A snapshot of PostgreSQL's: which transactions had ended when it was taken."""

    first_running: int
    """All below it had ended."""
    end: int
    """This one and all above it had not begun."""
    running: frozenset[int]

    @classmethod
    def of(cls, text: str) -> "Snapshot":
        """Read a snapshot as PostgreSQL spells it; ValueError for anything else."""
        first, end, running = text.split(":")
        return cls(int(first), int(end), frozenset(map(int, running.split(","))) if running else frozenset())

    def sees(self, transaction_id: int) -> bool:
        """Whether what the transaction did is seen from here, if it did not roll back."""
        return transaction_id < self.end and transaction_id not in self.running

    def covers(self, other: "Snapshot") -> bool:
        """Whether all that is seen from the other is seen from here."""
        return self.end >= other.end and not any(map(other.sees, self.running))

    def is_possible(self) -> bool:
        """Whether PostgreSQL could have taken it: it reads no other ids than these."""
        first, end, running = self
        return 0 <= first <= end <= _MAX_ID and all(first <= id < end for id in running)

    def __str__(self) -> str:
        return f"{self.first_running}:{self.end}:{','.join(map(str, sorted(self.running)))}"


class Position(NamedTuple):
    """A snapshot, of one log.

    A number would not do: transactions become visible in another order than they began, or wrote, or got their ids.
    """

    epoch: str
    timeline: str
    """Of the cluster. Where another server takes over, transaction ids are given out again."""
    snapshot: Snapshot
    time: datetime
    """By the database's clock. What was committed before is seen."""

    def is_comparable(self, other: "Position") -> bool:
        """Whether the other one is of the same log, and its snapshot says the same of a transaction id."""
        return (self.epoch, self.timeline) == (other.epoch, other.timeline)

    def token(self) -> str:
        micros = (self.time - _EPOCH) // _MICROSECOND
        return _encoded("p", self.epoch, self.timeline, str(micros), str(self.snapshot))

    @classmethod
    def of(cls, token: str) -> "Position":
        """Read a token; ValueError for one that `token` does not make."""
        epoch, timeline, micros, snapshot = _decoded("p", token)
        try:
            position = cls(epoch, timeline, Snapshot.of(snapshot), _EPOCH + int(micros) * _MICROSECOND)
        except OverflowError:
            raise ValueError(token) from None
        if position.token() != token or not position.snapshot.is_possible():
            raise ValueError(token)
        return position


class Write(NamedTuple):
    """A transaction that has written, of one log."""

    epoch: str
    transaction_id: int

    def token(self) -> str:
        return _encoded("w", self.epoch, str(self.transaction_id))

    @classmethod
    def of(cls, token: str) -> "Write":
        """Read a token; ValueError for one that `token` does not make."""
        epoch, transaction_id = _decoded("w", token)
        write = cls(epoch, int(transaction_id))
        if write.token() != token:
            raise ValueError(token)
        return write


def _encoded(kind: str, *parts: str) -> str:
    return urlsafe_b64encode("/".join([kind, *parts]).encode()).decode().rstrip("=")


def _decoded(kind: str, token: str) -> list[str]:
    """Return the parts of a token of that kind; ValueError for anything else."""
    found, *parts = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4)).decode().split("/")
    if found != kind:
        raise ValueError(token)
    return parts
