"""Watches: streams of changes, told from memory where the feed has just read them, and from the database otherwise.

Nothing here waits for a reader. A watch is woken, and asked for its next message whenever its reader has room for one.
"""

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import NamedTuple

from service import errors
from service.actor import Actor
from service.cache import LIVE_SECONDS
from service.database.backlog import Backlog, Reader
from service.database.changes import Change, GapError
from service.operations import rights, sight
from service.operations.watch import Filter, Told, Watch, size_of
from service.positions import Position

MAX_CHANGES = 500
MAX_BYTES = 1024 * 1024
"""What one message has at most, unless a single change is larger."""
MAX_HELD = 20_000
MAX_HELD_BYTES = 16 * 1024 * 1024
"""What is kept of the newest changes, for all watches together. A watch that falls behind that is ended."""
MAX_PAGES_BYTES = 32 * 1024 * 1024
"""What is read from the database for watches and not sent yet, from which on no more is read."""
TICK_SECONDS = 0.1
PACE_SECONDS = 0.0005
"""How long each open watch puts the next telling off: what changes meanwhile is told together."""
PAUSE_SECONDS = 0.2
_READINGS = 10_000


class _Reading(NamedTuple):
    """What became visible at once."""

    number: int
    position: Position
    changes: Sequence[Change]
    size: int


class Watches:
    """All watches of a process. It hears of changes from the feed, and is a part of the server."""

    def __init__(self, url: str, *, hours: int) -> None:
        self._longest = timedelta(hours=hours)
        self._reader = Reader(url)
        self._lock = threading.Lock()
        self.hurry: Callable[[], None] = lambda: None
        """Has changes be read at once, so that a new watch begins now and not a moment ago."""
        self._open: set[Watch] = set()
        self._beginning: set[Watch] = set()
        """Those that have no place yet."""
        self._held: list[_Reading] = []
        """The newest readings that have changes, as far as some watch is still to be told of them."""
        self._held_count = self._held_size = 0
        self._heard: list[Change] = []
        self._heard_size = 0
        self._number = self._floor = 0
        """Of the last reading, and the last one of which nothing is held any more."""
        self._recent: deque[tuple[int, Position, float]] = deque(maxlen=_READINGS)
        """Readings that may become safe, and when they began."""
        self._safe: tuple[int, Position] | None = None
        self._safe_at = float("-inf")
        self._told_number = 0
        self._alike: dict[object, tuple[Sequence[Change], int, Position | None]] = {}
        """What watches are told next that see everything, by where they are and what they ask for."""
        self._read_at = float("-inf")
        self._wanting: deque[Watch] = deque()
        """Those that wait for a page of their backlog."""
        self._pages_size = 0
        self._is_stopped = False
        self._news = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("watches", self._run), ("backlogs", self._read))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._news.notify_all()
            self._work.notify_all()
        for thread in self._threads:
            thread.join(5)

    def count(self) -> int:
        return len(self._open)

    # What the feed calls.

    def start_over(self, *, missed: bool) -> None:
        with self._lock:
            if not missed:
                return
            # What was told may never have been; who resumes learns whether its token still counts.
            self._heard, self._heard_size = [], 0
            self._recent.clear()
            self._safe = None
            self._forget()
            for watch in [watch for watch in self._open if watch.number]:
                self._end(watch, errors.Unavailable("STREAM_ENDED", "changes may have been missed; resume the stream"))

    def change(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._heard_size += sum(map(size_of, changes))
            if self._open and len(self._heard) + len(changes) <= MAX_HELD and self._heard_size <= MAX_HELD_BYTES:
                self._heard += changes
            else:
                # A watch that is to be told of them reads them from the database again, in pages.
                self._heard = []
                self._heard_size = MAX_HELD_BYTES + 1

    def confirm(self, moment: float, position: Position, safe: Position | None) -> None:
        with self._lock:
            self._read_at = moment
            self._number += 1
            if self._heard_size > MAX_HELD_BYTES:
                self._forget()
            elif self._heard:
                self._held.append(_Reading(self._number, position, self._heard, self._heard_size))
                self._held_count += len(self._heard)
                self._held_size += self._heard_size
                self._require_room()
            self._heard, self._heard_size = [], 0
            self._recent.append((self._number, position, moment))
            if safe is not None and any(safe is recent for _, recent, _ in self._recent):
                while self._safe is None or self._safe[1] is not safe:
                    number, recent, self._safe_at = self._recent.popleft()
                    self._safe = number, recent
            self._news.notify()

    def awaits_flush(self) -> bool:
        return bool(self._beginning) or (
            bool(self._held) and (self._safe is None or self._held[-1].number > self._safe[0])
        )

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
            since=_position(token) if token else None,
            heartbeat=heartbeat,
            wake=lambda: wake(watch),
            end=end,
        )
        with self._lock:
            self._open.add(watch)
            self._beginning.add(watch)
            self._wake(watch)
        self.hurry()
        return watch

    def close(self, watch: Watch) -> None:
        """Forget a stream that is over."""
        with self._lock:
            watch.is_over = True
            self._open.discard(watch)
            self._beginning.discard(watch)
            self._pages_size -= watch.size
            watch.size = 0
            watch.queue.clear()
            # There may be room for another page now.
            self._work.notify()

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
        return None

    def _catch_up(self, watch: Watch, since: Position, safe: tuple[int, Position]) -> None:
        """Have what follows read from the database."""
        watch.number, until = safe
        self._beginning.discard(watch)
        watch.backlog = Backlog(since, until)
        watch.position = None
        self._ask(watch)

    def _ask(self, watch: Watch) -> None:
        if not watch.is_asked:
            watch.is_asked = True
            self._wanting.append(watch)
            self._work.notify()

    def _fill(self, watch: Watch) -> bool:
        """Queue the next changes that the watch is told, and return whether there are any."""
        if self._safe is None or watch.backlog is not None or watch.number >= self._safe[0]:
            return False
        if watch.number < self._floor and watch.position is not None:
            self._catch_up(watch, watch.position, self._safe)
            return False
        key = None
        if watch.sight.sees_everything:
            key = watch.number, self._safe[0], watch.filter
            if (found := self._alike.get(key)) is not None:
                changes, watch.number, watch.position = found
                watch.queue.extend(changes)
                return bool(changes)
        self._collect(watch, self._safe)
        if key is not None:
            self._alike[key] = tuple(watch.queue), watch.number, watch.position
        return bool(watch.queue)

    def _collect(self, watch: Watch, safe: tuple[int, Position]) -> None:
        size = 0
        for reading in self._held[bisect_right(self._held, watch.number, key=attrgetter("number")) :]:
            if reading.number > safe[0]:
                break
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
        self._pages_size -= watch.size
        watch.size = 0
        if watch.backlog is not None:
            self._ask(watch)
        self._work.notify()
        return Told(changes, watch.position)

    def _wake(self, watch: Watch) -> None:
        if not (watch.is_woken or watch.is_over):
            watch.is_woken = True
            watch.wake()

    def _end(self, watch: Watch, error: errors.Error) -> None:
        if not watch.is_over:
            watch.is_over = True
            self._open.discard(watch)
            self._beginning.discard(watch)
            watch.end(error)

    def _forget(self) -> None:
        """Drop all that is held: it is read from the database again."""
        self._held = []
        self._held_count = self._held_size = 0
        self._floor = self._number

    def _drop_told(self) -> None:
        """Drop what all watches have been told."""
        number = min((watch.number for watch in self._open if watch.number), default=self._told_number)
        self._drop(bisect_right(self._held, number, key=attrgetter("number")))

    def _require_room(self) -> None:
        """Hold no more than may be held, and end those that are still to be told what is dropped."""
        while len(self._held) > 1 and (self._held_count > MAX_HELD or self._held_size > MAX_HELD_BYTES):
            self._drop(1)
        for watch in [watch for watch in self._open if 0 < watch.number < self._floor and watch.queue]:
            self._end(watch, errors.ResourceExhausted("WATCH_TOO_SLOW", "the caller reads too slowly; resume"))

    def _drop(self, count: int) -> None:
        for reading in self._held[:count]:
            self._held_count -= len(reading.changes)
            self._held_size -= reading.size
            self._floor = reading.number
        del self._held[:count]

    # The threads.

    def _run(self) -> None:
        """Wake the watches that have something to say."""
        next_telling = next_tick = 0.0
        while True:
            with self._lock:
                wait = next_telling - time.monotonic() if self._has_news() else TICK_SECONDS
                if wait > 0 and not self._is_stopped:
                    self._news.wait(min(wait, TICK_SECONDS))
                if self._is_stopped:
                    return
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + TICK_SECONDS
                    self._tick(now)
                for watch in list(self._beginning) if self._has_news() else ():
                    self._wake(watch)
                watches = self._to_tell() if now >= next_telling else []
            for watch in watches:
                # Nobody waits for all of them.
                with self._lock:
                    if not watch.is_woken and not watch.is_over and self._fill(watch):
                        self._wake(watch)
            if watches:
                next_telling = now + PACE_SECONDS * len(watches)
                with self._lock:
                    self._drop_told()

    def _has_news(self) -> bool:
        return self._safe is not None and self._safe[0] > self._told_number

    def _to_tell(self) -> list[Watch]:
        """Return the watches that may have something to say since this was last asked."""
        if self._safe is None or not self._has_news():
            return []
        self._alike.clear()
        is_new = bool(self._held) or self._floor > self._told_number
        self._told_number = self._safe[0]
        return list(self._open - self._beginning) if is_new else []

    def _tick(self, now: float) -> None:
        is_behind = now - self._read_at > LIVE_SECONDS
        for watch in list(self._open):
            if now >= watch.ends:
                is_key = watch.actor.api_key_id is not None
                self._end(watch, errors.Unauthenticated("key_over" if is_key else "session_expired"))
            elif is_behind != watch.is_behind or (not is_behind and now >= watch.told_at + watch.heartbeat):
                watch.is_behind, watch.is_due = is_behind, True
                self._wake(watch)

    def _read(self) -> None:
        """Read pages of backlogs, one after another, each watch in its turn."""
        while True:
            with self._lock:
                while not self._is_stopped and (not self._wanting or self._pages_size > MAX_PAGES_BYTES):
                    self._work.wait()
                if self._is_stopped:
                    break
                watch = self._wanting.popleft()
                backlog = watch.backlog
            if watch.is_over or backlog is None:
                continue
            try:
                page, is_last = backlog.page(self._reader)
            except errors.Error:
                with self._lock:
                    self._wanting.append(watch)
                    self._work.wait(PAUSE_SECONDS)
                continue
            except GapError:
                with self._lock:
                    self._end(watch, _expired())
                continue
            with self._lock:
                self._take_page(watch, page, is_last)
        self._reader.close()

    def _take_page(self, watch: Watch, page: Sequence[Change], is_last: bool) -> None:
        watch.is_asked = False
        if watch.is_over or watch.backlog is None:
            return
        wanted, is_outdated = watch.wanted(page)
        if is_outdated:
            self._end(watch, _outdated())
            return
        watch.queue += wanted
        watch.size = sum(map(size_of, wanted))
        self._pages_size += watch.size
        if is_last:
            watch.position, watch.backlog = watch.backlog.until, None
            # What the token has seen is seen from there.
            watch.since = None
            # Also where there is nothing to tell: how far that was.
            watch.is_due = True
        elif not wanted:
            self._ask(watch)
        self._wake(watch)


def _position(token: str) -> Position:
    try:
        return Position.of(token)
    except ValueError:
        raise errors.field_invalid(("resume_token", "must be the resume_token of a response")) from None


def _outdated() -> errors.Unavailable:
    """Return what ends a watch whose caller is to be looked up again."""
    return errors.Unavailable("STREAM_ENDED", "what the caller may read has changed; resume the stream")


def _expired() -> errors.OutOfRange:
    return errors.OutOfRange("RESUME_TOKEN_EXPIRED", "what followed is not known any more; begin without a token")
