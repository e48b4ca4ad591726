"""The threads of calls, which are more while calls take long."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait

import pytest

from service.server.pool import Pool

LEAST, MOST = 2, 6


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = Pool(LEAST, MOST, request.node.name)
    yield pool
    pool.shutdown()


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def becomes(name: str, count: int) -> bool:
    """Return whether there are so many threads within five seconds."""
    give_up = time.monotonic() + 5
    while threads(name) != count and time.monotonic() < give_up:
        time.sleep(0.01)
    return threads(name) == count


@pytest.fixture
def held(pool: Pool) -> Iterator[list[Future[bool]]]:
    """Hold all threads that there may be, and one call more."""
    over = threading.Event()
    futures = [pool.submit(over.wait, 30) for _ in range(MOST + 1)]
    yield futures
    over.set()
    wait(futures, 5)


def test_what_a_call_returns_or_raises_is_in_its_future(pool: Pool) -> None:
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(5)
    assert pool.submit(int, "11", base=2).result(5) == 3


def test_calls_that_take_long_do_not_hold_up_others(pool: Pool, request: pytest.FixtureRequest) -> None:
    over = threading.Event()
    for _ in range(MOST - 1):
        pool.submit(over.wait, 30)
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)
    over.set()
    assert becomes(request.node.name, LEAST)
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)


def test_there_are_never_more_threads_than_the_most(held: list[Future[bool]], request: pytest.FixtureRequest) -> None:
    assert becomes(request.node.name, MOST)
    time.sleep(0.1)
    assert threads(request.node.name) == MOST
    assert sum(future.running() for future in held) == MOST


def test_a_call_can_be_cancelled_until_it_runs(held: list[Future[bool]], request: pytest.FixtureRequest) -> None:
    assert becomes(request.node.name, MOST)
    assert held[-1].cancel()
    assert not held[0].cancel()


def test_what_was_submitted_is_run_after_the_end_and_nothing_more(request: pytest.FixtureRequest) -> None:
    pool = Pool(LEAST, MOST, request.node.name)
    futures = [pool.submit(time.sleep, 0.01) for _ in range(10)]
    pool.shutdown()
    wait(futures, 5)
    assert all(future.done() for future in futures)
    assert becomes(request.node.name, 0)
    with pytest.raises(RuntimeError):
        pool.submit(divmod, 7, 2)


def test_every_thread_is_prepared() -> None:
    prepared = threading.local()
    pool = Pool(LEAST, MOST, "prepared", lambda: setattr(prepared, "is_ready", True))
    futures = [pool.submit(lambda: prepared.is_ready) for _ in range(20)]
    assert all(future.result(5) for future in futures)
    pool.shutdown()
