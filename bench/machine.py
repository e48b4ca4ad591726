"""What the kernel says of processes: their processor time, their memory, and the cores that they may use."""

import os
import platform
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")

SETTLE_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    process: str
    rss_mb: float
    pss_mb: float
    """What is shared counts in equal parts with everybody who shares it."""


class Cores(NamedTuple):
    """Which cores are for whom; all are for everybody where there is nothing to share out."""

    server: tuple[int, ...]
    others: tuple[int, ...]
    """For PostgreSQL and the load."""
    all: tuple[int, ...]

    @property
    def are_apart(self) -> bool:
        return not set(self.server) & set(self.others)

    def __str__(self) -> str:
        if self.are_apart:
            return f"server on core {_text(self.server)}; load and PostgreSQL on {_text(self.others)}, by taskset"
        return "not pinned, for want of taskset or of a second core: servers, load and PostgreSQL disturb each other"


def cores() -> Cores:
    """Share out the cores that this process may use."""
    every = tuple(sorted(os.sched_getaffinity(0)))
    if len(every) == 1 or shutil.which("taskset") is None:
        return Cores(every, every, every)
    return Cores(every[:1], every[1:], every)


def on(cores: Iterable[int], *command: str) -> list[str]:
    """Wrap a command so that it runs on these cores, and ends when this process dies without a word."""
    taskset, setpriv = shutil.which("taskset"), shutil.which("setpriv")
    pinned = [taskset, "-c", _text(cores)] if taskset else []
    bound = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    return [*pinned, *bound, *command]


def stay_on(cores: Iterable[int]) -> None:
    """Move this process to these cores; what it starts later follows it, unless it is put elsewhere."""
    os.sched_setaffinity(0, set(cores))


def pin(pid: int, cores: Iterable[int]) -> None:
    """Move a process, and those below it, to these cores; what they start later follows them."""
    wanted = set(cores)
    for member in tree(pid):
        for thread in _threads(member):
            try:
                os.sched_setaffinity(thread, wanted)
            except ProcessLookupError:
                continue


def tree(pid: int) -> list[int]:
    """Answer a process and all below it."""
    if pid <= 1:
        # Below these is the whole machine.
        raise ValueError(f"{pid} is no program that was started here")
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[2]), []).append(int(folder.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def processor_seconds(pid: int) -> float:
    """Answer the processor time of a process and of all below it, also of those that have ended."""
    return sum(processor_seconds_by_name(pid).values())


def processor_seconds_by_name(pid: int) -> dict[str, float]:
    """Answer the same for each name that these processes have, as `ps` shows it."""
    found: dict[str, float] = {}
    for member in tree(pid):
        if fields := _stat(member):
            # User and system time of all threads, and of the children that were waited for.
            found[fields[0]] = found.get(fields[0], 0.0) + sum(map(int, fields[12:16])) / _TICKS
    return found


def settle(*pids: int) -> None:
    """Wait until these, and all below them, have next to nothing to do, or for SETTLE_SECONDS."""
    give_up = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < give_up:
        before = sum(map(processor_seconds, pids))
        time.sleep(_PAUSE_SECONDS)
        if sum(map(processor_seconds, pids)) - before <= _PAUSE_SECONDS / 5:
            return


def memory(pid: int) -> list[Memory]:
    """Answer what a process and those below it take; one that may not be looked at is left out."""
    found = []
    for member in tree(pid):
        try:
            lines = (PROC / str(member) / "smaps_rollup").read_text().splitlines()[1:]
            name = _role(*((PROC / str(member) / file).read_bytes() for file in ("comm", "cmdline")))
        except OSError:
            continue
        octets = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        if "Rss" in octets:
            found.append(Memory(name, octets["Rss"] / 2**20, octets["Pss"] / 2**20))
    return found


def describe() -> dict[str, str]:
    """Say what machine this is, without its name."""
    models = [line for line in (PROC / "cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _stat(pid: int) -> list[str] | None:
    """Answer the name of a process, which is in brackets, and its fields from its state on."""
    try:
        name, _, fields = (PROC / str(pid) / "stat").read_text().rpartition(")")
        return [name.partition("(")[2], *fields.split()]
    except OSError:
        return None


def _role(comm: bytes, cmdline: bytes) -> str:
    """Say which process of a program this is; Python's multiprocessing starts helpers as well."""
    for helper in ("resource_tracker", "forkserver"):
        if helper.encode() in cmdline:
            # Those that the fork server has forked have its command line, and a name of their own.
            return f"multiprocessing's {helper}" if comm.startswith(b"python") else comm.decode().strip()
    return Path(cmdline.split(b"\0")[0].decode()).name


def _threads(pid: int) -> list[int]:
    try:
        return [int(folder.name) for folder in (PROC / str(pid) / "task").iterdir()]
    except OSError:
        return []


def _text(cores: Iterable[int]) -> str:
    return ",".join(map(str, cores))
