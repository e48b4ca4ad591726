"""The format and the level of the log."""

import errno
import json
import os
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from service import logs


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def logged(monkeypatch: pytest.MonkeyPatch, stderr: StringIO, format_: logs.Format, level: str) -> list[str]:
    """Log one line of each level and answer what came out."""
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure(format_, level)
    log: Any = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("call", method="/m", text="two\nlines")
    return stderr.getvalue().splitlines()


@pytest.mark.parametrize(
    ("stderr", "format_", "is_json"),
    [
        (StringIO, "json", True),
        (Terminal, "json", True),
        (StringIO, "text", False),
        (Terminal, "text", False),
        (StringIO, "auto", True),
        (Terminal, "auto", False),
    ],
)
def test_lines_are_json_unless_text_is_asked_for_or_somebody_watches(
    monkeypatch: pytest.MonkeyPatch, stderr: type[StringIO], format_: logs.Format, is_json: bool
) -> None:
    line = logged(monkeypatch, stderr(), format_, "error")[0]
    if not is_json:
        assert not line.startswith("{")
        assert "call" in line
        assert "/m" in line
        return
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "call", "level": "error", "method": "/m", "text": "two\nlines"}


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_left_out(monkeypatch: pytest.MonkeyPatch, level: str, heard: list[str]) -> None:
    lines = logged(monkeypatch, StringIO(), "json", level)
    assert [json.loads(line)["level"] for line in lines] == heard


def test_what_is_put_into_lines_ends_with_the_service_though_another_process_still_holds_the_pipe() -> None:
    reader, writer = os.pipe()
    out = StringIO()
    wrapping = threading.Thread(target=logs._wrap, args=(reader, out, b"the end"), daemon=True)
    wrapping.start()
    try:
        os.write(writer, b"one\nthe end, nearly\n\nthe end\nnobody's\n")
        wrapping.join(30)
        assert not wrapping.is_alive()
    finally:
        os.close(writer)
    assert [json.loads(line)["line"] for line in out.getvalue().splitlines()] == ["one", "the end, nearly"]


def test_a_fault_that_ends_a_thread_is_a_line_with_its_place_and_without_its_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure("json", "info")
    # A thread that ends by `sys.exit` has no fault.
    for fault in (None, ValueError("of a request")):
        logs._log_of_thread(threading.ExceptHookArgs((ValueError, fault, None, threading.Thread(name="feed"))))
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["thread"], line["error"]) == ("thread ended", "feed", "ValueError")
    assert "of a request" not in out.getvalue()


def test_a_fault_that_ends_the_process_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure("json", "info")
    logs._log_of_process(ValueError, ValueError("what happened"), None)
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["error"], line["text"]) == ("ended", "ValueError", "what happened")


class Full(StringIO):
    """A file on a disk that is full for a while."""

    is_full = True

    def flush(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left on device")


def test_a_disk_that_is_full_fails_nobody_and_what_it_did_not_take_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Full()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure("json", "info")
    log: Any = structlog.get_logger()
    for _ in range(3):
        log.error("call")
    out.is_full = False
    log.error("last")
    log.error("none is lost now")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line.get("dropped")) for line in told][3:] == [
        ("last", None),
        ("lines", 3),
        ("none is lost now", None),
    ]
