"""The processes of `serve`: one parent that supervises, and workers that share its port."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process

import structlog

from service import logs
from service.config import ConfigurationError, Settings

MAX_CRASHES = 5
CRASH_SECONDS = 60.0
"""As many crashes in so short a time end the service: something is wrong that another start does not mend."""
START_SECONDS = 30.0
KILL_SECONDS = 5.0
"""How long a process may take to end after its drain."""

_log = structlog.get_logger()


@contextmanager
def signals() -> Iterator[int]:
    """Answer a file descriptor that becomes readable when SIGTERM or SIGINT asks the process to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Written by the C handler, on whichever thread the signal lands; a Python handler would wait for the main thread,
    # which waits for the pipe.
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in _STOP}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reader)
        os.close(writer)


def supervise(settings: Settings, url: str, stop: int, started: Callable[[], None]) -> None:
    """Serve on ports that are held, until `stop` is readable, then drain; a worker that dies is replaced.

    `started` is called when all workers accept calls. ConfigurationError when one cannot, and CrashLoopError when they
    keep dying.
    """
    workers: list[_Worker] = []
    crashes: deque[float] = deque(maxlen=MAX_CRASHES)
    try:
        for _ in range(settings.workers):
            # One by one: those that run are ended also when the next cannot start.
            workers.append(_Worker(settings, url))  # noqa: PERF401 - see above
        for worker in workers:
            if not worker.is_ready(stop):
                return
        started()
        while stop not in (ended := wait([stop, *(worker.sentinel for worker in workers)])):
            for index, worker in enumerate(workers):
                if worker.sentinel in ended:
                    crashes.append(time.monotonic())
                    _log.error("worker died", exit_code=worker.exit_code, crashes=len(crashes))
                    if len(crashes) == MAX_CRASHES and crashes[-1] - crashes[0] < CRASH_SECONDS:
                        raise CrashLoopError
                    workers[index] = _Worker(settings, url)
    finally:
        _end(workers, settings.drain_seconds)


class CrashLoopError(Exception):
    """Workers die again and again."""

    def __init__(self) -> None:
        super().__init__(f"workers died {MAX_CRASHES} times within {CRASH_SECONDS:.0f} s; the log above says why")


class _Worker:
    """One worker, as the parent sees it."""

    def __init__(self, settings: Settings, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._ready, says_ready = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(settings, url, says_ready))
        self._process.start()
        says_ready.close()
        self._address = settings.listen

    @property
    def sentinel(self) -> int:
        """Becomes readable when the process has ended."""
        return self._process.sentinel

    @property
    def exit_code(self) -> int | None:
        # The sentinel is readable a moment before the process can be asked.
        self._process.join(1)
        return self._process.exitcode

    def is_ready(self, stop: int) -> bool:
        """Wait until it is; False when `stop` is readable first."""
        failed = ConfigurationError(f"a worker could not start on {self._address}; its log is above")
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
        self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait for the end, and force it when it does not come in time."""
        self._process.join(max(0.0, seconds))
        if self._process.is_alive():
            _log.error("worker did not drain in time")
            self._process.kill()
            self._process.join()


def _serve(settings: Settings, url: str, says_ready: Connection) -> None:
    """Be one of the workers: until asked to end, or until the parent is gone."""
    from service.server import wiring  # noqa: PLC0415 - the parent does without grpcio

    with signals() as stop:
        logs.configure(settings.log_format, settings.log_level)
        running = wiring.build(settings, url)
        running.start(settings.listeners())
        says_ready.send(None)
        says_ready.close()
        parent = parent_process()
        wait([stop, parent.sentinel] if parent else [stop])
        running.drain()


def _end(workers: list[_Worker], drain_seconds: float) -> None:
    for worker in workers:
        worker.terminate()
    give_up = time.monotonic() + drain_seconds + KILL_SECONDS
    for worker in workers:
        worker.end(give_up - time.monotonic())


_STOP = (signal.SIGTERM, signal.SIGINT)
