"""The parts of the database handle that need no database."""

import threading
import time

import pytest

from service import deadline
from service.database import handle


def test_a_time_limit_bounds_its_block_and_nothing_after_it() -> None:
    assert deadline.remaining() == float("inf")
    with deadline.time_limit(10):
        assert 9 < deadline.remaining() <= 10
    assert deadline.remaining() == float("inf")


@pytest.mark.parametrize(("outer", "inner", "left"), [(10, 5, 5), (5, 10, 5), (5, 5, 5), (-1, 10, -1)])
def test_an_inner_limit_never_gives_more_time(outer: float, inner: float, left: float) -> None:
    with deadline.time_limit(outer):
        with deadline.time_limit(inner):
            assert left - 1 < deadline.remaining() <= left
        assert outer - 1 < deadline.remaining() <= outer


def test_a_limit_ends_with_its_block_also_when_that_fails() -> None:
    with pytest.raises(ValueError, match="broken"), deadline.time_limit(10):
        raise ValueError("broken")
    assert deadline._thread.deadline is None


def test_time_runs_down() -> None:
    with deadline.time_limit(0.02):
        time.sleep(0.03)
        assert deadline.remaining() < 0


def test_a_limit_is_the_thread_s_own() -> None:
    seen: list[float] = []
    with deadline.time_limit(10):
        other = threading.Thread(target=lambda: seen.append(deadline.remaining()))
        other.start()
        other.join()
    assert seen == [float("inf")]


def test_a_query_outside_an_operation_is_refused() -> None:
    with pytest.raises(RuntimeError, match="outside an operation"):
        handle.database.execute_sql("select 1")
