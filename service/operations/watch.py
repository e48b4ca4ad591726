"""One stream of changes: what its caller asks for and may see, and how far it has been told."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from service import errors
from service.actor import Actor
from service.database.backlog import Backlog
from service.database.changes import Change
from service.operations.sight import Sight
from service.positions import Position
from service.tags import EVERYTHING

_OVERHEAD_BYTES = 600


class Filter(NamedTuple):
    """What a watch asks for; what is empty filters nothing."""

    kinds: frozenset[str]
    organization_id: str
    resource_ids: frozenset[str]

    def wants(self, change: Change) -> bool:
        if self.kinds and change.kind not in self.kinds:
            return False
        if change.resource_id == EVERYTHING:
            return True
        if self.organization_id and change.organization_id != self.organization_id:
            return False
        return not self.resource_ids or change.resource_id in self.resource_ids


class Told(NamedTuple):
    """A message of a watch."""

    changes: Sequence[Change]
    position: Position | None
    """Up to where all is told; None where more of the same follows, or it is not known."""
    is_behind: bool = False


class Watch:
    """One stream. All but `next` is guarded by the lock of its `Watches`."""

    def __init__(
        self,
        take: Callable[["Watch"], Told | None],
        actor: Actor,
        filter: Filter,
        seen: Sight,
        *,
        since: Position | None,
        heartbeat: float,
        wake: Callable[[], None],
        end: Callable[[errors.Error], None],
    ) -> None:
        self._take = take
        self.filter = filter
        self.sight = seen
        self.actor = actor
        self.since = since
        """Where it goes on from, until it has a place among the newest changes."""
        self.heartbeat = heartbeat
        self.wake, self.end = wake, end
        """Has `next` be called until it returns None, on another thread; ends the stream."""
        self.number = 0
        """Of the last reading that is told or queued; 0 for a watch that has no place yet."""
        self.backlog: Backlog | None = None
        self.queue: deque[Change] = deque()
        self.size = 0
        """Of the queue, as long as it is a page of the backlog."""
        self.position = since
        """Up to where all is told when the queue is empty; None where it is not known, or more follows."""
        self.is_woken = False
        """Whether `next` will be called, or is."""
        self.is_asked = False
        """Whether a page of the backlog is asked for."""
        self.is_due = True
        """Whether there is to be a message, also without changes: the first is due at once."""
        self.is_behind = False
        self.is_over = False
        self.told_at = self.opened_at = time.monotonic()
        self.ends = actor.ends

    def next(self) -> Told | None:
        """Return the next message, or None when there is nothing to say."""
        return self._take(self)

    def wanted(self, changes: Iterable[Change]) -> tuple[list[Change], bool]:
        """Return what the watch is told of these, or whether its caller may see something else since one of them."""
        found: list[Change] = []
        for change in changes:
            if self.sight.is_outdated_by(change):
                return [], True
            if self.since is not None and self.since.snapshot.sees(change.transaction_id):
                continue
            if self.filter.wants(change) and self.sight.sees(change):
                found.append(change)
        return found, False


def size_of(change: Change) -> int:
    return len(change.before or "") + len(change.after or "") + _OVERHEAD_BYTES


def position_of(token: str) -> Position:
    try:
        return Position.of(token)
    except ValueError:
        raise errors.field_invalid(("resume_token", "must be the resume_token of a response")) from None
