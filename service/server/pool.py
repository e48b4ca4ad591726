"""The threads on which calls run: few, and more while calls take long."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from queue import SimpleQueue
from typing import Any

import structlog

from service import logs

CHECK_SECONDS = 0.02
"""How often it looks for calls that take long, while any runs."""
LONG_SECONDS = 0.1
"""From when on a call does: it waits for its message, the database or somebody else, and others must not wait for it.
Calls that only compete for the processor take less."""

_log = structlog.get_logger()


class Running:
    """A call that runs, or waits to. It has what grpcio needs of a future, in a sixth of a future's time."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], object]] = []
        self._is_over = False

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have a function called with this when the call is over."""
        self._callbacks.append(fn)
        # The thread of the call may have looked for functions already.
        if self._is_over:
            self._tell()

    def end(self) -> None:
        self._is_over = True
        self._tell()

    def _tell(self) -> None:
        while self._callbacks:
            try:
                fn = self._callbacks.pop()
            except IndexError:
                # The other thread has taken it.
                return
            fn(self)


_Task = tuple[Running, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""Who is told, what to do, and with what."""


class Pool(Executor):
    """Runs calls on so many threads, and on two more for each call that takes long; on `most` at the same time.

    More threads that can all run take Python's lock from each other: with 32 of them instead of 16, a quarter of the
    calls a second are lost. The executors of the standard library have a number that is fixed, or that only grows.
    """

    def __init__(self, threads: int, most: int, name: str, initializer: Callable[[], None] = lambda: None) -> None:
        self._least, self._most, self._name, self._initializer = threads, most, name, initializer
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        """None ends the thread that gets it."""
        self._began: dict[int, float] = {}
        """Since when each thread that is busy runs its call."""
        self._count = 0
        """The threads that were started and not told to end."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def submit(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Running:  # type: ignore[override]
        if not self._count:
            self._start()
        running = Running()
        self._tasks.put((running, fn, args, kwargs))
        return running

    def waiting(self) -> int:
        """Return how many calls wait for a thread."""
        return self._tasks.qsize()

    def busy(self) -> int:
        """Return how many threads run a call."""
        return len(self._began)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End when all that was submitted has been run. The threads are not waited for."""
        del wait, cancel_futures
        with self._lock:
            self._stopped.set()
            for _ in range(self._count):
                self._tasks.put(None)
            self._count = 0

    def _start(self) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise RuntimeError("the pool was shut down")
            if not self._count:
                self._add(self._least)
                threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True).start()

    def _add(self, count: int) -> None:
        for _ in range(count):
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        self._count += count

    def _watch(self) -> None:
        # While none runs, none can take long before that time has passed.
        while not self._stopped.wait(CHECK_SECONDS if self._began or self._count > self._least else LONG_SECONDS):
            late = time.monotonic() - LONG_SECONDS
            wanted = min(self._most, self._least + 2 * sum(began < late for began in list(self._began.values())))
            queued = self.waiting()
            with self._lock:
                if self._stopped.is_set():
                    return
                if queued and self._count < wanted:
                    self._add(min(wanted - self._count, queued))
                elif not queued and self._count > wanted:
                    self._count -= 1
                    self._tasks.put(None)

    def _work(self) -> None:
        self._initializer()
        thread = threading.get_ident()
        while (task := self._tasks.get()) is not None:
            running, run, positional, named = task
            self._began[thread] = time.monotonic()
            try:
                run(*positional, **named)
            except BaseException as fault:  # noqa: BLE001 - the thread goes on with other calls
                _log.error("pool", name=self._name, **logs.described(fault))
            finally:
                del self._began[thread]
                running.end()
            # Nothing of a call is held while the thread waits for the next one.
            del task, running, run, positional, named
