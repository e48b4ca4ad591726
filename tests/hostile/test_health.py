"""Health is open to strangers, who read nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.e2e.serving import Service, eventually, serving
from tests.hostile.raw import WATCH, Raw, connections

MEGABYTE = 1024 * 1024


@pytest.fixture
def service(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Service]:
    with serving(new_database(), tmp_path / "log", receive_seconds=2) as service:
        yield service


@pytest.fixture
def health(service: Service) -> Iterator[HealthStub]:
    """Health, once it says SERVING."""
    with grpc.insecure_channel(service.address) as channel:
        health = HealthStub(channel)
        request = HealthCheckRequest()
        eventually(lambda: health.Check(request, timeout=5).status == HealthCheckResponse.SERVING, within=10)
        yield health


@pytest.mark.parametrize("watches", [1, 50])
def test_watchers_that_do_not_read_hold_up_nobody(service: Service, health: HealthStub, watches: int) -> None:
    with connections(service.address, 4, window=0) as strangers:
        for stranger in strangers:
            for _ in range(watches):
                stranger.send(stranger.open(WATCH), b"")
        for _ in range(20):
            assert health.Check(HealthCheckRequest(), timeout=5).status == HealthCheckResponse.SERVING
        watch = health.Watch(HealthCheckRequest(), timeout=5)
        assert next(watch).status == HealthCheckResponse.SERVING
        watch.cancel()


def test_a_host_with_many_connections_ends_no_watch_of_another(new_database: Callable[[], str], tmp_path: Path) -> None:
    most = 20
    with (
        serving(new_database(), tmp_path / "log", workers=1, watches=most) as service,
        grpc.insecure_channel(service.address) as channel,
        ExitStack() as stack,
    ):
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        while next(watch).status != HealthCheckResponse.SERVING:
            pass
        strangers = [stack.enter_context(closing(Raw(service.address, source="127.0.0.2"))) for _ in range(2 * most)]
        for stranger in strangers:
            stranger.send(stranger.open(WATCH), b"")

        def ended() -> int:
            for stranger in strangers:
                stranger.read()
            return sum(bool(stranger.ended) for stranger in strangers)

        # As many as there are too many, or a few more.
        eventually(lambda: ended() > most, within=20)
        assert watch.is_active()


def test_a_watcher_that_does_not_read_is_ended(service: Service, health: HealthStub) -> None:
    del health
    with connections(service.address, 1, window=0) as (stranger,):
        stream = stranger.open(WATCH)
        stranger.send(stream, b"")
        assert stranger.wait_until_ended(stream, 10)


def test_a_watch_of_an_unknown_service_is_told_so_and_its_name_is_not_kept(
    service: Service, health: HealthStub
) -> None:
    before = 0
    for turn in range(4):
        for number in range(500):
            name = f"{turn} {number} ".ljust(16_000, "x")
            watch = health.Watch(HealthCheckRequest(service=name), timeout=5)
            assert next(watch).status == HealthCheckResponse.SERVICE_UNKNOWN
            watch.cancel()
        # What the first turn takes is kept for the next ones.
        before = before or service.memory()
    assert service.memory() - before < 10 * MEGABYTE


def test_a_watch_that_begins_in_a_drain_does_not_hold_it_up(new_database: Callable[[], str], tmp_path: Path) -> None:
    drains = threading.Event()

    def late() -> Iterator[bytes]:
        drains.wait(10)
        yield b""

    with ExitStack() as stack:
        service = stack.enter_context(serving(new_database(), tmp_path / "log", drain_seconds=20))
        channel = stack.enter_context(grpc.insecure_channel(service.address))
        watch: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(WATCH)
        responses = watch(late(), timeout=30)
        time.sleep(0.5)
        os.kill(service.pid, signal.SIGTERM)
        time.sleep(0.5)
        drains.set()
        assert HealthCheckResponse.FromString(next(responses)).status == HealthCheckResponse.NOT_SERVING
        assert list(responses) == []
        # Nothing else is waited for: the drain may take 20 seconds.
        service.wait(10)
