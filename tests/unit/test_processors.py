"""How many processors there are for a process: what its affinity and its control groups leave."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from service import processors
from service.config import Settings

UNIFIED = "0::/"
CONTAINER = "0::/system.slice/docker-1.scope"
FIRST = "5:cpuset:/\n4:cpu,cpuacct:/docker/1\n0::/"
"""Of the first version, beside the second for what is not of it."""
ODD = ["", "max", "50000", "50000 100000 1", "half one", "50000 0", "0 100000", "50000 max", "-2 100000", "1e5 100000"]


@pytest.mark.parametrize(
    ("groups", "files", "wanted"),
    [
        (None, {}, 8),
        (UNIFIED, {}, 8),
        (UNIFIED, {"cpu.max": "max 100000"}, 8),
        (UNIFIED, {"cpu.max": "50000 100000"}, 1),
        (UNIFIED, {"cpu.max": "100000 100000"}, 1),
        (UNIFIED, {"cpu.max": "150000 100000"}, 2),
        (UNIFIED, {"cpu.max": "1600000 100000"}, 8),
        # The least of those above counts, and one that is not seen from inside does not.
        (CONTAINER, {"system.slice/cpu.max": "300000 100000", "system.slice/docker-1.scope/cpu.max": "max 100000"}, 3),
        (CONTAINER, {"system.slice/cpu.max": "300000 100000", "system.slice/docker-1.scope/cpu.max": "20000 10000"}, 2),
        (CONTAINER, {"cpu.max": "50000 100000"}, 1),
        (FIRST, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (FIRST, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        (FIRST, {"cpu/docker/1/cpu.cfs_quota_us": "250000", "cpu/docker/1/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpuset:/", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 8),
        # What is no quota is none, and hides none of the groups above or below.
        *((CONTAINER, {"cpu.max": odd, "system.slice/cpu.max": "300000 100000"}, 3) for odd in ODD),
        (FIRST, {"cpu/cpu.cfs_quota_us": "", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (FIRST, {"cpu/cpu.cfs_quota_us": "0", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (FIRST, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "0"}, 8),
        ("odd\n\n4:cpuset\n0::/\udcff", {"cpu.max": "50000 100000"}, 1),
    ],
)
def test_a_worker_runs_for_each_processor_that_the_quota_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str | None, files: Mapping[str, str], wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    if groups is not None:
        write(tmp_path / "proc/self/cgroup", groups)
    for name, text in files.items():
        write(tmp_path / "sys/fs/cgroup" / name, text)
    assert processors.count(tmp_path) == wanted


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(f"{text}\n"))


def test_that_is_how_many_workers_there_are_unless_somebody_says_otherwise() -> None:
    assert Settings().workers == processors.count() <= len(os.sched_getaffinity(0))


def test_each_worker_is_pinned_to_one_of_those_that_it_may_use() -> None:
    mine = processors.usable()
    pinned = []

    def pin(number: int) -> None:
        processors.pin(number)
        pinned.append(os.sched_getaffinity(0))

    for number in range(len(mine) + 1):
        # What is pinned is a thread.
        thread = threading.Thread(target=pin, args=(number,))
        thread.start()
        thread.join()
    assert pinned == [*({processor} for processor in mine), {mine[0]}]
    assert processors.usable() == mine
