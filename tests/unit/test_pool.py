"""The threads of calls, which are more while calls take long."""

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.server.pool import Pool
from tests.e2e.serving import eventually

LEAST, MOST = 2, 6


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = Pool(LEAST, MOST, request.node.name)
    yield pool
    pool.shutdown()


def result(pool: Pool, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a function on the pool and return what it returns, within five seconds."""
    results: SimpleQueue[Any] = SimpleQueue()
    pool.submit(lambda: results.put(fn(*args, **kwargs)))
    return results.get(timeout=5)


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def becomes(name: str, count: int) -> bool:
    """Return whether there are so many threads within five seconds."""
    give_up = time.monotonic() + 5
    while threads(name) != count and time.monotonic() < give_up:
        time.sleep(0.01)
    return threads(name) == count


def test_what_was_submitted_runs_with_its_arguments(pool: Pool) -> None:
    results: SimpleQueue[int] = SimpleQueue()
    pool.submit(lambda text, *, base: results.put(int(text, base)), "11", base=2)
    assert results.get(timeout=5) == 3


def test_what_fails_is_logged_and_the_threads_go_on(pool: Pool, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    with capture_logs() as lines:

        def logged() -> list[str]:
            return [line["error"] for line in lines if line["event"] == "pool" and line["name"] == name]

        for _ in range(2 * LEAST):
            pool.submit(divmod, 7, 0)
        assert result(pool, divmod, 7, 2) == (3, 1)
        eventually(lambda: len(logged()) == 2 * LEAST, within=5)
    assert set(logged()) == {"ZeroDivisionError"}


def test_each_who_asks_is_told_of_the_end_once(pool: Pool) -> None:
    told: SimpleQueue[Any] = SimpleQueue()
    going_on = threading.Event()
    running = pool.submit(going_on.wait, 30)
    for number in range(3):
        running.add_done_callback(lambda of, number=number: told.put((of, number)))  # type: ignore[misc]
    assert told.empty()
    going_on.set()
    assert {told.get(timeout=5) for _ in range(3)} == {(running, number) for number in range(3)}
    # Whoever asks when it is over is told at once.
    running.add_done_callback(told.put)
    assert told.get_nowait() is running
    assert told.empty()


def test_nobody_is_forgotten_who_asks_while_the_call_ends(pool: Pool) -> None:
    told: SimpleQueue[Any] = SimpleQueue()
    for _ in range(2000):
        pool.submit(lambda: None).add_done_callback(told.put)
    for _ in range(2000):
        told.get(timeout=5)
    assert told.empty()


def test_calls_that_take_long_do_not_hold_up_others(pool: Pool, request: pytest.FixtureRequest) -> None:
    over = threading.Event()
    for _ in range(MOST - 1):
        pool.submit(over.wait, 30)
    assert result(pool, divmod, 7, 2) == (3, 1)
    over.set()
    assert becomes(request.node.name, LEAST)
    assert result(pool, divmod, 7, 2) == (3, 1)


def test_there_are_never_more_threads_than_the_most(pool: Pool, request: pytest.FixtureRequest) -> None:
    over = threading.Event()
    for _ in range(MOST + 1):
        pool.submit(over.wait, 30)
    assert becomes(request.node.name, MOST)
    time.sleep(0.1)
    assert threads(request.node.name) == pool.busy() == MOST
    assert pool.waiting() == 1
    over.set()


def test_what_was_submitted_is_run_after_the_end_and_nothing_more(request: pytest.FixtureRequest) -> None:
    pool = Pool(LEAST, MOST, request.node.name)
    done: SimpleQueue[int] = SimpleQueue()

    def work(number: int) -> None:
        time.sleep(0.01)
        done.put(number)

    for number in range(10):
        pool.submit(work, number)
    pool.shutdown()
    assert {done.get(timeout=5) for _ in range(10)} == set(range(10))
    assert becomes(request.node.name, 0)
    with pytest.raises(RuntimeError):
        pool.submit(divmod, 7, 2)


def test_every_thread_is_prepared() -> None:
    prepared = threading.local()
    pool = Pool(LEAST, MOST, "prepared", lambda: setattr(prepared, "is_ready", True))
    assert all(result(pool, lambda: prepared.is_ready) for _ in range(20))
    pool.shutdown()
