"""Runs pytest in several lanes at once, and says what each took; fails when one of them does.

`tests` are all tests. Those marked `timed` measure the service under load, or while its database is away, and run one
after another. So do those marked `waiting`, which mostly wait. All others run in two processes for each core, since
they wait half of the time as well. Processes note which lines of the service they run.

`modes` are the tests marked `modes` once more: without cache and prepared statements, and through PgBouncer.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple, NoReturn

from tests import pooler

LONGEST_SECONDS = 1050.0
"""After how long lanes that hang are interrupted."""
STOP_SECONDS = 30.0
"""How long a lane that is interrupted may take to end what it has started."""


_FOLDER = Path(__file__).parent
COVERING = {"COVERED": str(_FOLDER.parent / ".coverage"), "PYTHONPATH": str(_FOLDER / "measuring")}


class Lane(NamedTuple):
    name: str
    command: tuple[str, ...]
    """Before the arguments that all lanes get."""
    environment: dict[str, str]


class Running:
    """A lane that was started, in a process group of its own."""

    def __init__(self, lane: Lane, arguments: Sequence[str], output: IO[bytes] | None) -> None:
        self.name = lane.name
        self.output = output
        self.took = ""
        self._start = time.monotonic()
        # Nothing but this process interrupts the group: Ctrl-C would reach it a second time.
        self._process = subprocess.Popen(
            [*lane.command, *arguments],
            env=os.environ | lane.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

    @property
    def has_failed(self) -> bool:
        return self._process.returncode != 0

    def has_ended(self) -> bool:
        if self._process.returncode is None:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            if not pid:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self.took = f"{time.monotonic() - self._start:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU"
        return True

    def stop(self) -> None:
        """Interrupt it, if it has not ended, and kill what then goes on."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if not self.has_ended():
                os.killpg(self._process.pid, number)
            give_up = time.monotonic() + STOP_SECONDS
            while not self.has_ended() and time.monotonic() < give_up:
                time.sleep(0.1)


@contextmanager
def started(lanes: Sequence[Lane], arguments: Sequence[str]) -> Iterator[list[Running]]:
    """Start all, of which the last writes to the terminal; at the end of the block, stop them and show the rest."""
    running: list[Running] = []
    with ExitStack() as stack:
        try:
            for lane in lanes:
                output = None if lane is lanes[-1] else stack.enter_context(tempfile.TemporaryFile())
                running.append(Running(lane, arguments, output))
            yield running
        finally:
            for one in running:
                one.stop()
                if one.output is not None:
                    one.output.seek(0)
                    print(one.output.read().decode(errors="replace"), flush=True)


def of_tests() -> list[Lane]:
    return [
        Lane("timed", (sys.executable, "-m", "pytest", "-m", "timed"), COVERING),
        Lane("waiting", (sys.executable, "-m", "pytest", "-m", "waiting and not timed"), COVERING),
        # Those that measure come first, also where a machine has two cores.
        Lane("others", ("nice", sys.executable, *_spread(), "-m", "not timed and not waiting"), COVERING),
    ]


def _spread() -> tuple[str, ...]:
    """Return how pytest is run in several processes."""
    return "-m", "pytest", "-n", str(min(8, 2 * len(os.sched_getaffinity(0)))), "--dist", "worksteal"


def of_modes() -> list[Lane]:
    pytest = (sys.executable, *_spread(), "-m", "modes and not once")
    plain = Lane("plain", pytest, {"OMNIFLO_CACHE_MB": "0", "OMNIFLO_PREPARE": "off"})
    if pooler.IS_INSTALLED:
        return [Lane("pooled", pytest, {"TEST_POOLER": "on"}), plain]
    print("PgBouncer (Debian's pgbouncer) is absent: nothing is run through one", flush=True)
    return [plain]


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C."""
    del number, frame
    raise KeyboardInterrupt


def main(what: str, *arguments: str) -> int:
    """Run the lanes, and return 0 when all have passed."""
    signal.signal(signal.SIGTERM, interrupt)
    # A shell that starts this in the background has it ignore these, and what it starts would ignore them too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    lanes = {"tests": of_tests, "modes": of_modes}[what]()
    give_up = time.monotonic() + LONGEST_SECONDS
    try:
        with started(lanes, arguments) as running:
            while not all([one.has_ended() for one in running]):  # noqa: C419 - each is asked when it ends
                if time.monotonic() > give_up:
                    print("interrupted, after the longest that lanes may take", flush=True)
                    break
                time.sleep(0.1)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for one in running:
        print(f"lane {one.name}: {'failed' if one.has_failed else 'passed'} in {one.took or 'no time that is known'}")
    return int(any(one.has_failed for one in running))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
