"""The processors that this process may use, which are fewer than the machine's where somebody has said so."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def count(root: Path = Path("/")) -> int:
    """Return how many the process may use at a time: a quota of one and a half is two, and one of a half is one."""
    return max(1, math.ceil(min([len(usable()), *_quotas(root)])))


def usable() -> list[int]:
    """Return the numbers of those that the process may use by turns, or of all where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def pin(number: int) -> None:
    """Let this thread, and those that it starts, use one of them alone: the one whose turn it is by the number."""
    mine = usable()
    os.sched_setaffinity(0, {mine[number % len(mine)]})


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of the control groups of the process, each of which holds for all groups below it."""
    try:
        # The names of groups may be any octets.
        text = os.fsdecode((root / "proc/self/cgroup").read_bytes())
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in text.split("\n") if line.count(":") > 1):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the group may have its name outside, which is not found, and is the first folder inside.
        folder = root / ("sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup")
        for name in ("", *path.split("/")):
            folder /= name
            yield from _quota(folder, is_first_version=bool(controllers))


def _quota(folder: Path, *, is_first_version: bool) -> Iterator[float]:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if is_first_version else ("cpu.max",)
    try:
        quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
    except (OSError, ValueError):
        # There is none (`max`), or nobody knows what it says.
        return
    # Without a quota, the first version says -1.
    if quota > 0 and period > 0:
        yield quota / period
