"""How an interceptor wraps a method: around the call, and at each message that comes in."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import grpc

OPEN_SERVICES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})
"""grpcio's own services, which are open to everybody and not wrapped. Every other method is."""

Send = Callable[[Any], None]
"""Sends a message of a callback stream, or ends the stream with None."""


class Interceptor(grpc.ServerInterceptor):
    """Wraps the behaviour of a method, whatever its kind.

    grpcio calls `intercept_service` on the one thread that accepts calls, so nothing is done there but the wrapping.
    """

    @functools.cached_property
    def _wrapped(self) -> dict[str, Any]:
        return {}

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Return what a call runs in, from its first message to its last, on the thread that works on it."""
        del method, context
        return nullcontext()

    def around_stream(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Return what a call with a stream runs in, where that is another."""
        return self.around(method, context)

    @contextmanager
    def opening(self, method: str, context: grpc.ServicerContext, send: Send) -> Iterator[Send]:
        """Run what opens a callback stream; yield what sends its messages.

        The stream goes on after the block, on other threads; `context.add_callback` knows of its end.
        """
        with self.around(method, context):
            yield send

    def received(self, request: Any) -> None:
        """Look at a message that came in, before the servicer sees it."""

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
            if handler is not None and method.split("/")[1] not in OPEN_SERVICES:
                handler = self._wrapped[method] = self.wrap(method, handler)
        return handler

    def wrap(self, method: str, handler: Any) -> Any:
        """Return a handler of the same kind."""
        behaviour = behaviour_of(handler)
        incoming = self._each if handler.request_streaming else self._one

        def look(request: Any, context: grpc.ServicerContext, *send: Send) -> Any:
            return behaviour(incoming(request), context, *send)

        # Hooks that are not overridden cost a call nothing.
        looking = behaviour if type(self).received is Interceptor.received else look
        around = self.around_stream if handler.request_streaming or handler.response_streaming else self.around

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            with around(method, context):
                return looking(request, context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with around(method, context):
                yield from looking(request, context)

        def callback(request: Any, context: grpc.ServicerContext, send_response_callback: Send) -> None:
            with self.opening(method, context, send_response_callback) as send:
                looking(request, context, send)

        if is_callback(handler):
            return like(handler, callback)
        if handler.response_streaming:
            return like(handler, stream)
        hooks = (type(self).around, type(self).around_stream)
        return like(handler, looking if hooks == (Interceptor.around, Interceptor.around_stream) else answer)

    def _one(self, request: Any) -> Any:
        self.received(request)
        return request

    def _each(self, requests: Iterator[Any]) -> Iterator[Any]:
        return map(self._one, requests)


def metadata_of(context: grpc.ServicerContext) -> dict[str, list[str | bytes]]:
    """Return the metadata of a call: the values of each key, in the order in which they came."""
    metadata: dict[str, list[str | bytes]] = {}
    for key, value in context.invocation_metadata():
        metadata.setdefault(key, []).append(value)
    return metadata


def behaviour_of(handler: Any) -> Any:
    """Return what a handler calls."""
    return getattr(handler, _kind(handler))


def is_callback(handler: Any) -> bool:
    """Whether the method returns at once, and sends its messages through a callback."""
    return handler.response_streaming and getattr(behaviour_of(handler), "experimental_non_blocking", False)


def like(handler: Any, behaviour: Any, **serializers: Any) -> Any:
    """Return a handler of the same kind that calls something else, in the same way and on the same threads."""
    for name in ("experimental_non_blocking", "experimental_thread_pool"):
        value = getattr(behaviour_of(handler), name, None)
        # A bound method takes no attributes, and has those of its function.
        if value is not None and getattr(behaviour, name, None) is not value:
            setattr(behaviour, name, value)
    make: Callable[..., Any] = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
    kept = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    return make(behaviour, **(kept | serializers))


def _kind(handler: Any) -> str:
    sides = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if is_stream else "unary" for is_stream in sides)
