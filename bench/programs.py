"""Programs that are measured: started, waited for until they serve, and stopped."""

import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import machine

ROOT = Path(__file__).parent.parent

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class ProgramError(Exception):
    """A program did not do what it was started for; the message has the end of its log."""


class Running(NamedTuple):
    pid: int
    port: int
    log: Path


@contextmanager
def running(
    command: Sequence[str],
    *,
    serves: str,
    log: Path,
    cores: Iterable[int],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a server for the time of the block; `serves` is the pattern of its first line, with the port as its group."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            machine.on(cores, *command),
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Ctrl-C is for this process, which stops what it started.
            start_new_session=True,
        )
    # Whatever happens to it, the wait for its first words ends.
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        first = process.stdout.readline() if process.stdout else ""
        watchdog.cancel()
        found = re.search(serves, first)
        if found is None:
            raise ProgramError(f"`{_text(command)}` did not start; the end of its log:\n{tail(log)}")
        yield Running(process.pid, int(found[1]), log)
    finally:
        watchdog.cancel()
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Run a command to its end, within ten minutes; ProgramError when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramError(f"`{_text(command)}`: {error}") from None
    if done.returncode != 0:
        raise ProgramError(f"`{_text(command)}` failed:\n{(done.stderr or done.stdout)[-2000:]}")


def tail(log: Path) -> str:
    """Answer the last lines of a log, without where this project lies."""
    return "\n".join(log.read_text(errors="replace").replace(f"{ROOT}/", "").splitlines()[-10:])


def _text(command: Sequence[str]) -> str:
    return shlex.join(command).replace(f"{ROOT}/", "")
