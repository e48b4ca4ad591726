"""The parts of the database handle that need no database."""

import threading
import time

import pytest

from service import db


def test_a_time_limit_bounds_its_block_and_nothing_after_it() -> None:
    assert db.call.remaining() == float("inf")
    with db.time_limit(10):
        assert 9 < db.call.remaining() <= 10
    assert db.call.remaining() == float("inf")


@pytest.mark.parametrize(("outer", "inner", "left"), [(10, 5, 5), (5, 10, 5), (5, 5, 5), (-1, 10, -1)])
def test_an_inner_limit_never_gives_more_time(outer: float, inner: float, left: float) -> None:
    with db.time_limit(outer):
        with db.time_limit(inner):
            assert left - 1 < db.call.remaining() <= left
        assert outer - 1 < db.call.remaining() <= outer


def test_a_limit_ends_with_its_block_also_when_that_fails() -> None:
    with pytest.raises(ValueError, match="broken"), db.time_limit(10):
        raise ValueError("broken")
    assert db.call.deadline is None


def test_time_runs_down() -> None:
    with db.time_limit(0.02):
        time.sleep(0.03)
        assert db.call.remaining() < 0


def test_a_limit_is_the_thread_s_own() -> None:
    seen: list[float] = []
    with db.time_limit(10):
        other = threading.Thread(target=lambda: seen.append(db.call.remaining()))
        other.start()
        other.join()
    assert seen == [float("inf")]


def test_a_query_outside_an_operation_is_refused() -> None:
    with pytest.raises(RuntimeError, match="outside an operation"):
        db.database.execute_sql("select 1")
