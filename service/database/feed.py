"""What is changed in the database, by whomever: read from the log of changes, again and again, by one thread."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from socket import socketpair
from typing import Any, NamedTuple, Protocol

import psycopg2
import structlog

from service import errors
from service.database import changes
from service.database.changes import ANSWER_SECONDS, Change, GapError, Reading
from service.database.connections import connect, readable
from service.database.handle import database
from service.deadline import time_limit
from service.positions import Position

CHANNEL = "omniflo_feed"
"""Where processes wake each other. A notification says nothing but that the log is to be read."""
BEAT_SECONDS = 0.25
"""How often the log is read when nobody says that it has changed."""
PACE_SECONDS = 0.005
"""How often it is read at most: what happens meanwhile is read together."""
PAUSE_SECONDS = 0.2
MAX_TOLD = 100_000
"""The most changes that are remembered as told, for a connection that is lost."""

_PREPARE = (
    f"listen {CHANNEL}; set enable_seqscan = off; set plan_cache_mode = force_generic_plan;"
    f"set synchronous_commit = off; {changes.PREPARE}; select renew_epoch()"
)
"""No plan reads the whole log, and a notification waits for no disk."""
_NOTIFY = f"notify {CHANNEL};"

# What was written before is on disk when this transaction is.
_FLUSH = "begin; set local synchronous_commit = on; select pg_logical_emit_message(true, 'omniflo', ''); commit"

_log = structlog.get_logger()


class Hearer(Protocol):
    """Who wants to hear of changes. It is called from one thread, and must neither wait nor raise."""

    def start_over(self, *, missed: bool) -> None:
        """The database may have crashed: what was read from it before may never have been.

        Where nothing was `missed`, the changes that are told go on where they had ended.
        """

    def change(self, changes: Sequence[Change]) -> None:
        """These have happened, each of them once; those of one transaction come before the next `confirm`."""

    def confirm(self, moment: float, position: Position, safe: Position | None) -> None:
        """Every change up to then has been told, on the clock of `time.monotonic`.

        From `safe` on changes can be read again by anybody and at any time, of `position` only while the database does
        not crash.
        """

    def awaits_flush(self) -> bool:
        """Whether it waits for `safe` to come to what it was told."""


class Figures(NamedTuple):
    """What a feed has done since it was made."""

    age: float
    """The seconds since it last began to read the log to its end; infinity before that."""
    commits: int
    """How often a commit of this process woke it."""
    notifications: int
    """How often another process did."""
    changes: int


class Feed:
    """A thread that tells all hearers of every change, in order, and each of them once.

    It reads the log at once when this process has committed, or when another one says that it has; and four times a
    second in any case.
    """

    def __init__(self, hearers: Sequence[Hearer], url: str) -> None:
        self._hearers = hearers
        self._url = url
        self._position: Position | None = None
        self._progress = _Progress()
        self._read_at = float("-inf")
        self._is_woken = self._is_notified = False
        self._commits = self._notifications = self._changes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    @property
    def position(self) -> Position | None:
        """Where it is: all that can be seen from there has been told. None while it has no connection."""
        return self._position

    def figures(self) -> Figures:
        age = time.monotonic() - self._read_at
        return Figures(age, self._commits, self._notifications, self._changes)

    def wake(self, tags: object = None) -> None:
        """Let the log be read at once, here and in other processes. Any thread may call it."""
        del tags
        # Where no more goes in, it is about to wake; or it has just stopped.
        with suppress(OSError):
            self._waker.send(b"\0")

    def hurry(self) -> None:
        """Let the log be read at once, here alone. Any thread may call it."""
        with suppress(OSError):
            self._waker.send(b"\1")

    def start(self) -> None:
        self._waker, self._woken = socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        database.tell(self.wake)
        self._thread.start()

    def stop(self) -> None:
        database.tell_no_more(self.wake)
        self._stopped.set()
        self.wake()
        self._thread.join(2 * ANSWER_SECONDS)
        self._waker.close()
        self._woken.close()

    def _run(self) -> None:
        was_lost = None
        while not self._stopped.is_set():
            connection = None
            try:
                with time_limit(ANSWER_SECONDS):
                    connection = connect(self._url)
                    _execute(connection, _PREPARE)
                position = self._begin(connection)
                _log.info("changes", is_heard=True)
                was_lost = False
                while not self._stopped.is_set():
                    position = self._follow(connection, position)
            except (psycopg2.Error, errors.Error, OSError, GapError) as fault:
                if isinstance(fault, GapError):
                    self._progress = _Progress()
                if not was_lost:
                    _log.error("changes", is_heard=False, error=type(fault).__name__)
                was_lost = True
            finally:
                self._position = None
                if connection is not None:
                    connection.close()
            self._stopped.wait(PAUSE_SECONDS)

    def _begin(self, connection: Any) -> Position:
        """Go on from where a crash can have undone nothing, or where there is no such place, from now on."""
        safe = self._progress.safe
        if safe is not None:
            self._start_over(missed=False)
            return self._read(connection, safe)
        began = time.monotonic()
        reading = changes.here(connection)
        self._progress = _Progress()
        self._start_over(missed=True)
        return self._confirm(began, reading)

    def _follow(self, connection: Any, position: Position) -> Position:
        """Read the log to its end, wait until it is to be read again, and return where that was."""
        began = time.monotonic()
        self._take_news(connection)
        self._commits += self._is_woken
        self._notifications += self._is_notified
        notify = _NOTIFY if self._is_woken else ""
        self._is_woken = self._is_notified = False
        position = self._read(connection, position, notify)
        if self._progress.safe is not position and any(hearer.awaits_flush() for hearer in self._hearers):
            with time_limit(ANSWER_SECONDS):
                _execute(connection, _FLUSH)
            position = self._read(connection, position)
        while not self._take_news(connection):
            left = began + BEAT_SECONDS - time.monotonic()
            if left <= 0 or self._stopped.is_set():
                return position
            readable(connection, self._woken, left)
            connection.poll()
        self._stopped.wait(max(0.0, began + PACE_SECONDS - time.monotonic()))
        return position

    def _take_news(self, connection: Any) -> bool:
        """Note whether this process or another one has committed, and return whether the log is to be read."""
        said = b""
        with suppress(BlockingIOError):
            said = self._woken.recv(4096)
        self._is_woken |= b"\0" in said
        # It is notified of its own notifications as well.
        pid = connection.info.backend_pid
        self._is_notified |= any(notification.pid != pid for notification in connection.notifies)
        connection.notifies.clear()
        return bool(said) or self._is_woken or self._is_notified

    def _read(self, connection: Any, since: Position, notify: str = "") -> Position:
        began = time.monotonic()
        return self._confirm(began, changes.read(connection, since, self._tell, notify + changes.PREPARED))

    def _tell(self, found: Sequence[Change]) -> None:
        if fresh := self._progress.untold(found):
            self._changes += len(fresh)
            for hearer in self._hearers:
                hearer.change(fresh)

    def _start_over(self, *, missed: bool) -> None:
        for hearer in self._hearers:
            hearer.start_over(missed=missed)

    def _confirm(self, began: float, reading: Reading) -> Position:
        self._progress.advance(reading)
        self._position, self._read_at = reading.position, began
        for hearer in self._hearers:
            hearer.confirm(began, reading.position, self._progress.safe)
        return reading.position


class _Progress:
    """What is known of how far a feed has come, should its connection be lost.

    A crash gives ids out again of transactions whose end was not on disk, so a position counts only once it is. What
    has been told since then will be read again.
    """

    def __init__(self) -> None:
        self.safe: Position | None = None
        self._next: Reading | None = None
        """Will be safe when enough is on disk."""
        self._told: dict[_Key, bool] = {}
        """What was told after `safe`, and whether that was after `_next` as well."""

    def untold(self, found: Sequence[Change]) -> list[Change]:
        """Return what has not been told before; from now on it has been."""
        fresh = [change for change in found if _key(change) not in self._told]
        self._told.update((_key(change), True) for change in fresh)
        if len(self._told) > MAX_TOLD:
            self.safe, self._next, self._told = None, None, {}
        return fresh

    def advance(self, reading: Reading) -> None:
        """Note that all has been told up to there."""
        if reading.flushed >= reading.written:
            self.safe, self._next, self._told = reading.position, None, {}
        elif self._next is None:
            self._next, self._told = reading, dict.fromkeys(self._told, False)
        elif reading.flushed >= self._next.written:
            self.safe, self._next = self._next.position, reading
            self._told = {key: False for key, is_after in self._told.items() if is_after}


_Key = tuple[int, int, datetime]


def _key(change: Change) -> _Key:
    """Return what no other change has, not even one that a crash has undone."""
    return change.transaction_id, change.seq, change.time


def _execute(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
