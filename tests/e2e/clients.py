"""Many clients at once: threads, each with a connection of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import grpc

from tests.conftest import Api

T = TypeVar("T")

RUN_SECONDS = 120.0
"""How long a test waits for its clients before it fails."""


@contextmanager
def connected(address: str) -> Iterator[Api]:
    """Answer the stubs of a client that shares its connection with nobody."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        yield Api(channel)


def at_once(address: str, clients: int, work: Callable[[int, Api], T]) -> list[T]:
    """Do `work(number, api)` in as many clients, all started together; answer what each answered."""
    start = threading.Barrier(clients)

    def client(number: int) -> T:
        with connected(address) as api:
            start.wait(10)
            return work(number, api)

    with ThreadPoolExecutor(clients, "client") as pool:
        return list(pool.map(client, range(clients), timeout=RUN_SECONDS))


@contextmanager
def beside(address: str, work: Callable[[Api], T]) -> Iterator[list[T]]:
    """Repeat `work(api)` in one more client for the time of the block; its answers are in the list after it."""
    stop = threading.Event()
    answers: list[T] = []

    def client() -> None:
        with connected(address) as api:
            while not stop.is_set():
                answers.append(work(api))
                # Leaves the processor to the others.
                time.sleep(0.001)

    with ThreadPoolExecutor(1, "beside") as pool:
        running = pool.submit(client)
        try:
            yield answers
        finally:
            stop.set()
        running.result(RUN_SECONDS)


def say(text: str) -> None:
    """Tell a person what was measured; pytest shows it when the test fails, and with -rP."""
    print(text)
