"""Where somebody is in the log of changes: which transactions can be seen from there."""

from typing import NamedTuple


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
