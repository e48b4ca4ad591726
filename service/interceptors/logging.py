"""One structured line for each call. Outermost, so that it sees the final code."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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
        # Bound once: what is bound at each call costs a fifth of the line.
        self._log = structlog.get_logger().bind()

    @contextmanager
    def around(self, method: str, context: Any) -> Iterator[None]:
        start = time.perf_counter()
        fields: dict[str, Any] = {"caller": NOBODY.name}
        reset = _fields.set(fields)
        try:
            yield
        finally:
            _fields.reset(reset)
            code = context.code() or grpc.StatusCode.OK
            self._log.info(
                "call",
                method=method,
                code=code.name,
                duration_ms=round((time.perf_counter() - start) * 1000, 3),
                peer=context.peer(),
                **fields,
            )

    def received(self, request: Any) -> None:
        # Not validated yet.
        if request_id := getattr(request, "request_id", ""):
            add(request_id=request_id[:64])
