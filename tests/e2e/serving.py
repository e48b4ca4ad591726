"""The service as its own process, for what must not reach the server that the tests share."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from service import lines
from tests.commands import Command, run
from tests.conftest import as_service

T = TypeVar("T")
Process = Command | subprocess.Popen[str]

START_SECONDS = 120.0
STOP_SECONDS = 30.0


class Service:
    """A service that runs, and what it logs of its calls."""

    def __init__(self, process: Process, address: str, log: Path) -> None:
        self._process = process
        self.address = address
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, seconds: float) -> None:
        """Wait for its end, which must come in time."""
        self._process.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def newest_worker(self) -> int:
        """Return the process of the newest worker, once it serves: one that has died is about to be replaced."""
        eventually(lambda: Path(f"/proc/{self.workers()[-1]}").exists(), within=STOP_SECONDS)
        return self.workers()[-1]

    def kill_worker(self) -> None:
        """Kill the newest worker; another one takes its place."""
        os.kill(self.newest_worker(), signal.SIGKILL)

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """Answer the line of each call that has ended, from position `since` of the log on."""
        return [line for line in logged(self._log, since) if line["event"] == "call"]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in logged(self._log) if line["event"] == name]

    def listeners(self) -> dict[str, Any]:
        """Return the ports that are served, by their settings."""
        return next(iter(self.events("serving")), {})

    def workers(self) -> list[int]:
        return [line["process"] for line in self.events("serving")]

    def memory(self) -> int:
        """Return the resident bytes of the workers."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        lines = [line for status in statuses for line in status.splitlines() if line.startswith("VmRSS")]
        return sum(int(line.split()[1]) * 1024 for line in lines)

    def position(self) -> int:
        """Answer where the log ends, once the lines of calls that have ended are in it."""
        size = -1
        while size != (size := self._log.stat().st_size):
            time.sleep(10 * lines.SECONDS)
        return size


@contextmanager
def serving(url: str, log: Path, *flags: str, **settings: object) -> Iterator[Service]:
    """Serve that database, migrated, on a free port for the time of the block."""
    stdout = log.with_name(f"{log.name}.out")
    command = Command(("serve", "--migrate", *flags), _environment(url, settings), stdout=stdout, stderr=log)
    with _ended(command, log):
        give_up = time.monotonic() + START_SECONDS
        while not (stdout.exists() and "\n" in stdout.read_text()):
            assert command.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.01)
        yield Service(command, _address(stdout.read_text(), log), log)


@contextmanager
def serving_by(python: Path, folder: Path, url: str, log: Path, *flags: str, **settings: object) -> Iterator[Service]:
    """Serve with the packages of that interpreter, started in that folder."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [python, "-m", "service", "serve", *flags],
            cwd=folder,
            env=_environment(url, settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    # Whatever happens to it, the wait for its first words ends.
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    with _ended(process, log), process.stdout or nullcontext():
        assert process.stdout is not None
        first = process.stdout.readline()
        watchdog.cancel()
        yield Service(process, _address(first, log), log)


def _environment(url: str, settings: dict[str, object]) -> dict[str, str]:
    settings = {
        "database_url": as_service(url),
        "database_owner_url": url,
        "listen": "127.0.0.1:0",
        "workers": 1,
        "log_format": "json",
        "auth": "none",
        "work": "off",
        **settings,
    }
    return os.environ | {f"OMNIFLO_{name.upper()}": str(value) for name, value in settings.items()}


def _address(first: str, log: Path) -> str:
    """Return the address that the first words of a service name."""
    assert first.startswith("Serving on "), log.read_text()
    return first.split()[2].rstrip(".")


@contextmanager
def _ended(process: Process, log: Path) -> Iterator[None]:
    """End it, as process managers do, at the end of the block."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, log.read_text()


def key(url: str, user: str, scope: str) -> str:
    """Return an API key that the command makes for that user, who is provisioned."""
    arguments = ("keys", "create", "--user", user, "--name", user, "--scope", scope)
    with tempfile.TemporaryDirectory() as folder:
        done = run(arguments, os.environ | {"OMNIFLO_DATABASE_URL": url}, Path(folder), within=START_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def logged(log: Path, since: int = 0) -> list[dict[str, Any]]:
    """Return the whole lines of a JSON log from that position on; the last one may still be on its way."""
    with log.open("rb") as file:
        file.seek(since)
        return [json.loads(line) for line in file.read().split(b"\n")[:-1]]


def eventually(what: Callable[[], T], *, within: float) -> T:
    """Ask until the answer is true, and answer it; fail when that takes too long."""
    give_up = time.monotonic() + within
    while not (answer := what()):
        assert time.monotonic() < give_up, f"not within {within} s"
        time.sleep(0.01)
    return answer
