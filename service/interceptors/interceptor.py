"""How an interceptor wraps a method: around the call, and at each message that comes in."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc

PREFIX = "/omniflo."
"""Health and reflection are grpcio's own, and pass as they are."""


class Interceptor(grpc.ServerInterceptor):
    """Wraps the behaviour of a method, whatever its kind.

    grpcio calls `intercept_service` on the one thread that accepts calls, so nothing is done there but the wrapping.
    """

    @functools.cached_property
    def _wrapped(self) -> dict[str, Any]:
        return {}

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Answer what the whole call runs in."""
        del method, context
        return nullcontext()

    def received(self, request: Any) -> None:
        """Look at a message that came in, before the servicer sees it."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        # grpcio asks at every call; what is inside of this one is asked once.
        handler = self._wrapped.get(method)
        if handler is None:
            handler = continuation(handler_call_details)
            if handler is not None and method.startswith(PREFIX):
                handler = self._wrapped[method] = self.wrap(method, handler)
        return handler

    def wrap(self, method: str, handler: Any) -> Any:
        """Answer a handler of the same kind; one of a kind that cannot be wrapped raises."""
        make, behaviour = _kind(handler)
        if getattr(behaviour, "experimental_non_blocking", False):
            raise TypeError(f"{method} answers through a callback, which cannot be wrapped")
        incoming = self._each if handler.request_streaming else self._one

        def look(request: Any, context: grpc.ServicerContext) -> Any:
            return behaviour(incoming(request), context)

        # What has nothing to do costs a call nothing.
        looking = behaviour if type(self).received is Interceptor.received else look

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            with self.around(method, context):
                return looking(request, context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self.around(method, context):
                yield from looking(request, context)

        unary = looking if type(self).around is Interceptor.around else answer
        return make(
            stream if handler.response_streaming else unary,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _one(self, request: Any) -> Any:
        self.received(request)
        return request

    def _each(self, requests: Iterator[Any]) -> Iterator[Any]:
        return map(self._one, requests)


def metadata_of(context: grpc.ServicerContext) -> dict[str, list[str | bytes]]:
    """Answer the metadata of a call: the values of each key, in the order in which they came."""
    metadata: dict[str, list[str | bytes]] = {}
    for key, value in context.invocation_metadata():
        metadata.setdefault(key, []).append(value)
    return metadata


def _kind(handler: Any) -> tuple[Callable[..., Any], Any]:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler, handler.unary_unary
        case False, True:
            return grpc.unary_stream_rpc_method_handler, handler.unary_stream
        case True, False:
            return grpc.stream_unary_rpc_method_handler, handler.stream_unary
        case _:
            return grpc.stream_stream_rpc_method_handler, handler.stream_stream
