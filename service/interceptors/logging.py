"""One structured line for each call. Outermost, so that it sees the final code."""

import logging
import time
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import grpc
import structlog

from service.actor import NOBODY
from service.interceptors.interceptor import Interceptor

_fields: ContextVar[dict[str, Any]] = ContextVar("fields")


def add(**fields: Any) -> None:
    """Put fields into the line of the call that is running."""
    _fields.get({}).update(fields)


class Logging(Interceptor):
    def __init__(self) -> None:
        # What structlog is configured to do with a line, done without its loggers: under load they take as long again.
        config = structlog.get_config()
        self._processors = config["processors"]
        self._out = config["logger_factory"]()
        self._is_on = structlog.get_logger().is_enabled_for(logging.INFO)

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        return _Call(self, method, context)

    def received(self, request: Any) -> None:
        # Not validated yet.
        if request_id := getattr(request, "request_id", ""):
            add(request_id=request_id[:64])

    def write(self, line: Any) -> None:
        if not self._is_on:
            return
        try:
            for process in self._processors:
                line = process(self._out, "info", line)
        except structlog.DropEvent:
            return
        self._out.msg(line)


class _Call:
    """The time of a call, at whose end its line is written."""

    def __init__(self, log: Logging, method: str, context: Any) -> None:
        self._log = log
        self._method = method
        self._context = context
        self._more: dict[str, Any] = {"caller": NOBODY.name}

    def __enter__(self) -> None:
        self._start = time.perf_counter()
        self._reset = _fields.set(self._more)

    def __exit__(self, *_: object) -> None:
        _fields.reset(self._reset)
        code = self._context.code() or grpc.StatusCode.OK
        self._log.write(
            {
                "event": "call",
                "method": self._method,
                "code": code.name,
                "duration_ms": round((time.perf_counter() - self._start) * 1000, 3),
                "peer": self._context.peer(),
                **self._more,
            }
        )
