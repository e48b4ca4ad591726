"""How many searches run at the same time, whose they are, and who waits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack

import pytest

from service import errors
from service.actor import Actor
from service.deadline import time_limit
from service.operations import template_search
from service.operations.template_search import MAX_OF_ONE, MAX_RUNNING, MAX_WAITING, bounded


@pytest.fixture
def full() -> Iterator[ExitStack]:
    """Every place taken, by as few callers as can."""
    with ExitStack() as stack:
        for number in range(MAX_RUNNING):
            stack.enter_context(bounded(Actor(f"user:{number // MAX_OF_ONE}")))
        yield stack


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no wait ends before its time."""
    monkeypatch.setattr(template_search, "WAIT_SECONDS", 30.0)


def _search(name: str) -> str:
    try:
        with bounded(Actor(name)):
            return "OK"
    except errors.ResourceExhausted as error:
        return str(error.reason)


def test_one_caller_leaves_half_of_the_places_to_others() -> None:
    with ExitStack() as stack:
        for _ in range(MAX_OF_ONE):
            stack.enter_context(bounded(Actor("user:one")))
        assert MAX_OF_ONE <= MAX_RUNNING / 2
        assert _search("user:one") == "OVERLOADED"
        assert _search("user:other") == "OK"
    assert _search("user:one") == "OK"


def test_a_search_waits_for_a_place(full: ExitStack, patient: None) -> None:
    del patient
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(_search, "user:other")
        with pytest.raises(TimeoutError):
            waits.result(0.1)
        # By the thread that took them, whose time they bound.
        full.close()
        assert waits.result() == "OK"


def test_a_search_without_a_place_ends_and_leaves_nothing(full: ExitStack) -> None:
    assert _search("user:other") == "OVERLOADED"
    full.close()
    assert [_search("user:other") for _ in range(MAX_RUNNING + MAX_WAITING)] == ["OK"] * (MAX_RUNNING + MAX_WAITING)


def test_a_search_does_not_wait_after_its_deadline(full: ExitStack) -> None:
    del full
    with time_limit(0):
        assert _search("user:other") == "OVERLOADED"


def test_no_more_than_a_few_wait(full: ExitStack, patient: None) -> None:
    del patient
    with ThreadPoolExecutor(2 * MAX_WAITING) as pool:
        searches = as_completed(pool.submit(_search, f"user:other {number}") for number in range(2 * MAX_WAITING))
        assert [next(searches).result() for _ in range(MAX_WAITING)] == ["OVERLOADED"] * MAX_WAITING
        full.close()
        assert [search.result() for search in searches] == ["OK"] * MAX_WAITING
