"""What strangers, and callers who may only read, hold of a server: others notice nothing of it."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import grpc
import pytest

from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, ListTemplatesRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from tests import scale
from tests.conftest import Failure
from tests.e2e.serving import Service, eventually
from tests.hostile.conftest import MEGABYTE, RECEIVE_SECONDS, World, others
from tests.hostile.raw import CHECK, GET, UPDATE, Raw, connections

pytestmark = pytest.mark.timed

KINDS = ("task", "fd")


def held(service: Service) -> tuple[int, int]:
    """Return the threads of the workers, and their open files."""
    threads, files = (sum(len([*Path(f"/proc/{pid}/{kind}").iterdir()]) for pid in service.workers()) for kind in KINDS)
    return threads, files


@contextmanager
def silent(world: World, address: str, path: str, *metadata: tuple[str, str]) -> Iterator[None]:
    """Hold 500 calls without a message, and open others for those that the server ends, on one connection at a time."""
    with connections(address, 10) as opened:
        turns = itertools.cycle(opened)
        for _ in opened:
            fill(next(turns), path, metadata)
        with again_and_again(lambda: fill(next(turns), path, metadata), world.pace / len(opened)):
            yield
        # A connection without room takes no calls, and nobody is attacked.
        assert sum(one.refused for one in opened) == 0


def fill(one: Raw, path: str, metadata: tuple[tuple[str, str], ...]) -> None:
    one.read()
    while not one.is_closed and one.held() < 50:
        one.open(path, *metadata)


@contextmanager
def again_and_again(action: Callable[[], None], pace: float) -> Iterator[None]:
    """Do it, and do it again in the block after so many seconds each time."""
    action()
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(pace):
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def uploads(world: World, *metadata: tuple[str, str]) -> Iterator[None]:
    """Hold 200 messages of a megabyte of which a half has come."""
    with connections(world.address, 10) as opened:
        streams = [(one, one.open(UPDATE, *metadata)) for one in opened for _ in range(20)]
        for one, stream in streams:
            if stream not in one.ended and not one.is_closed:
                one.send(stream, b"\0" * (MEGABYTE // 2), size=MEGABYTE)
            one.read()
        yield


@contextmanager
def idle(world: World) -> Iterator[None]:
    """Hold 1,000 connections that say nothing after their preface."""
    with connections(world.address, 500), connections(world.health, 500):
        yield


@contextmanager
def unread(world: World) -> Iterator[None]:
    """Hold 1,000 responses of a megabyte that nobody reads."""
    request = GetTemplateRequest(id="large").SerializeToString()
    with connections(world.address, 10, window=0) as opened:
        for one in opened:
            for _ in range(100):
                one.read()
                if not one.is_closed:
                    one.send(one.open(GET, world.auth(world.reader)), request)
        yield


@contextmanager
def searches(world: World) -> Iterator[None]:
    """Keep 16 searches for as many short words as there may be running."""
    request = ListTemplatesRequest(query=" ".join("0123456789abcdef"))
    stopped = threading.Event()
    ended: list[str] = []

    def search() -> None:
        with grpc.insecure_channel(world.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            find = TemplateServiceStub(channel).ListTemplates
            while not stopped.is_set():
                try:
                    find(request, metadata=(world.auth(world.searcher),), timeout=10)
                    ended.append("OK")
                except grpc.RpcError as error:
                    ended.append(Failure(error).reason)

    threads = [threading.Thread(target=search) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert set(ended) <= {"OK", "OVERLOADED"}


Attack = Callable[[World], AbstractContextManager[None]]

ATTACKS: dict[str, Attack] = {
    "silent strangers": lambda world: silent(world, world.address, GET),
    # What they open in vain costs more than with strangers. At the pace of those it would be a flood: see SECURITY.md.
    "silent readers": lambda world: silent(
        world._replace(pace=max(world.pace, 1.0)), world.address, GET, world.auth(world.reader)
    ),
    "silent probes": lambda world: silent(world, world.address, CHECK),
    "silent probes elsewhere": lambda world: silent(world, world.health, CHECK),
    "unfinished uploads of strangers": uploads,
    "unfinished uploads of readers": lambda world: uploads(world, world.auth(world.reader)),
    "idle connections": idle,
    "unread responses": unread,
    "searches": searches,
}


@contextmanager
def all_of_them(world: World) -> Iterator[None]:
    # At the pace of one alone they would use up both cores. The threads that attack stay on one of them.
    slower = world._replace(pace=2.0)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        with ExitStack() as stack:
            for attack in ATTACKS.values():
                stack.enter_context(attack(slower))
                # What is held is the matter here. All of it opened within a second would be a flood.
                time.sleep(1)
            yield
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.soak
@pytest.mark.parametrize("attack", ATTACKS)
def test_others_notice_nothing(world: World, attack: str) -> None:
    attacked_without_a_trace(world, ATTACKS[attack])


@pytest.mark.soak
@pytest.mark.skipif(not scale.IS_SOAK, reason="takes more than a second of processor time a second")
def test_others_notice_nothing_of_all_at_once(world: World) -> None:
    attacked_without_a_trace(world, all_of_them)


def attacked_without_a_trace(world: World, attack: Attack) -> None:
    before = world.service.memory()
    threads, files = held(world.service)
    with others(world) as noticed, attack(world):
        time.sleep(scale.HOSTILE_SECONDS)
        after = world.service.memory()
    assert noticed.failures == []
    assert len(noticed.seconds) > 10
    assert max(noticed.probes) < 1
    assert after - before <= 200 * MEGABYTE
    with others(world) as noticed:
        time.sleep(1)
    assert noticed.failures == []

    def is_back() -> bool:
        # Probes have threads of their own, which stay: 16 for each listener.
        now_threads, now_files = held(world.service)
        return now_threads <= threads + 32 and now_files <= files + 20

    eventually(is_back, within=5)


@pytest.mark.parametrize("ends", ["server", "caller"])
@pytest.mark.parametrize("kind", ["silent reader", "silent probe", "silent probe elsewhere", "unfinished upload"])
def test_a_connection_takes_calls_after_others_were_ended(world: World, kind: str, ends: str) -> None:
    address = world.health if kind.endswith("elsewhere") else world.address
    path = CHECK if "probe" in kind else UPDATE if kind == "unfinished upload" else GET
    request = b"" if "probe" in kind else GetTemplateRequest(id="small").SerializeToString()
    # As a proxy has one, for all its callers. It has room for a hundred calls at once.
    with connections(address, 1) as (one,):
        for _ in range(2):
            streams = [one.open(path, world.auth(world.reader)) for _ in range(80)]
            if kind == "unfinished upload":
                for stream in streams:
                    one.send(stream, b"\0", size=2)
            if ends == "caller":
                one.read(0.5)
                for stream in streams:
                    one.reset(stream)
            assert all(one.wait_until_ended(stream, 2 * RECEIVE_SECONDS) for stream in streams)
        honest = one.open(CHECK if "probe" in kind else GET, world.auth(world.reader))
        one.send(honest, request)
        assert one.wait_until_answered(honest, 5)
        assert not one.is_closed


@pytest.mark.parametrize("probes", [True, False])
def test_small_responses_that_nobody_reads_end(world: World, probes: bool) -> None:
    targets = [(world.address, CHECK, b""), (world.health, CHECK, b"")]
    if not probes:
        targets = [(world.address, GET, GetTemplateRequest(id="small").SerializeToString())]
    for address, path, request in targets:
        with connections(address, 1, window=0) as (one,):
            streams = [one.open(path, world.auth(world.reader)) for _ in range(50)]
            for stream in streams:
                one.send(stream, request)
            assert all(one.wait_until_ended(stream, 2 * RECEIVE_SECONDS) for stream in streams)
            assert not one.is_closed


@pytest.mark.soak
@pytest.mark.skipif(not scale.IS_SOAK, reason="measures the time of calls, which only a quiet machine can")
@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_as_quick(world: World, attack: str) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        quiet = min(p99_beside(world, nullcontext()) for _ in range(3))
        attacked = min(p99_beside(world, ATTACKS[attack](world)) for _ in range(3))
    finally:
        os.sched_setaffinity(0, cores)
    assert attacked <= max(3 * quiet, 0.05)


def p99_beside(world: World, attack: AbstractContextManager[None]) -> float:
    with others(world) as noticed, attack:
        time.sleep(5)
    return noticed.p99()
