"""Lines that a thread writes: none is torn, nobody waits for who reads them, and what is lost is counted."""

import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.lines import Line, Lines
from tests.e2e.serving import eventually

FULL = 70_000
"""More bytes than a pipe holds that nobody reads."""


def spelled(level: str, line: Line, nanoseconds: int) -> bytes:
    return orjson.dumps({**line, "level": level, "made": nanoseconds}, option=orjson.OPT_APPEND_NEWLINE)


@contextmanager
def lines(descriptor: int, **options: Any) -> Iterator[Lines]:
    made = Lines(descriptor, spelled, **options)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def reading(reader: int, is_all: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Return the lines that come, up to those that are waited for."""
    data = b""
    give_up = time.monotonic() + 10
    while True:
        read = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        if read and is_all(read):
            return read
        assert time.monotonic() < give_up
        if select.select([reader], [], [], 0.1)[0]:
            data += os.read(reader, 65_536)


def test_lines_of_many_threads_are_whole_each_threads_in_order_and_have_the_time_when_they_were_made(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    with lines(writer) as log:

        def put(who: int) -> None:
            for n in range(200):
                log.put({"who": who, "n": n})

        threads = [threading.Thread(target=put, args=(who,)) for who in range(8)]
        for thread in threads:
            thread.start()
        read = reading(reader, lambda read: len(read) == 1600)
    for who in range(8):
        of_one = [line for line in read if line["who"] == who]
        assert [line["n"] for line in of_one] == list(range(200))
        assert of_one == sorted(of_one, key=lambda line: line["made"])
    assert {line["level"] for line in read} == {"info"}


def test_a_write_has_no_more_than_a_pipe_keeps_together(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    written: list[bytes] = []
    write = os.write

    def noted(descriptor: int, data: bytes) -> int:
        written.append(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", noted)
    with lines(writer) as log:
        for n in range(100):
            log.put({"n": n, "text": "a" * 150})
        log.put({"text": "b" * 10_000})
        read = reading(reader, lambda read: len(read) == 101)
    assert len(read) == 101
    assert all(len(data) <= select.PIPE_BUF or data.count(b"\n") == 1 for data in written)
    assert len(written) < 50


def test_nobody_waits_for_who_does_not_read_and_lines_beyond_the_most_are_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with lines(writer, most=1_000) as log:
        text = "a" * 1_000
        for n in range(FULL // len(text)):
            log.put({"n": n, "text": text})
        # The thread that writes waits by now. These calls do not.
        eventually(lambda: not select.select([], [writer], [], 0)[1], within=10)
        for n in range(3_000):
            log.put({"n": n, "text": text})
        last = reading(reader, lambda read: "dropped" in read[-1])
    (dropped,) = [line for line in last if "dropped" in line]
    assert (dropped["event"], dropped["level"]) == ("lines", "warning")
    assert dropped["dropped"] + len(last) - 1 == FULL // len(text) + 3_000
    assert dropped["dropped"] >= 1_900


def test_what_a_full_disk_does_not_take_is_counted_and_what_comes_later_is_written(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    with Path("/dev/full").open("wb", buffering=0) as full, lines(full.fileno()) as log:
        log.put({"n": 1})
        log.put({"n": 2})
        eventually(lambda: log._dropped >= 2, within=10)
        monkeypatch.setattr(log, "_descriptor", writer)
        log.put({"n": 3})
        read = reading(reader, lambda read: len(read) == 2)
    assert [line.get("n") for line in read] == [3, None]
    assert read[1]["dropped"] >= 2


def test_a_line_that_cannot_be_spelled_is_counted_and_the_next_ones_are_written(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with lines(writer) as log:
        log.put({"text": "\ud800"})
        log.put({"n": 1})
        read = reading(reader, lambda read: len(read) == 2)
    assert [line.get("n") for line in read] == [1, None]
    assert read[1]["dropped"] == 1


def test_at_the_end_all_is_written_and_a_line_after_it_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with lines(writer) as log:
        for n in range(100):
            log.put({"n": n})
    assert len(os.read(reader, 65_536).splitlines()) == 100
    log.put({"n": 100})
    assert json.loads(os.read(reader, 65_536))["n"] == 100


def test_the_end_does_not_wait_for_ever_for_who_does_not_read(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    monkeypatch.setattr("service.lines.END_SECONDS", 0.1)
    with lines(writer) as log:
        log.put({"text": "a" * FULL})
        eventually(lambda: not select.select([], [writer], [], 0)[1], within=10)
    assert log._thread.is_alive()
    os.read(reader, 65_536)
    log._thread.join(10)
    assert not log._thread.is_alive()
