"""The log: structured lines on standard error, as JSON or for a terminal.

In JSON every line is one, whoever writes it: what others write, such as grpcio's core, is put into lines of its own.
"""

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from types import TracebackType
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

from service.lines import Line, Lines, Out

_MAX_LINE = 16 * 1024
"""Bytes; what is longer is several lines."""

MOST_OF_LIBRARIES = 100
"""How many lines of libraries are written in a second; a stranger can cause some of them."""

Format = Literal["auto", "json", "text"]

_replica = ""
"""The name of this replica, which every line in JSON has."""

_out: Out | None = None
"""Where `configure` has had the process log to."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


_second = (0, "")
"""The last second that a line was written in, and how that is spelled."""


def _moment(nanoseconds: int) -> str:
    # What structlog writes. Its own processor would take a third of the time of a line, and so would `datetime`.
    global _second  # noqa: PLW0603 - all lines are written in the same one
    seconds, micros = divmod(nanoseconds // 1000, 1_000_000)
    last, text = _second
    if last != seconds:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = (seconds, text)
    return f"{text}.{micros:06d}Z"


def _stamp(_logger: object, level: str, line: Line) -> Line:
    return _stamped(level, line, time.time_ns())


def _stamped(level: str, line: Line, nanoseconds: int) -> Line:
    line["level"] = level
    line["timestamp"] = _moment(nanoseconds)
    if _replica:
        line["replica"] = _replica
    return line


def _json(_logger: object, level: str, line: Line) -> str:
    return _spelled(level, line, time.time_ns()).decode().rstrip("\n")


def _spelled(level: str, line: Line, nanoseconds: int) -> bytes:
    # A line a call: json of the standard library takes four times as long.
    return orjson.dumps(_stamped(level, line, nanoseconds), default=repr, option=orjson.OPT_APPEND_NEWLINE)


def _dropped(count: int) -> str:
    return f"{_json(None, 'warning', {'event': 'lines', 'dropped': count})}\n"


class Stderr:
    """Standard error as it was before `whole`. It reaches a child among the arguments of its process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._number),)

    def open(self) -> Out:
        return Out(os.fdopen(self._number, "w", encoding="utf-8", errors="backslashreplace", closefd=False), _dropped)


def _received(number: Any) -> Stderr:
    return Stderr(number.detach())


_past: Stderr | None = None


def configure(format: Format, level: str, replica: str = "") -> None:
    """Make every line that the process logs one of the format, from the level on; in JSON with the replica's name."""
    global _replica, _out  # noqa: PLW0603 - a process is part of one, and has one log
    as_text = _is_text(format)
    _replica = "" if as_text else replica
    _out = Out(sys.stderr, _dropped) if _past is None else _past.open()
    structlog.configure(
        processors=[_stamp, structlog.dev.ConsoleRenderer()] if as_text else [_json],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # It has what that needs of a file.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _out)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        root.addHandler(_Handler())
    # It makes a trace for each value of a call's metadata that is no UTF-8; all else that it logs is of grpc.aio.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    threading.excepthook = _log_of_thread
    if not as_text:
        sys.excepthook = _log_of_process


def lines() -> Lines | None:
    """Return what writes lines of level info past their threads; None where the process does not log in JSON."""
    is_json = structlog.get_config()["processors"] == [_json]
    return Lines(_out.fileno(), _spelled) if is_json and _out is not None else None


@contextmanager
def whole(format: Format, level: str, replica: str = "") -> Iterator[None]:
    """In JSON, put what this process and its children write to standard error, past the log, into lines of the log."""
    if _is_text(format):
        yield
        return
    number = sys.stderr.fileno()
    reader, writer = os.pipe()
    real = os.dup(number)
    os.dup2(writer, number)
    os.close(writer)
    original = Stderr(real)
    take(original)
    configure(format, level, replica)
    # The pipe itself ends later: a process that helps `multiprocessing` holds it until this one is gone.
    end = os.urandom(16).hex().encode()
    thread = threading.Thread(target=_wrap, args=(reader, original.open(), end), name="stderr", daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.write(number, b"\n%b\n" % end)
        os.dup2(real, number)
        thread.join(1)


def past() -> Stderr | None:
    """Return where this process logs to, past its standard error; None when it is that."""
    return _past


def take(stderr: Stderr | None) -> None:
    """Log there from the next `configure` on."""
    global _past  # noqa: PLW0603 - a process has one standard error
    _past = stderr


def fail(message: str, format: Format) -> None:
    """Say why the process ends: in a line of the log, or to somebody who watches."""
    if _is_text(format):
        sys.stderr.write(f"{message}\n")
    else:
        structlog.get_logger().error("failed", error=message)


def described(fault: BaseException) -> dict[str, Any]:
    """Return what is logged of a fault: its kind and place, and no message, which may quote a request or a row."""
    return {"error": type(fault).__name__, "trace": _trace(fault.__traceback__)}


def _is_text(format: Format) -> bool:
    return format == "text" or (format == "auto" and sys.stderr.isatty())


def _trace(of: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(of)]


def _wrap(reader: int, out: TextIO | Out, end: bytes) -> None:
    """Put every line that comes into one of the log, until one says that it was the last, or the pipe ends."""
    with os.fdopen(reader, "rb") as lines:
        while (line := lines.readline(_MAX_LINE)) and line != end + b"\n":
            # Also what looks like a line of the log, which somebody may have smuggled into it.
            if text := line.rstrip(b"\r\n").decode(errors="backslashreplace"):
                out.write(f"{_json(None, 'error', {'event': 'stderr', 'line': text})}\n")
                out.flush()


class _Handler(logging.Handler):
    """Logs what libraries log with Python's own, as grpcio does of a fault in its threads, and so much in a second."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._count = 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        second, dropped = int(time.monotonic()), self._count - MOST_OF_LIBRARIES
        if second != self._second:
            if dropped > 0:
                structlog.get_logger().warning("library", dropped=dropped)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= MOST_OF_LIBRARIES:
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        # Not its arguments, which may quote a request.
        fields = {"logger": record.name, "text": str(record.msg)}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= described(record.exc_info[1])
        log = structlog.get_logger()
        (log.error if record.levelno >= logging.ERROR else log.warning)("library", **fields)


def _log_of_thread(of: threading.ExceptHookArgs) -> None:
    if of.exc_value is not None:
        name = None if of.thread is None else of.thread.name
        structlog.get_logger().error("thread ended", thread=name, **described(of.exc_value))


def _log_of_process(_type: type[BaseException], fault: BaseException, _trace: TracebackType | None) -> None:
    structlog.get_logger().error("ended", text=str(fault), **described(fault))
