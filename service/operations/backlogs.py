"""Backlogs of watches: what was committed before a watch has a place among the newest changes, read in pages."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from service import errors
from service.database.backlog import Reader
from service.database.changes import Change, GapError
from service.operations.watch import Watch, size_of

MAX_BYTES = 32 * 1024 * 1024
"""What is read for watches and not sent yet, from which on no more is read."""
PAUSE_SECONDS = 0.2


class Backlogs:
    """Reads one page after another on a thread of its own. Callers take turns, however many watches each of them has.

    Its methods are called under the lock of its `Watches`, but for `start` and `join`.
    """

    def __init__(
        self,
        url: str,
        lock: threading.Lock,
        take: Callable[[Watch, Sequence[Change], bool], None],
        lose: Callable[[Watch], None],
    ) -> None:
        self._reader = Reader(url)
        self._lock = lock
        self._take, self._lose = take, lose
        """Are told a page, and whether it is the last one; or that there is a gap."""
        self._wanting: dict[str, deque[Watch]] = {}
        """Those that wait for a page, by their callers, the next caller first."""
        self._size = 0
        self._is_stopped = False
        self._work = threading.Condition(lock)
        self._thread = threading.Thread(target=self._run, name="backlogs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopped = True
        self._work.notify()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def ask(self, watch: Watch) -> None:
        """Have the next page of a watch read."""
        if not watch.is_asked:
            watch.is_asked = True
            self._want(watch)
            self._work.notify()

    def keep(self, watch: Watch, changes: Sequence[Change]) -> None:
        """Queue what a watch is told of its page."""
        watch.queue += changes
        watch.size = sum(map(size_of, changes))
        self._size += watch.size

    def release(self, watch: Watch) -> None:
        """Count a page no longer: it was sent, or its watch is over. There may be room for another one."""
        self._size -= watch.size
        watch.size = 0
        self._work.notify()

    def _want(self, watch: Watch) -> None:
        self._wanting.setdefault(watch.actor.name, deque()).append(watch)

    def _next(self) -> Watch:
        """Return the watch whose turn it is."""
        name = next(iter(self._wanting))
        watches = self._wanting.pop(name)
        watch = watches.popleft()
        if watches:
            self._wanting[name] = watches
        return watch

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._is_stopped and (not self._wanting or self._size > MAX_BYTES):
                    self._work.wait()
                if self._is_stopped:
                    break
                watch = self._next()
                backlog = watch.backlog
            if watch.is_over or backlog is None:
                continue
            try:
                page, is_last = backlog.page(self._reader)
            except errors.Error:
                with self._lock:
                    self._want(watch)
                    self._work.wait(PAUSE_SECONDS)
                continue
            except GapError:
                with self._lock:
                    self._lose(watch)
                continue
            with self._lock:
                watch.is_asked = False
                if not watch.is_over and watch.backlog is not None:
                    self._take(watch, page, is_last)
        self._reader.close()
