"""The command line in a process of its own, forked from one that has imported it: others take a second to start."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["service.__main__", __name__])


def preload() -> None:
    """Start what commands are forked from, which has the environment of now."""
    forkserver.ensure_running()


class Command:
    """A command that was started; its methods are those of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], *, stdout: Path, stderr: Path) -> None:
        for file in (stdout, stderr):
            # Whoever reads them must not find what an earlier command has written.
            file.write_bytes(b"")
        self._process = _processes.Process(target=_run, args=(arguments, dict(environment), stdout, stderr))
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


def _run(arguments: Sequence[str], environment: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    from service.__main__ import main  # noqa: PLC0415 - whoever starts a command need not have it

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
