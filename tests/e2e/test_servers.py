"""Several servers in one process: none of them has a part in the fate of another."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceStub
from service.config import Settings
from service.server import wiring
from service.server.health import LIVENESS
from tests.e2e.serving import eventually

SECONDS = 10.0
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Running:
    """A server of this process with a channel to each of its listeners."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._server = wiring.build(Settings(auth="none", drain_seconds=1, **settings), url)
        ports = self._server.start(dict.fromkeys(("listen", "health_listen"), "127.0.0.1:0"))
        self.channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in ports.values()]
        self.main = self.channels[0]
        self.address = f"127.0.0.1:{ports['listen']}"

    def is_serving(self) -> bool:
        checks = [HealthStub(channel).Check(HealthCheckRequest(), timeout=SECONDS) for channel in self.channels]
        watches = [next(HealthStub(channel).Watch(HealthCheckRequest(), timeout=SECONDS)) for channel in self.channels]
        return all(answer.status == SERVING for answer in checks + watches)

    def stream(self, held: threading.Event) -> Any:
        """Open a stream of reflection that has had its first answer, and stays open until the event."""

        def requests() -> Iterator[ServerReflectionRequest]:
            yield ServerReflectionRequest(list_services="")
            held.wait(60)

        call = ServerReflectionStub(self.main).ServerReflectionInfo(requests(), timeout=SECONDS)
        assert len(next(call).list_services_response.service) == len(wiring.SERVICES) + 3
        return call

    def end(self) -> None:
        for channel in self.channels:
            channel.close()
        self._server.drain()


@pytest.fixture
def pair(url: str) -> Iterator[tuple[Running, Running]]:
    with ExitStack() as stack:
        both = Running(url), Running(url)
        for one in both:
            stack.callback(one.end)
            eventually(one.is_serving, within=SECONDS)
        yield both


@pytest.mark.parametrize("first", [True, False], ids=["the older", "the newer"])
def test_the_health_of_a_server_goes_on_when_another_has_stopped(url: str, first: bool) -> None:
    both = [Running(url), Running(url)]
    stays, goes = reversed(both) if first else both
    goes.end()
    eventually(stays.is_serving, within=SECONDS)
    stays.end()


def test_a_server_that_drains_says_so_and_accepts_calls_until_the_delay_is_over(url: str) -> None:
    running = Running(url, drain_delay_seconds=2)
    health = HealthStub(running.main)
    eventually(running.is_serving, within=SECONDS)
    watch = health.Watch(HealthCheckRequest(), timeout=SECONDS)
    assert next(watch).status == SERVING
    began = time.monotonic()
    drain = threading.Thread(target=running._server.drain)
    drain.start()
    assert next(watch).status == NOT_SERVING
    # A caller that does not know yet that it should go elsewhere.
    with grpc.insecure_channel(running.address) as late:
        assert UserServiceStub(late).ListUsers(ListUsersRequest(), timeout=SECONDS)
        # Nobody is to kill it, and the database has no say any more.
        assert HealthStub(late).Check(HealthCheckRequest(service=LIVENESS)).status == SERVING
        running._server._health.say(is_serving=True)
        assert HealthStub(late).Check(HealthCheckRequest()).status == NOT_SERVING
    assert list(watch) == []
    drain.join(SECONDS)
    assert time.monotonic() - began >= 2


def test_open_streams_of_one_server_take_no_thread_of_another(pair: tuple[Running, Running]) -> None:
    busy, other = pair
    held = threading.Event()
    try:
        streams = [busy.stream(held) for _ in range(2)]
        other.stream(held)
        assert all(stream.is_active() for stream in streams)
        # The calls and probes of the busy one go on as well.
        assert busy.is_serving()
    finally:
        held.set()


def test_nothing_is_written_on_the_classes_of_grpcio(pair: tuple[Running, Running]) -> None:
    del pair
    for method in (HealthServicer.Check, HealthServicer.Watch, ReflectionServicer.ServerReflectionInfo):
        assert vars(method) == {}


def test_a_server_that_has_stopped_leaves_no_thread_behind(url: str) -> None:
    before = set(threading.enumerate())
    running = Running(url)
    eventually(running.is_serving, within=SECONDS)
    held = threading.Event()
    running.stream(held)
    held.set()
    running.end()
    eventually(lambda: ours(before) == [], within=SECONDS)


def ours(before: set[threading.Thread]) -> list[str]:
    """Return the names of the threads that are new and not grpcio's own."""
    names = [thread.name for thread in set(threading.enumerate()) - before]
    return [name for name in names if not name.startswith(("Thread-", "Dummy-"))]


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", "SERVING"),
        (wiring.SERVICES[0], "SERVING"),
        (LIVENESS, "SERVING"),
        ("of.Nobody", "SERVICE_UNKNOWN"),
    ],
)
def test_health_is_asked_and_watched_by_service(channel: grpc.Channel, service: str, status: str) -> None:
    stub, request = HealthStub(channel), HealthCheckRequest(service=service)
    eventually(lambda: stub.Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING, within=SECONDS)
    watching = stub.Watch(request, timeout=SECONDS)
    assert next(watching).status == HealthCheckResponse.ServingStatus.Value(status)
    watching.cancel()
    if status == "SERVING":
        assert stub.Check(request).status == HealthCheckResponse.SERVING
        return
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(request)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
