"""Somebody who works with the service, and probes it, in a process of its own: what else runs does not slow it down."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub


@dataclass
class Noticed:
    seconds: list[float] = field(default_factory=list)
    """Of each call."""
    failures: list[str] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    """The seconds of each."""

    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


@contextmanager
def started() -> Iterator[Connection]:
    """Start the process, and yield how to talk to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        process.close()


def main(pipe: Connection) -> None:
    """Take an address, that of health, and a key; work until None comes; send what was noticed; begin anew."""
    while True:
        address, health, key = pipe.recv()
        noticed, stopped = Noticed(), threading.Event()
        actions: tuple[Callable[[], None], ...] = (
            lambda: call(noticed, stopped, address, key),  # noqa: B023 - it ends before the next
            lambda: probe(noticed, stopped, (address, health)),  # noqa: B023
        )
        threads = [threading.Thread(target=action) for action in actions]
        for thread in threads:
            thread.start()
        pipe.recv()
        stopped.set()
        for thread in threads:
            thread.join()
        pipe.send((noticed.seconds, noticed.failures, noticed.probes))


def call(noticed: Noticed, stopped: threading.Event, address: str, key: str) -> None:
    with grpc.insecure_channel(address) as channel:
        get = TemplateServiceStub(channel).GetTemplate
        while not stopped.wait(0.005):
            start = time.perf_counter()
            try:
                get(GetTemplateRequest(id="small"), timeout=5, metadata=(("authorization", f"Bearer {key}"),))
            except grpc.RpcError as error:
                noticed.failures.append(f"{error.code()}: {error.details()}")
            noticed.seconds.append(time.perf_counter() - start)


def probe(noticed: Noticed, stopped: threading.Event, addresses: tuple[str, ...]) -> None:
    # A connection of its own for each probe, as Kubernetes makes one.
    while not stopped.wait(0.1):
        for address in addresses:
            start = time.perf_counter()
            with grpc.insecure_channel(address) as channel:
                try:
                    response = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
                    assert response.status == HealthCheckResponse.SERVING
                except grpc.RpcError as error:
                    noticed.failures.append(f"probe: {error.code()}: {error.details()}")
            noticed.probes.append(time.perf_counter() - start)
