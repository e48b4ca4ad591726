"""Watches: streams of changes, told from memory where the feed has just read them, and from the database otherwise.

Nothing here waits for a reader. A watch is woken, and asked for its next message whenever its reader has room for one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from service import errors
from service.actor import Actor
from service.cache import LIVE_SECONDS
from service.database.backlog import Backlog
from service.database.changes import Change
from service.operations import rights, sight
from service.operations.backlogs import Backlogs
from service.operations.newest import Newest
from service.operations.watch import Filter, Told, Watch, position_of, size_of
from service.positions import Position

MAX_CHANGES = 500
MAX_BYTES = 1024 * 1024
"""What one message has at most, unless a single change is larger."""
TICK_SECONDS = 0.1
UNKNOWN_SECONDS = 5.0
"""After how long a token is given up that has seen what this process has not: nobody made it, or a crash undid it."""
PACE_SECONDS = 0.0008
"""How long each open watch puts the others off: what changes meanwhile is told together."""
TURN = 4
"""How many watches are told one after another. Those after them wait, so that calls are not held up by all of them."""
_READINGS = 10_000


class Watches:
    """All watches of a process. It hears of changes from the feed, and is a part of the server."""

    def __init__(self, url: str, *, hours: int) -> None:
        self._longest = timedelta(hours=hours)
        self._lock = threading.Lock()
        self.hurry: Callable[[], None] = lambda: None
        """Has changes be read at once, so that a new watch begins now and not a moment ago."""
        self._open: dict[Watch, None] = {}
        """In the order in which they are told."""
        self._beginning: set[Watch] = set()
        """Those that have no place yet."""
        self._newest = Newest()
        """As far as some watch is still to be told of them."""
        self._number = 0
        """Of the last reading."""
        self._recent: deque[tuple[int, Position, float]] = deque(maxlen=_READINGS)
        """Readings that may become safe, and when they began."""
        self._safe: tuple[int, Position] | None = None
        self._safe_at = float("-inf")
        self._told_number = self._begun_number = 0
        """Up to where all watches were given their turn, and those that begin."""
        self._read_at = float("-inf")
        self._is_stopped = False
        self._news = threading.Condition(self._lock)
        self._backlogs = Backlogs(url, self._lock, self._take_page, lambda watch: self._end(watch, _expired()))
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._backlogs.start()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._news.notify()
            self._backlogs.stop()
        self._thread.join(5)
        self._backlogs.join(5)

    def count(self) -> int:
        return len(self._open)

    # What the feed calls.

    def start_over(self, *, missed: bool) -> None:
        with self._lock:
            if not missed:
                return
            # What was told may never have been; who resumes learns whether its token still counts.
            self._newest.lose()
            self._newest.forget(self._number)
            self._recent.clear()
            self._safe = None
            for watch in [watch for watch in self._open if watch.number]:
                self._end(watch, errors.Unavailable("STREAM_ENDED", "changes may have been missed; resume the stream"))

    def change(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._newest.hear(changes, is_wanted=bool(self._open))

    def confirm(self, moment: float, position: Position, safe: Position | None) -> None:
        with self._lock:
            self._read_at = moment
            self._number += 1
            if self._newest.end_reading(self._number, position):
                for watch in [watch for watch in self._open if 0 < watch.number < self._newest.floor and watch.queue]:
                    self._end(watch, errors.ResourceExhausted("WATCH_TOO_SLOW", "the caller reads too slowly; resume"))
            self._recent.append((self._number, position, moment))
            if safe is not None and any(safe is recent for _, recent, _ in self._recent):
                while self._safe is None or self._safe[1] is not safe:
                    number, recent, self._safe_at = self._recent.popleft()
                    self._safe = number, recent
            self._news.notify()

    def awaits_flush(self) -> bool:
        return bool(self._beginning) or self._newest.last() > (self._safe[0] if self._safe else 0)

    # What a stream calls.

    def open(
        self,
        actor: Actor,
        filter: Filter,
        *,
        token: str,
        heartbeat: float,
        wake: Callable[[Watch], None],
        end: Callable[[errors.Error], None],
    ) -> Watch:
        """Begin to tell changes, of those that the actor may see; `wake` is called with the watch."""
        seen = sight.of(actor)
        if filter.organization_id and not seen.sees_all:
            rights.read_organization(actor, filter.organization_id)
        watch = Watch(
            self.next,
            actor,
            filter,
            seen,
            since=position_of(token) if token else None,
            heartbeat=heartbeat,
            wake=lambda: wake(watch),
            end=end,
        )
        with self._lock:
            self._open[watch] = None
            self._beginning.add(watch)
            self._wake(watch)
        self.hurry()
        return watch

    def close(self, watch: Watch) -> None:
        """Forget a stream that is over."""
        with self._lock:
            watch.is_over = True
            self._open.pop(watch, None)
            self._beginning.discard(watch)
            self._backlogs.release(watch)
            watch.queue.clear()

    def next(self, watch: Watch) -> Told | None:
        with self._lock:
            told = None if watch.is_over else self._next(watch)
            watch.is_woken = told is not None
            if told is not None:
                watch.is_due, watch.told_at = False, time.monotonic()
            return told

    # Under the lock.

    def _next(self, watch: Watch) -> Told | None:
        if watch.queue:
            return self._of_queue(watch)
        if watch.is_behind:
            # Said once; the next message comes when the log is read again.
            return Told((), None, is_behind=True) if watch.is_due else None
        if not watch.number:
            return self._begin(watch)
        if self._fill(watch):
            return self._of_queue(watch)
        return Told((), watch.position) if watch.is_due and not watch.is_over else None

    def _begin(self, watch: Watch) -> Told | None:
        """Give a watch its place, and return its first message: from where on everything will be told."""
        if self._safe is None:
            return None
        number, position = self._safe
        if watch.since is None:
            if self._safe_at < watch.opened_at:
                return None
            watch.number, watch.position = number, position
            self._beginning.discard(watch)
            return Told((), position)
        if not position.is_comparable(watch.since) or watch.since.time < position.time - self._longest:
            self._end(watch, _expired())
            return None
        if watch.is_due:
            return Told((), watch.since)
        # What the token has seen, the process is about to see.
        if position.snapshot.covers(watch.since.snapshot):
            self._catch_up(watch, watch.since, self._safe)
        elif self._safe_at > watch.opened_at + UNKNOWN_SECONDS:
            self._end(watch, _expired())
        return None

    def _catch_up(self, watch: Watch, since: Position, safe: tuple[int, Position]) -> None:
        """Have what follows read from the database."""
        watch.number, until = safe
        self._beginning.discard(watch)
        watch.backlog = Backlog(since, until, self._longest)
        watch.position = None
        self._backlogs.ask(watch)

    def _fill(self, watch: Watch) -> bool:
        """Queue the next changes that the watch is told, and return whether there are any."""
        if watch.backlog is not None:
            # Its reader has room: nothing is read for one that has not taken what came before.
            self._backlogs.ask(watch)
            return False
        if self._safe is None or watch.number >= self._safe[0]:
            return False
        if watch.number < self._newest.floor and watch.position is not None:
            self._catch_up(watch, watch.position, self._safe)
            return False
        self._collect(watch, self._safe)
        return bool(watch.queue)

    def _collect(self, watch: Watch, safe: tuple[int, Position]) -> None:
        size = 0
        for reading in self._newest.between(watch.number, safe[0]):
            wanted, is_outdated = watch.wanted(reading.changes)
            if is_outdated:
                # What comes before is told first.
                if not watch.queue:
                    self._end(watch, _outdated())
                return
            if watch.queue and (len(watch.queue) + len(wanted) > MAX_CHANGES or size + reading.size > MAX_BYTES):
                return
            watch.queue += wanted
            size += reading.size
            watch.number, watch.position = reading.number, reading.position
        if not watch.queue:
            watch.number, watch.position = safe

    def _of_queue(self, watch: Watch) -> Told:
        size = 0
        changes: list[Change] = []
        while watch.queue and len(changes) < MAX_CHANGES:
            size += size_of(watch.queue[0])
            if changes and size > MAX_BYTES:
                break
            changes.append(watch.queue.popleft())
        if watch.queue:
            return Told(changes, None)
        self._backlogs.release(watch)
        return Told(changes, watch.position)

    def _wake(self, watch: Watch) -> None:
        if not (watch.is_woken or watch.is_over):
            watch.is_woken = True
            watch.wake()

    def _end(self, watch: Watch, error: errors.Error) -> None:
        if not watch.is_over:
            watch.is_over = True
            self._open.pop(watch, None)
            self._beginning.discard(watch)
            watch.end(error)

    def _take_page(self, watch: Watch, page: Sequence[Change], is_last: bool) -> None:
        wanted, is_outdated = watch.wanted(page)
        if is_outdated:
            self._end(watch, _outdated())
            return
        self._backlogs.keep(watch, wanted)
        if is_last and watch.backlog is not None:
            watch.position, watch.backlog = watch.backlog.until, None
            # What the token has seen is seen from there.
            watch.since = None
            # Also where there is nothing to tell: how far that was.
            watch.is_due = True
        elif not wanted:
            self._backlogs.ask(watch)
        self._wake(watch)

    # The thread.

    def _run(self) -> None:
        """Wake the watches that have something to say, a few at a time and each in its turn."""
        turns: deque[Watch] = deque()
        next_turn = next_tick = 0.0
        while True:
            with self._lock:
                if self._is_stopped:
                    return
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + TICK_SECONDS
                    self._tick(now)
                self._wake_beginning()
                if not turns and now >= next_turn:
                    turns = self._next_turns()
                if not turns or now < next_turn:
                    self._news.wait((min(next_turn, next_tick) if now < next_turn else next_tick) - now)
                    continue
                chunk = [turns.popleft() for _ in range(min(TURN, len(turns)))]
            next_turn = now + PACE_SECONDS * len(chunk)
            for watch in chunk:
                # Nobody waits for all of them.
                with self._lock:
                    if not watch.is_woken and not watch.is_over and self._fill(watch):
                        self._wake(watch)
            if not turns:
                with self._lock:
                    # What all watches have been told is dropped.
                    placed = (watch.number for watch in self._open if watch.number)
                    self._newest.drop_to(min(placed, default=self._told_number))

    def _wake_beginning(self) -> None:
        """Have those that begin look for their place once more, when more is safe."""
        if self._safe is not None and self._safe[0] > self._begun_number:
            self._begun_number = self._safe[0]
            for watch in list(self._beginning):
                self._wake(watch)

    def _next_turns(self) -> deque[Watch]:
        """Return the watches that may have something to say since this was last asked."""
        if self._safe is None or self._safe[0] <= self._told_number:
            return deque()
        is_new = self._newest.last() > 0 or self._newest.floor > self._told_number
        self._told_number = self._safe[0]
        return deque(watch for watch in self._open if watch not in self._beginning) if is_new else deque()

    def _tick(self, now: float) -> None:
        is_behind = now - self._read_at > LIVE_SECONDS
        for watch in list(self._open):
            if now >= watch.ends:
                is_key = watch.actor.api_key_id is not None
                self._end(watch, errors.Unauthenticated("key_over" if is_key else "session_expired"))
            elif is_behind != watch.is_behind or (not is_behind and now >= watch.told_at + watch.heartbeat):
                watch.is_behind, watch.is_due = is_behind, True
                self._wake(watch)


def _outdated() -> errors.Unavailable:
    """Return what ends a watch whose caller is to be looked up again."""
    return errors.Unavailable("STREAM_ENDED", "what the caller may read has changed; resume the stream")


def _expired() -> errors.OutOfRange:
    return errors.OutOfRange("RESUME_TOKEN_EXPIRED", "what followed is not known any more; begin without a token")
