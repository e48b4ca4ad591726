"""A parent that supervises children of several kinds: it starts them, replaces those that die, and ends them."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from pathlib import Path
from typing import Any

import structlog

import service.drivers  # noqa: F401 - this module is the first that a child imports
from service import logs
from service.config import ConfigurationError

MAX_CRASHES = 5
CRASH_SECONDS = 60.0
"""So many children of a kind that die in so short a time: something is wrong that another start does not mend."""
START_SECONDS = 30.0
RETRY_SECONDS = 1.0
KILL_SECONDS = 5.0
"""How long a process may take to end after its drain."""

_log = structlog.get_logger()


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""What asks a process to end; SIGHUP comes when a terminal closes."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["service.server.forked"])


def stop_signals() -> list[signal.Signals]:
    """Return STOP_SIGNALS, without SIGHUP where `nohup` had it ignored."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def signals() -> Iterator[int]:
    """Yield a file descriptor that becomes readable when one of `stop_signals` asks the process to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Written by the C handler, on whichever thread the signal lands; a Python handler would wait for the main thread,
    # which waits for the pipe.
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in stop_signals()}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reader)
        os.close(writer)


@dataclass(frozen=True)
class Kind:
    """Children of one kind."""

    name: str
    target: Callable[..., None]
    """Called in the child with its `Life` and the arguments: a function of a module, and everything can be pickled."""
    arguments: tuple[Any, ...] = ()
    count: int = 1
    reports_ready: bool = True
    """Whether the start waits until each of them has called `Life.ready`."""
    is_vital: bool = True
    """Whether a crash loop of them ends the service; otherwise they are started again after CRASH_SECONDS."""


class Life:
    """What a child is told by its parent, and tells it."""

    def __init__(self, name: str, stop: int, says_ready: Connection) -> None:
        self.name = name
        """Of this child among all of its parent's; a child that replaces it has it again."""
        self._stop = stop
        self._says_ready = says_ready

    def ready(self) -> None:
        """Say that this child does what it is there for."""
        self._says_ready.send(None)
        self._says_ready.close()

    def wait(self) -> None:
        """Return when the child is to end: it was asked to, or its parent is gone."""
        parent = parent_process()
        wait([self._stop, parent.sentinel] if parent else [self._stop])


def supervise(
    kinds: Sequence[Kind],
    stop: int,
    started: Callable[[], None],
    *,
    drain_seconds: float,
    died: Callable[[Kind, str], None] = lambda *_: None,
) -> None:
    """Run the children until `stop` is readable, then end all; one that dies is replaced.

    `started` is called when all are ready, and `died` with the kind and the name of one that died, before another is
    started. ConfigurationError when one cannot start, and CrashLoopError when those of a vital kind keep dying.
    """
    children: list[_Child] = []
    crashes = {kind.name: _Crashes(kind) for kind in kinds}
    try:
        for kind in kinds:
            for number in range(1, kind.count + 1):
                # One by one: those that run are ended also when the next cannot start.
                children.append(_Child(kind, f"{kind.name}-{number}"))  # noqa: PERF401 - see above
        for child in children:
            if not child.is_ready(stop):
                return
        started()
        while stop not in (ended := _next_event(children, stop)):
            for kind in kinds:
                dead = [child for child in children if child.kind is kind and child.sentinel in ended]
                crashes[kind.name].note(dead, died)
            for child in children:
                if child.is_due:
                    child.start()
    finally:
        _end(children, drain_seconds)


class CrashLoopError(Exception):
    """Children die again and again."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}s died {MAX_CRASHES} times within {CRASH_SECONDS:.0f} s; the log above says why")


class _Crashes:
    """How often children of a kind have died of late."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._times: deque[float] = deque(maxlen=MAX_CRASHES)

    def note(self, dead: Sequence["_Child"], died: Callable[[Kind, str], None]) -> None:
        """Take note of those that died at once, and let them be due again.

        Together they count once: they all end if what they were forked from does.
        """
        if dead:
            self._times.append(time.monotonic())
        for child in dead:
            _log.error(f"{self._kind.name} died", exit_code=child.exit_code, crashes=len(self._times))
            died(self._kind, child.name)
            child.lie_still(self._pause())

    def _pause(self) -> float:
        """Return how many seconds to wait before a replacement starts."""
        times = self._times
        if len(times) < MAX_CRASHES or times[-1] - times[0] >= CRASH_SECONDS:
            return 0.0
        if self._kind.is_vital:
            raise CrashLoopError(self._kind.name)
        return CRASH_SECONDS


class _Child:
    """One child, as the parent sees it: a process, or none until it is due again."""

    def __init__(self, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = name
        self._due = 0.0
        self.start()

    def start(self) -> None:
        self._ready, says_ready = _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_live, args=(self.kind, self.name, says_ready, logs.past()), name=self.name
        )
        try:
            self._process.start()
        except (ConnectionError, EOFError) as error:
            # What it is forked from is dying; once that has ended, another one is started.
            _log.error(f"{self.kind.name} could not start", error=type(error).__name__)
            self.lie_still(RETRY_SECONDS)
        else:
            self.is_started = True
        finally:
            says_ready.close()

    def lie_still(self, seconds: float) -> None:
        """Be no process for some seconds."""
        self._ready.close()
        self._process.close()
        self.is_started = False
        self._due = time.monotonic() + seconds

    @property
    def is_due(self) -> bool:
        return not self.is_started and self.seconds_left <= 0

    @property
    def seconds_left(self) -> float:
        """Until it is to be started."""
        return self._due - time.monotonic()

    @property
    def sentinel(self) -> int | None:
        """Becomes readable when the process has ended; None while there is none."""
        return self._process.sentinel if self.is_started else None

    @property
    def exit_code(self) -> int | None:
        # The sentinel is readable a moment before the process can be asked.
        self._process.join(1)
        return self._process.exitcode

    def is_ready(self, stop: int) -> bool:
        """Wait until it is, if it says so at all; False when `stop` is readable first."""
        if not self.kind.reports_ready:
            return True
        failed = ConfigurationError(f"a {self.kind.name} process could not start; its log is above")
        if not self.is_started:
            raise failed
        ready = wait([stop, self._ready], START_SECONDS)
        if stop in ready:
            return False
        if not ready:
            raise failed
        try:
            self._ready.recv()
        except EOFError:
            raise failed from None
        return True

    def terminate(self) -> None:
        if self.is_started:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait for the end, and force it when it does not come in time."""
        if not self.is_started:
            return
        self._process.join(max(0.0, seconds))
        if self._process.is_alive():
            _log.error(f"{self.kind.name} did not drain in time")
            self._process.kill()
            self._process.join()


def _next_event(children: Sequence[_Child], stop: int) -> list[Any]:
    """Wait until `stop` or the end of a child can be read, or until one is to be started; return what can be read."""
    running = [child.sentinel for child in children if child.sentinel is not None]
    pauses = [max(0.0, child.seconds_left) for child in children if not child.is_started]
    return wait([stop, *running], min(pauses, default=None))


def _live(kind: Kind, name: str, says_ready: Connection, stderr: logs.Stderr | None) -> None:
    """Be one of the children: what its target does."""
    logs.take(stderr)
    with suppress(OSError):
        # What `ps` and `top` call it.
        Path("/proc/self/comm").write_text(name)
    with signals() as stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        kind.target(Life(name, stop, says_ready), *kind.arguments)


def _end(children: Sequence[_Child], drain_seconds: float) -> None:
    for child in children:
        child.terminate()
    give_up = time.monotonic() + drain_seconds + KILL_SECONDS
    for child in children:
        child.end(give_up - time.monotonic())
