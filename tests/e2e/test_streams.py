"""Streams behind all interceptors: none holds a thread that others need, and each one ends."""

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from service.actor import NOBODY, Actor, acting_as
from service.errors import NotFound
from service.identity.identities import Identities
from service.interceptors import receiving
from service.interceptors.authentication import Authentication
from service.interceptors.deadlines import Deadlines
from service.interceptors.errors import Errors
from service.interceptors.logging import Logging
from service.interceptors.messages import Messages
from service.interceptors.receiving import Receiving
from service.interceptors.streams import CHECK_SECONDS, Streams
from service.server.pool import Pool
from tests.conftest import Failure
from tests.e2e.serving import eventually
from tests.hostile.raw import Raw, connections

SERVICE = "another.v1.StreamService"
"""Of no package of this project: what is not health or reflection passes through the interceptors all the same."""


class Servicer:
    """One method of each kind that streams. Users are what they send."""

    def __init__(self) -> None:
        self.sends: list[Callable[[Any], None]] = []
        self.opening: Callable[[], None] = lambda: None

    def watch(self, request: GetUserRequest, _: Any, send_response_callback: Any) -> None:
        if request.id == "nobody":
            raise NotFound("USER_NOT_FOUND", "the user does not exist")
        if request.id == "broken":
            raise ValueError("broken")
        self.opening()
        self.sends.append(send_response_callback)
        send_response_callback(User(id=request.id))

    watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def read(self, request: GetUserRequest, _: Any) -> Iterator[User]:
        while True:
            yield User(id=request.id)
            time.sleep(0.01)

    def write(self, requests: Iterator[GetUserRequest], _: Any) -> User:
        return User(id=",".join(request.id for request in requests))

    def get(self, request: GetUserRequest, _: Any) -> User:
        return User(id=request.id)


class Kept(Logging):
    """Keeps the lines that it would write."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def write(self, line: Any) -> None:
        self.lines.append(line)


class Running:
    """A server with one thread to work on."""

    def __init__(self, seconds: float, receive_seconds: float, identities: Identities | None, most: int) -> None:
        self.servicer, self.streams, self._log = Servicer(), Streams(seconds), Kept()
        paths = (f"/{SERVICE}/{name}" for name in ("Watch", "Read", "Write", "Get"))
        self.receiving = Receiving(
            dict.fromkeys(paths, 1000), seconds=receive_seconds, most=8, most_open=most, senders=Pool(1, 9, "send")
        )
        self.server = grpc.server(
            ThreadPoolExecutor(1),
            interceptors=[
                self._log,
                Errors(),
                Deadlines(5, seconds),
                self.streams,
                Authentication(identities, trusts_xfcc=False, cache=None),
                self.receiving,
                Messages(),
            ],
        )
        parse, write = GetUserRequest.FromString, User.SerializeToString
        self.server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        "Watch": grpc.unary_stream_rpc_method_handler(self.servicer.watch, parse, write),
                        "Read": grpc.unary_stream_rpc_method_handler(self.servicer.read, parse, write),
                        "Write": grpc.stream_unary_rpc_method_handler(self.servicer.write, parse, write),
                        "Get": grpc.unary_unary_rpc_method_handler(self.servicer.get, parse, write),
                    },
                )
            ]
        )
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.streams.start()
        self.receiving.start()
        self.address = f"127.0.0.1:{port}"
        self._channel = grpc.insecure_channel(self.address)
        names = (f"/{SERVICE}/{name}" for name in ("Watch", "Read", "Write", "Get"))
        serialize, make = GetUserRequest.SerializeToString, User.FromString
        self.watch = self._channel.unary_stream(next(names), serialize, make)
        self.read = self._channel.unary_stream(next(names), serialize, make)
        self.write = self._channel.stream_unary(next(names), serialize, make)
        self.get = self._channel.unary_unary(next(names), serialize, make)

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self._log.lines if line["event"] == event]

    def stop(self) -> None:
        self._channel.close()
        self.streams.stop()
        self.receiving.stop()
        assert self.server.stop(0).wait(10), "a call does not end"


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(
        seconds: float = 60, receive_seconds: float = 60, identities: Identities | None = None, most: int = 1000
    ) -> Running:
        started.append(Running(seconds, receive_seconds, identities, most))
        return started[-1]

    yield start
    for running in started:
        running.stop()


def ended(stream: Any) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    return Failure(caught.value)


def never() -> Iterator[GetUserRequest]:
    yield GetUserRequest(id="first")
    threading.Event().wait()


def test_many_streams_leave_the_one_thread_to_others(run: Callable[..., Running]) -> None:
    running = run()
    streams = [running.watch(GetUserRequest(id=f"u{number}")) for number in range(20)]
    assert [next(stream).id for stream in streams] == [f"u{number}" for number in range(20)]
    assert running.get(GetUserRequest(id="x"), timeout=5).id == "x"
    for send in running.servicer.sends:
        send(User(id="more"))
        send(None)
    assert [[user.id for user in stream] for stream in streams] == [["more"]] * 20


def test_a_stream_is_logged_at_its_beginning_and_at_its_end(run: Callable[..., Running]) -> None:
    running = run()
    stream = running.watch(GetUserRequest(id="u"))
    next(stream)
    (beginning,) = eventually(lambda: running.lines("stream"), within=5)
    assert beginning["method"] == f"/{SERVICE}/Watch"
    assert running.lines("call") == []
    running.servicer.sends[0](None)
    (end,) = eventually(lambda: running.lines("call"), within=5)
    assert (end["method"], end["code"], end["caller"]) == (f"/{SERVICE}/Watch", "OK", "anonymous")


@pytest.mark.parametrize("name", ["watch", "read"])
def test_a_stream_that_its_caller_cancels_is_logged_as_cancelled(run: Callable[..., Running], name: str) -> None:
    running = run()
    stream = getattr(running, name)(GetUserRequest(id="u"))
    next(stream)
    stream.cancel()
    (end,) = eventually(lambda: running.lines("call"), within=5)
    assert end["code"] == "CANCELLED"


@pytest.mark.parametrize("name", ["watch", "read"])
def test_a_stream_has_a_longest_time(run: Callable[..., Running], name: str) -> None:
    failure = ended(getattr(run(seconds=0.2), name)(GetUserRequest(id="u")))
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "STREAM_ENDED")


def test_a_caller_that_sends_nothing_more_is_ended_as_well(run: Callable[..., Running]) -> None:
    running = run(seconds=0.2)
    call = running.write.future(never())
    with pytest.raises(grpc.RpcError) as caught:
        call.result(timeout=3 * CHECK_SECONDS + 2)
    assert caught.value.code() == StatusCode.CANCELLED
    eventually(lambda: running.lines("call"), within=5)
    assert running.get(GetUserRequest(id="x"), timeout=5).id == "x"


@pytest.mark.parametrize("name", ["watch", "read"])
def test_a_drain_ends_streams(run: Callable[..., Running], name: str) -> None:
    running = run()
    stream = getattr(running, name)(GetUserRequest(id="u"))
    next(stream)
    running.streams.stop()
    failure = ended(stream)
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "STREAM_ENDED")
    assert ended(getattr(running, name)(GetUserRequest(id="u"))).reason == "STREAM_ENDED"


def test_what_fails_as_a_stream_opens_is_an_error_like_any_other(run: Callable[..., Running]) -> None:
    running = run()
    assert ended(running.watch(GetUserRequest(id="nobody"))).reason == "USER_NOT_FOUND"
    assert ended(running.watch(GetUserRequest(id="broken"))).reason == "INTERNAL"
    assert list(ended(running.watch(GetUserRequest())).violations) == ["key"]


@pytest.mark.parametrize("drains_first", [True, False])
def test_a_stream_that_fails_as_the_server_drains_has_one_end(run: Callable[..., Running], drains_first: bool) -> None:
    running = run()
    streams: list[Any] = []

    def fail() -> None:
        streams.extend(running.streams._all())
        if drains_first:
            streams[0].end()
        raise NotFound("USER_NOT_FOUND", "the user does not exist")

    running.servicer.opening = fail
    assert ended(running.watch(GetUserRequest(id="u"))).reason == ("STREAM_ENDED" if drains_first else "USER_NOT_FOUND")
    streams[0].end()


def test_a_fault_as_the_server_drains_is_logged(run: Callable[..., Running]) -> None:
    running = run()

    def fail() -> None:
        running.streams._all()[0].end()
        raise LookupError("of a drain")

    running.servicer.opening = fail
    with capture_logs() as lines:
        assert ended(running.watch(GetUserRequest(id="u"))).reason == "STREAM_ENDED"
        eventually(lambda: [line for line in lines if line.get("error") == "LookupError"], within=5)


def test_methods_of_any_package_ask_who_calls(run: Callable[..., Running]) -> None:
    running = run(identities=Identities(sessions=None, admins=(), services={}, proxies=()))
    for stream in (running.watch, running.read):
        assert ended(stream(GetUserRequest(id="u"))).reason == "UNAUTHENTICATED"
    with pytest.raises(grpc.RpcError) as caught:
        running.get(GetUserRequest(id="u"))
    assert Failure(caught.value).reason == "UNAUTHENTICATED"


def test_no_more_than_so_many_responses_wait_to_be_read(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SMALL_BYTES", 0)
    monkeypatch.setattr(receiving, "MAX_UNREAD", 3)
    running = run()
    with connections(running.address, 1, window=0) as (stranger,):
        streams = [stranger.open(f"/{SERVICE}/Get") for _ in range(4)]
        for stream in streams:
            stranger.send(stream, GetUserRequest(id="u").SerializeToString())
        assert stranger.wait_until_ended(streams[0], 10)
        stranger.read(0.5)
        assert stranger.ended == {streams[0]}


def test_calls_that_begin_while_others_are_looked_at_disturb_nobody(run: Callable[..., Running]) -> None:
    receiving_ = run().receiving
    calls: dict[Any, Any] = receiving_._waiting
    with acting_as(Actor("user:u")):
        calls.update((object(), receiving._Wait(None)) for _ in range(100))

    def begin(phase: str, info: object) -> None:
        # The garbage collector runs wherever something is made, and lets other threads run.
        del phase, info
        calls[object()] = next(iter(calls.values()))

    threshold = gc.get_threshold()
    gc.callbacks.append(begin)
    gc.set_threshold(1)
    try:
        receiving_._make_room(calls, Counter())
        time.sleep(2 * receiving.CHECK_SECONDS)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(begin)
        calls.clear()
    assert receiving_._thread.is_alive()


def test_two_that_make_room_at_the_same_time_end_two(run: Callable[..., Running]) -> None:
    class Raced(dict[Any, Any]):
        """Another thread ends the oldest call while this one looks."""

        def copy(self) -> dict[Any, Any]:
            found = super().copy()
            self.pop("first", None)
            return found

    cancelled: list[str] = []

    class Context(str):
        """A call, with a connection of its own."""

        __slots__ = ()

        def peer(self) -> str:
            return f"ipv4:192.0.2.1:{self}"

        def cancel(self) -> None:
            cancelled.append(self)

    contexts = [Context(name) for name in ("first", "second", "third")]
    with acting_as(NOBODY):
        calls = Raced((context, receiving._Wait(context)) for context in contexts)
    run().receiving._bound(calls, 1)
    assert cancelled == ["second"]
    assert list(calls) == ["third"]


def test_of_small_responses_each_caller_has_its_part(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_UNREAD_SMALL", 6)
    running = run()
    with connections(running.address, 2, window=0) as (many, few):
        for stranger, count in ((few, 2), (many, 5)):
            streams = [stranger.open(f"/{SERVICE}/Get") for _ in range(count)]
            for stream in streams:
                stranger.send(stream, GetUserRequest(id="u").SerializeToString())
            few.read(0.2)
        assert many.wait_until_ended(streams[0], 10)
        many.read(0.5)
        assert many.ended == {streams[0]}
        assert few.ended == set()


def test_a_host_with_many_connections_has_the_part_of_one_caller(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_UNREAD_SMALL", 6)
    running = run()
    with ExitStack() as stack:
        one, *many = [
            stack.enter_context(closing(Raw(running.address, window=0, source=source)))
            for source in ("127.0.0.2", *["127.0.0.1"] * 7)
        ]
        for stranger in (one, *many):
            stranger.send(stranger.open(f"/{SERVICE}/Get"), GetUserRequest(id="u").SerializeToString())
            one.read(0.05)

        def ended() -> int:
            for stranger in many:
                stranger.read()
            return sum(bool(stranger.ended) for stranger in many)

        # Of eight, six may be unread.
        eventually(lambda: ended() >= 2, within=10)
        one.read(0.5)
        assert one.ended == set()


def test_the_caller_of_most_callback_streams_loses_the_oldest(run: Callable[..., Running]) -> None:
    running = run(most=4)
    watch = running.watch(GetUserRequest(id="other"))
    assert next(watch).id == "other"
    with connections(running.address, 1) as (stranger,):
        streams = []
        for count in range(2, 6):
            streams.append(stranger.open(f"/{SERVICE}/Watch"))
            stranger.send(streams[-1], GetUserRequest(id="u").SerializeToString())
            eventually(lambda: len(running.servicer.sends) == count, within=5)  # noqa: B023 - it is over before the next
        assert stranger.wait_until_ended(streams[0], 10)
        stranger.read(0.5)
        assert stranger.ended == {streams[0]}
        assert watch.is_active()
    watch.cancel()
