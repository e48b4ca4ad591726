"""How an interceptor wraps a method, whatever its kind."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import grpc

OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""grpcio's own services, which are open to everybody and not wrapped. Every other method is."""

Send = Callable[[Any], None]
"""Sends a message of a callback stream, or ends the stream with None or one of `service.errors`.

A function that it gets is called whenever the reader has room for a message, for the next one, until it returns None.
"""

_KEPT = ("experimental_non_blocking", "experimental_thread_pool")
"""What grpcio looks for on a behaviour."""


class Interceptor(grpc.ServerInterceptor):
    """Wraps the behaviour of a method, whatever its kind.

    grpcio calls `intercept_service` on the one thread that accepts calls, so nothing is done there but the wrapping.
    """

    @functools.cached_property
    def _wrapped(self) -> dict[str, Any]:
        return {}

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[object]:
        """Return what a call runs in, from its beginning to its end, on the thread that works on it."""
        del method, context
        return nullcontext()

    def around_stream(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[object]:
        """Return what a call with a stream runs in, where that is another."""
        return self.around(method, context)

    @contextmanager
    def opening(self, method: str, context: grpc.ServicerContext, send: Send) -> Iterator[Send]:
        """Run what opens a callback stream; yield what sends its messages.

        The stream goes on after the block, on other threads; `context.add_callback` knows of its end.
        """
        with self.around(method, context):
            yield send

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        # grpcio asks at every call; the inner handler is built once and kept.
        handler = self._wrapped.get(method)
        if handler is None:
            handler = continuation(handler_call_details)
            if handler is not None and self.wraps(method):
                handler = self._wrapped[method] = self.wrap(method, handler)
        return handler

    def wraps(self, method: str) -> bool:
        """Whether calls of the method pass through this interceptor."""
        return method.split("/")[1] not in OPEN_SERVICES

    def wrap(self, method: str, handler: Any) -> Any:
        """Return a handler of the same kind."""
        behaviour = behaviour_of(handler)
        around = self.around_stream if is_stream(handler) else self.around

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            with around(method, context):
                return behaviour(request, context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with around(method, context):
                yield from behaviour(request, context)

        def callback(request: Any, context: grpc.ServicerContext, send_response_callback: Send) -> None:
            with self.opening(method, context, send_response_callback) as send:
                behaviour(request, context, send)

        return like(handler, callback if is_callback(handler) else stream if handler.response_streaming else answer)


def metadata_of(context: grpc.ServicerContext) -> dict[str, list[str | bytes]]:
    """Return the metadata of a call: the values of each key, in the order in which they came."""
    metadata: dict[str, list[str | bytes]] = {}
    for key, value in context.invocation_metadata():
        metadata.setdefault(key, []).append(value)
    return metadata


def behaviour_of(handler: Any) -> Any:
    """Return what a handler calls."""
    return getattr(handler, _kind(handler.request_streaming, handler.response_streaming))


def is_callback(handler: Any) -> bool:
    """Whether the method returns at once, and sends its messages through a callback."""
    return handler.response_streaming and getattr(behaviour_of(handler), "experimental_non_blocking", False)


def is_stream(handler: Any) -> bool:
    """Whether a call has several messages on one of its sides."""
    takes_several = handler.request_streaming and not getattr(behaviour_of(handler), "takes_one", False)
    return takes_several or handler.response_streaming


def like(handler: Any, behaviour: Any) -> Any:
    """Return a handler of bytes that calls something else, in the same way and on the same threads."""
    return _made(handler, behaviour, handler.request_streaming)


def taking_a_stream(handler: Any, behaviour: Any) -> Any:
    """Return a handler as `like`, to which the request comes as a stream, also where it is a single one."""
    if not handler.request_streaming:
        behaviour.takes_one = True
    return _made(handler, behaviour, True)


def _made(handler: Any, behaviour: Any, request_streaming: bool) -> Any:
    before = behaviour_of(handler)
    for name in (*_KEPT, "takes_one"):
        if (value := getattr(before, name, None)) is not None:
            setattr(behaviour, name, value)
    kind = _kind(request_streaming, handler.response_streaming)
    make: Callable[..., Any] = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(behaviour)


def _kind(*sides: bool) -> str:
    return "_".join("stream" if is_stream else "unary" for is_stream in sides)
