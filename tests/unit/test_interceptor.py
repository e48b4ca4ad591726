"""How interceptors wrap methods, whatever their kind."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest

from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from service.database.slots import Slots
from service.errors import InvalidArgument
from service.interceptors.interceptor import OPEN_SERVICES, Interceptor, is_stream, taking_a_stream
from service.interceptors.messages import Messages
from service.interceptors.shares import Shares
from service.interceptors.streams import Streams
from service.interceptors.working import Working


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
    handler = make(behaviour)
    recorder = Recorder()
    wrapped = intercepted(recorder, handler)
    assert (wrapped.request_streaming, wrapped.response_streaming) == (
        handler.request_streaming,
        handler.response_streaming,
    )
    assert recorder.seen == []
    assert call(wrapped, kind, request) == answers
    assert recorder.seen == [(METHOD, CONTEXT), "over"]


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
    assert recorder.seen == [(METHOD, CONTEXT), "over"]


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
    assert seen == [(METHOD, CONTEXT), (METHOD, CONTEXT), "over", "over"]


@each_kind
def test_a_request_comes_as_a_stream_where_it_is_taken_as_one(kind: str) -> None:
    make, behaviour, request, answers = KINDS[kind]
    several = kind.startswith("stream")

    def first(requests: Iterator[Any], context: Any) -> Any:
        return behaviour(requests if several else next(requests), context)

    wrapped = intercepted(Recorder(), taking_a_stream(make(behaviour), first))
    assert wrapped.request_streaming
    assert is_stream(wrapped) == (kind != "unary_unary")
    answer = getattr(wrapped, kind.replace("unary_", "stream_", 1))(iter(request), CONTEXT)
    assert (list(answer) if wrapped.response_streaming else [answer]) == answers


def test_bytes_that_are_no_message_are_an_error_of_the_caller() -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(
        lambda request, _: request,
        request_deserializer=GetUserRequest.FromString,
        response_serializer=GetUserRequest.SerializeToString,
    )
    read = intercepted(Messages(), handler).unary_unary
    data = GetUserRequest(id="x").SerializeToString()
    assert read(data, CONTEXT) == data
    with pytest.raises(InvalidArgument) as caught:
        read(b"\xff", CONTEXT)
    assert caught.value.reason == "REQUEST_MALFORMED"


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_stream_has_a_connection_only_while_it_makes_a_message(kind: str) -> None:
    make, behaviour, request, expected = KINDS[kind]
    handler = intercepted(Working(Shares(1)), make(behaviour))
    slots = Slots(1)

    def free() -> bool:
        return bool(slots._free)

    def run() -> list[tuple[Any, bool]]:
        slots.assign()
        given = iter(request) if handler.request_streaming else request
        seen = [(message, free()) for message in getattr(handler, kind)(given, CONTEXT)]
        return [*seen, (None, free())]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result(5) == [*((message, True) for message in expected), (None, True)]


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_a_method_has_a_connection_while_it_works(kind: str) -> None:
    slots, make = Slots(1), KINDS[kind][0]

    def unary(request: Any, context: Any) -> Any:
        del request, context
        return not slots._free

    def stream(request: Any, context: Any) -> Iterator[Any]:
        yield unary(request, context)

    handler = intercepted(Working(Shares(1)), make(unary if kind == "unary_unary" else stream))

    def run() -> list[Any]:
        slots.assign()
        return call(handler, kind, "a")

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result(5) == [True]
