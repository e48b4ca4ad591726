"""The service as its own process, for what must not reach the server that the tests share."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import ROOT, as_service

T = TypeVar("T")

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class Service:
    """A service that runs, and what it logs of its calls."""

    def __init__(self, process: subprocess.Popen[str], address: str, log: Path) -> None:
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

    def kill_worker(self) -> None:
        """Kill the newest worker, once it serves; another one takes its place."""
        eventually(lambda: Path(f"/proc/{self.workers()[-1]}").exists(), within=STOP_SECONDS)
        os.kill(self.workers()[-1], signal.SIGKILL)

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """Answer the line of each call that has ended, from position `since` of the log on."""
        with self._log.open("rb") as log:
            log.seek(since)
            # The last line may still be on its way.
            lines = log.read().split(b"\n")[:-1]
        return [line for line in map(json.loads, lines) if line["event"] == "call"]

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_bytes().split(b"\n")[:-1]
        return [line for line in map(json.loads, lines) if line["event"] == name]

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
        """Answer where the log ends now."""
        return self._log.stat().st_size


def serving(url: str, log: Path, *flags: str, **settings: object) -> AbstractContextManager[Service]:
    """Serve that database, migrated, on a free port for the time of the block."""
    return serving_by(Path(sys.executable), ROOT, url, log, "--migrate", *flags, **settings)


@contextmanager
def serving_by(python: Path, folder: Path, url: str, log: Path, *flags: str, **settings: object) -> Iterator[Service]:
    """Serve with the packages of that interpreter, started in that folder."""
    settings = {
        "database_url": as_service(url),
        "database_owner_url": url,
        "listen": "127.0.0.1:0",
        "workers": 1,
        "log_format": "json",
        "auth": "none",
        **settings,
    }
    # The rest is for coverage, which finds its own settings there.
    environment = os.environ | {f"OMNIFLO_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [python, "-m", "service", "serve", *flags],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    # Whatever happens to it, the wait for its first words ends.
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Serving on "), log.read_text()
        watchdog.cancel()
        yield Service(process, first.split()[2].rstrip("."), log)
    finally:
        watchdog.cancel()
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, log.read_text()


def key(url: str, user: str, scope: str) -> str:
    """Return an API key that the command makes for that user, who is provisioned."""
    command = [sys.executable, "-m", "service", "keys", "create", "--user", user, "--name", user, "--scope", scope]
    environment = os.environ | {"OMNIFLO_DATABASE_URL": url}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def eventually(what: Callable[[], T], *, within: float) -> T:
    """Ask until the answer is true, and answer it; fail when that takes too long."""
    give_up = time.monotonic() + within
    while not (answer := what()):
        assert time.monotonic() < give_up, f"not within {within} s"
        time.sleep(0.01)
    return answer
