"""One structured line for each call, and one more where a stream begins. Outermost, so that it sees the final code."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import grpc
import structlog

from service import logs, traces
from service.actor import NOBODY
from service.interceptors.interceptor import Interceptor, Send

_fields: ContextVar[dict[str, Any]] = ContextVar("fields")


def add(**fields: Any) -> None:
    """Put fields into the line of the call that is running."""
    _fields.get({}).update(fields)


def adding() -> Callable[..., None]:
    """Return what puts fields into the line of the call that is running, later and from any thread."""
    return _fields.get({}).update


class Observer(Protocol):
    """Is told of every call. Methods are full paths, and codes are spelled as in `grpc.StatusCode`."""

    def began(self, method: str) -> None: ...

    def ended(self, method: str, code: str, seconds: float, fields: Mapping[str, Any]) -> None:
        """See the end of a call, with the fields of its line."""


class Logging(Interceptor):
    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.observers = observers
        # What structlog is configured to do with a line, done without its loggers: under load they take as long again.
        config = structlog.get_config()
        self._processors = config["processors"]
        self._out = config["logger_factory"]()
        self._is_on = structlog.get_logger().is_enabled_for(logging.INFO)
        self._lines = logs.lines()

    def start(self) -> None:
        if self._lines is not None:
            self._lines.start()

    def stop(self) -> None:
        if self._lines is not None:
            self._lines.stop()

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        return _Call(self, method, context)

    def around_stream(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        self._write_beginning(method, context)
        return _Call(self, method, context)

    @contextmanager
    def opening(self, method: str, context: grpc.ServicerContext, send: Send) -> Iterator[Send]:
        self._write_beginning(method, context)
        call = _Call(self, method, context)

        def sending(message: Any) -> None:
            call.is_over = call.is_over or message is None
            send(message)

        with call.begun():
            if not context.add_callback(call.end):
                call.end()
            yield sending

    def _write_beginning(self, method: str, context: grpc.ServicerContext) -> None:
        self.write({"event": "stream", "method": method, "peer": context.peer()})

    def write(self, line: Any) -> None:
        if not self._is_on:
            return
        if self._lines is not None:
            self._lines.put(line)
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
        self.is_over = False
        """Whether the service has ended it, with or without an error; otherwise its caller has."""
        self._span: traces.Span | None = None

    def __enter__(self) -> None:
        self._start = time.perf_counter()
        for observer in self._log.observers:
            observer.began(self._method)
        self._reset = _fields.set(self._more)
        parent = traces.parent_of(self._context.invocation_metadata())
        tracer = traces.tracer()
        if tracer is not None:
            self._span = tracer.call(self._method, parent)
            self._more.update(self._span.fields)
            self._span.enter()
        elif parent is not None:
            self._more["trace_id"] = parent.trace_id

    def _leave(self) -> None:
        if self._span is not None:
            self._span.leave()
        _fields.reset(self._reset)

    def __exit__(self, *_: object) -> None:
        self._leave()
        self.is_over = self._context.is_active()
        self.end()

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Begin the call; the fields of its line are those of the block."""
        self.__enter__()
        try:
            yield
        finally:
            self._leave()

    def end(self) -> None:
        seconds = time.perf_counter() - self._start
        code = self._context.code()
        name = code.name if code is not None else "OK" if self.is_over else "CANCELLED"
        for observer in self._log.observers:
            observer.ended(self._method, name, seconds, self._more)
        if self._span is not None:
            self._span.end(name, self._more)
        self._log.write(
            {
                "event": "call",
                "method": self._method,
                "code": name,
                "duration_ms": round(seconds * 1000, 3),
                "peer": self._context.peer(),
                **self._more,
            }
        )
