"""Rejects calls while too many wait for a thread. grpcio's own limit would reject probes as well, and say no reason."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import grpc

from service import errors
from service.interceptors.interceptor import OPEN_SERVICES, Interceptor


class Admission(grpc.ServerInterceptor):
    """Ends calls with OVERLOADED on a thread of their own, inside of the interceptors that every call is to pass.

    It stands before all others, and decides on the thread that accepts calls.
    """

    def __init__(self, waiting: Callable[[], int], most: int, *, inside: Sequence[Interceptor], pool: Executor) -> None:
        self._waiting = waiting
        self._most = most
        self._inside = inside
        self._pool = pool
        self._handlers: dict[str, Any] = {}
        self._rejecting: dict[str, Any] = {}

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        # grpcio asks at every call; what is inside always returns the same for a method that is served.
        handler = self._handlers.get(method)
        if handler is None:
            handler = continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = handler
        if self._waiting() < self._most:
            return handler
        if method.split("/")[1] in OPEN_SERVICES:
            return handler
        if method not in self._rejecting:
            self._rejecting[method] = self._handler(method)
        return self._rejecting[method]

    def _handler(self, method: str) -> Any:
        def reject(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            del requests, context
            raise errors.ResourceExhausted("OVERLOADED", "too many calls wait already", retry_seconds=1.0)

        # Its message is not asked for.
        reject.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        reject.takes_one = True  # type: ignore[attr-defined]
        handler: Any = grpc.stream_unary_rpc_method_handler(reject)
        for interceptor in reversed(self._inside):
            handler = interceptor.wrap(method, handler)
        return handler
