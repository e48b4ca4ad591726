"""The log: structured lines on standard error, as JSON or for a terminal."""

import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog

Format = Literal["auto", "json", "text"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _json(line: Any, **options: Any) -> str:
    # A line a call: json of the standard library takes four times as long.
    return orjson.dumps(line, **options).decode()


def _stamp(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # What structlog's own writes, which takes a third of the time of a line.
    line["timestamp"] = f"{datetime.now(UTC).replace(tzinfo=None).isoformat()}Z"
    return line


def configure(format: Format, level: str) -> None:
    """Make every line that the process logs one of the format, from the level on."""
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamp,
            structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer(_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
