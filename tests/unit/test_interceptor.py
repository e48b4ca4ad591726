"""How interceptors wrap methods, whatever their kind."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest

from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from service.interceptors.errors import Errors
from service.interceptors.interceptor import OPEN_SERVICES, Interceptor
from service.interceptors.streams import Streams


class Recorder(Interceptor):
    """Notes what it sees, in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        self.seen.append((method, context))
        try:
            yield
        except ValueError as error:
            self.seen.append(f"failed: {error}")
            raise
        finally:
            self.seen.append("over")

    def received(self, request: Any) -> None:
        self.seen.append(request)


@dataclass
class Details:
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


METHOD = "/omniflo.templates.v1.FakeService/Fake"
CONTEXT = cast("grpc.ServicerContext", object())


def unary_unary(request: Any, context: Any) -> Any:
    assert context is CONTEXT
    return f"answer to {request}"


def unary_stream(request: Any, context: Any) -> Iterator[Any]:
    assert context is CONTEXT
    yield from (f"answer to {request}", "more")


def stream_unary(requests: Iterator[Any], context: Any) -> Any:
    assert context is CONTEXT
    return f"answer to {', '.join(requests)}"


def stream_stream(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    assert context is CONTEXT
    for request in requests:
        yield f"answer to {request}"


KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Any, list[Any]]] = {
    "unary_unary": (grpc.unary_unary_rpc_method_handler, unary_unary, "a", ["answer to a"]),
    "unary_stream": (grpc.unary_stream_rpc_method_handler, unary_stream, "a", ["answer to a", "more"]),
    "stream_unary": (grpc.stream_unary_rpc_method_handler, stream_unary, ["a", "b"], ["answer to a, b"]),
    "stream_stream": (
        grpc.stream_stream_rpc_method_handler,
        stream_stream,
        ["a", "b"],
        ["answer to a", "answer to b"],
    ),
}

each_kind = pytest.mark.parametrize("kind", KINDS)


def intercepted(interceptor: Interceptor, handler: Any, method: str = METHOD) -> Any:
    return interceptor.intercept_service(lambda _: handler, Details(method))


def call(handler: Any, kind: str, request: Any) -> list[Any]:
    """Call the handler as grpcio does, and answer all that comes back."""
    answer = getattr(handler, kind)(iter(request) if handler.request_streaming else request, CONTEXT)
    return list(answer) if handler.response_streaming else [answer]


@each_kind
def test_a_method_of_each_kind_is_wrapped_as_what_it_is(kind: str) -> None:
    make, behaviour, request, answers = KINDS[kind]
    handler = make(behaviour, request_deserializer=bytes.decode, response_serializer=str.encode)
    recorder = Recorder()
    wrapped = intercepted(recorder, handler)
    assert (wrapped.request_streaming, wrapped.response_streaming) == (
        handler.request_streaming,
        handler.response_streaming,
    )
    assert (wrapped.request_deserializer, wrapped.response_serializer) == (bytes.decode, str.encode)
    assert recorder.seen == []
    assert call(wrapped, kind, request) == answers
    assert recorder.seen == [(METHOD, CONTEXT), *request, "over"]


@each_kind
def test_a_failure_passes_through_what_is_around_it(kind: str) -> None:
    make, _, request, _ = KINDS[kind]

    def unary(*_: Any) -> Any:
        raise ValueError("broken")

    def stream(*_: Any) -> Iterator[Any]:
        yield from ()
        raise ValueError("broken")

    recorder = Recorder()
    wrapped = intercepted(recorder, make(stream if kind.endswith("stream") else unary))
    with pytest.raises(ValueError, match="broken"):
        call(wrapped, kind, request)
    assert recorder.seen[-2:] == ["failed: broken", "over"]


@each_kind
def test_a_refused_message_never_reaches_the_servicer(kind: str) -> None:
    make, behaviour, request, _ = KINDS[kind]

    class Refusing(Recorder):
        def received(self, request: Any) -> None:
            raise ValueError(f"not {request}")

    recorder = Refusing()
    with pytest.raises(ValueError, match="not a"):
        call(intercepted(recorder, make(behaviour)), kind, request)
    assert recorder.seen == [(METHOD, CONTEXT), "failed: not a", "over"]


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_callback_stream_stays_one_and_is_wrapped_as_it_opens(kind: str) -> None:
    make, _, request, _ = KINDS[kind]
    sent: list[Any] = []

    def behaviour(request: Any, context: Any, send_response_callback: Any) -> None:
        assert context is CONTEXT
        send_response_callback("".join(request))

    behaviour.experimental_non_blocking = True  # type: ignore[attr-defined]  # As grpcio's own health does.
    recorder = Recorder()
    wrapped = intercepted(recorder, make(behaviour))
    assert getattr(wrapped, kind).experimental_non_blocking
    incoming = iter(request) if wrapped.request_streaming else request
    assert getattr(wrapped, kind)(incoming, CONTEXT, send_response_callback=sent.append) is None
    assert sent == ["".join(request)]
    assert recorder.seen == [(METHOD, CONTEXT), *request, "over"]


@each_kind
def test_a_method_keeps_the_threads_that_it_asks_for(kind: str) -> None:
    make, behaviour, _, _ = KINDS[kind]

    def own(*arguments: Any) -> Any:
        return behaviour(*arguments)

    with ThreadPoolExecutor(1) as pool:
        own.experimental_thread_pool = pool  # type: ignore[attr-defined]
        for interceptor in (Recorder(), Streams(60)):
            assert getattr(intercepted(interceptor, make(own)), kind).experimental_thread_pool is pool


@pytest.mark.parametrize("service", sorted(OPEN_SERVICES))
def test_health_and_reflection_pass_as_they_are(service: str) -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(unary_unary)
    assert intercepted(Recorder(), handler, f"/{service}/Check") is handler


@pytest.mark.parametrize("method", ["/omniflo-other.Service/Method", "/grpc.health.v1.Healthy/Check"])
def test_every_other_method_is_wrapped(method: str) -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(unary_unary)
    assert intercepted(Recorder(), handler, method) is not handler


def test_a_method_that_nobody_has_stays_unknown() -> None:
    assert intercepted(Recorder(), None) is None


def test_interceptors_wrap_each_other_outermost_first() -> None:
    seen: list[Any] = []
    outer, inner = Recorder(), Recorder()
    outer.seen = inner.seen = seen
    handler: Any = grpc.unary_unary_rpc_method_handler(unary_unary)
    wrapped = intercepted(outer, intercepted(inner, handler))
    assert call(wrapped, "unary_unary", "a") == ["answer to a"]
    assert [entry for entry in seen if entry in {"a", "over"}] == ["a", "a", "over", "over"]


def test_bytes_that_are_no_message_are_not_a_failure_of_the_parser() -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(unary_unary, request_deserializer=GetUserRequest.FromString)
    parse = intercepted(Errors(), handler).request_deserializer
    assert parse(GetUserRequest(id="x").SerializeToString()) == GetUserRequest(id="x")
    assert not isinstance(parse(b"\xff"), GetUserRequest)
