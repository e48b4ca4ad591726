"""The command line in a process of its own, forked from one that has imported it: others take a second to start.

So are the processes that a command starts itself.
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from service.server.processes import STOP_SIGNALS

_FORKED = "service.server.forked"

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["service.__main__", _FORKED, __name__])


def preload() -> None:
    """Start what commands are forked from, which has the environment of now."""
    forkserver.ensure_running()


def process(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a process that calls the target, and ends with this one at the latest."""
    started = _processes.Process(target=_call, args=(target, arguments), daemon=True)
    started.start()
    return started


def _call(target: Callable[..., None], arguments: Sequence[Any]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    target(*arguments)


class Command:
    """A command that was started; its methods are those of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdout: Path,
        stderr: Path,
        has_session: bool = False,
    ) -> None:
        for file in (stdout, stderr):
            # Whoever reads them must not find what an earlier command has written.
            file.write_bytes(b"")
        self._process = _processes.Process(
            target=_run, args=(arguments, dict(environment), stdout, stderr, has_session)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("python -m service", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, within: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return what it wrote into files of that folder."""
    stdout, stderr = (folder / f"{time.monotonic_ns()}.{name}" for name in ("out", "err"))
    command = Command(arguments, environment, stdout=stdout, stderr=stderr)
    try:
        code = command.wait(within)
    finally:
        command.kill()
    return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())


def _run(
    arguments: Sequence[str], environment: Mapping[str, str], stdout: Path, stderr: Path, has_session: bool
) -> None:
    from service.__main__ import main  # noqa: PLC0415 - whoever starts a command need not have it

    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    for ask in STOP_SIGNALS:
        # Whoever runs the tests with `nohup` has one ignored.
        signal.signal(ask, signal.SIG_DFL)
    util.spawnv_passfds = _fork  # type: ignore[assignment]
    if has_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, Path(os.devnull)), (1, stdout), (2, stderr)):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = ["python -m service", *arguments]
    try:
        sys.exit(main(arguments))
    finally:
        # The children of a fork server end without it.
        atexit._run_exitfuncs()


def _fork(path: bytes, arguments: Sequence[Any], kept: Sequence[int]) -> int:
    """Fork a process that runs what `multiprocessing` would run by another Python, and return its id."""
    del path
    if pid := os.fork():
        return pid
    code = 1
    try:
        # As after an exec: nothing is left of who forked it, but what is ignored.
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        for file in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - the one that it reads by is closed then
            if file > 2 and file not in kept:
                with suppress(OSError):
                    os.close(file)
        sys.modules.pop(_FORKED, None)
        exec(arguments[-1], {})  # noqa: S102 - the standard library's own
        code = 0
    except SystemExit:
        code = 0
    finally:
        os._exit(code)
