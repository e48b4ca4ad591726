"""The keys of Clerk: when they are fetched, by whom, and who waits for them."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from service import errors
from service.deadline import time_limit
from service.identity import clerk as module
from service.identity.clerk import Keys
from tests.clerk_stand_in import Clerk
from tests.e2e.serving import eventually

SECONDS = 10.0


class Clock:
    """What `time.monotonic` answers to the module, and nobody else."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    running = Clerk()
    yield running
    running.close()


@pytest.fixture
def keys(clerk: Clerk, clock: Clock) -> Keys:
    """Keys that have been fetched once."""
    del clock
    keys = Keys(clerk.url)
    assert keys.key(clerk.keys[0].id) is not None
    assert clerk.fetches == 1
    return keys


def test_nothing_is_fetched_before_a_key_is_asked_for(clerk: Clerk) -> None:
    Keys(clerk.url)
    assert clerk.fetches == 0


def test_known_keys_are_not_fetched_again(clerk: Clerk, keys: Keys, clock: Clock) -> None:
    clock.now += module.REFRESH_SECONDS
    for _ in range(10):
        assert keys.key(clerk.keys[0].id) is not None
    assert clerk.fetches == 1


def test_keys_are_fetched_again_in_the_background_once_they_are_old(clerk: Clerk, keys: Keys, clock: Clock) -> None:
    withdrawn = clerk.keys[0]
    clerk.rotate()
    clock.now += module.REFRESH_SECONDS + 1
    is_asked = threading.Event()

    def serve_late(handler: BaseHTTPRequestHandler) -> None:
        is_asked.wait(SECONDS)
        clerk.answer = None
        handler.do_GET()  # type: ignore[attr-defined]

    clerk.answer = serve_late
    # Meanwhile it is found among those that are known.
    assert keys.key(withdrawn.id) is not None
    is_asked.set()
    eventually(lambda: keys.key(withdrawn.id) is None, within=SECONDS)
    assert keys.key(clerk.keys[0].id) is not None


def test_an_unknown_key_has_them_fetched_at_most_once_in_thirty_seconds(clerk: Clerk, keys: Keys, clock: Clock) -> None:
    assert module.UNKNOWN_SECONDS == 30
    for seconds, fetches in ((0, 2), (1, 2), (28.9, 2), (0.1, 2), (0.1, 3), (29.9, 3), (0.2, 4)):
        clock.now += seconds
        for number in range(5):
            assert keys.key(f"ins_made_up_{number}") is None
        assert clerk.fetches == fetches


def test_a_new_key_is_known_to_the_first_who_asks(clerk: Clerk, keys: Keys) -> None:
    clerk.add_key()
    assert keys.key(clerk.keys[1].id) is not None
    assert keys.key(clerk.keys[0].id) is not None
    assert clerk.fetches == 2


def test_of_many_who_ask_at_once_few_wait_for_one_fetch_and_the_others_are_told_at_once(
    clerk: Clerk, clock: Clock
) -> None:
    del clock
    over = threading.Event()
    answer = clerk.serve

    def late(handler: BaseHTTPRequestHandler) -> None:
        over.wait(SECONDS)
        answer(handler)

    clerk.answer = late
    keys = Keys(clerk.url, waiters=3)
    together = threading.Barrier(8)
    found, told = list[object](), list[str]()

    def ask() -> None:
        together.wait()
        try:
            found.append(keys.key(clerk.keys[0].id))
        except errors.Unavailable as error:
            told.append(error.reason)
            if len(told) == 5:
                over.set()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["SESSION_KEYS_UNAVAILABLE"] * 5
    assert len(found) == 3
    assert None not in found
    assert clerk.fetches == 1


def test_while_none_is_known_they_are_asked_for_once_a_second(clerk: Clerk, clock: Clock) -> None:
    clerk.is_away = True
    keys = Keys(clerk.url)
    for seconds, fetches in ((0, 1), (0.5, 1), (0.5, 1), (0.1, 2), (1.1, 3)):
        clock.now += seconds
        with pytest.raises(errors.Unavailable) as caught:
            keys.key(clerk.keys[0].id)
        assert caught.value.reason == "SESSION_KEYS_UNAVAILABLE"
        eventually(lambda fetches=fetches: clerk.fetches == fetches, within=SECONDS)  # type: ignore[misc]
        _fetched(keys)
    clerk.is_away = False
    clock.now += 1.1
    # After one that failed nobody waits for the next.
    with pytest.raises(errors.Unavailable):
        keys.key(clerk.keys[0].id)
    eventually(lambda: keys._keys, within=SECONDS)
    assert keys.key(clerk.keys[0].id) is not None


def test_what_is_known_is_kept_when_a_fetch_fails(clerk: Clerk, keys: Keys, clock: Clock) -> None:
    clerk.is_away = True
    for _ in range(3):
        clock.now += module.REFRESH_SECONDS + 1
        assert keys.key("ins_made_up") is None
        assert keys.key(clerk.keys[0].id) is not None
        _fetched(keys)
    assert clerk.fetches >= 3


def _fetched(keys: Keys) -> None:
    """Return when nothing is fetched any more."""
    eventually(lambda: keys._fetching is None or not keys._fetching.is_alive(), within=SECONDS)


@pytest.mark.parametrize("first", [True, False])
def test_nobody_waits_once_a_fetch_has_had_its_moment(
    clerk: Clerk, clock: Clock, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    for wait in ("FETCH_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(module, wait, 2 * SECONDS)
    over = threading.Event()
    keys = Keys(clerk.url)
    if not first:
        assert keys.key(clerk.keys[0].id) is not None

    def hang(_: BaseHTTPRequestHandler) -> None:
        over.wait(3 * SECONDS)

    clerk.answer = hang
    keys._begin(lambda: True)
    clock.now += module.WAIT_SECONDS
    start = time.monotonic()
    try:
        for number in range(20):
            if first:
                with pytest.raises(errors.Unavailable):
                    keys.key(f"ins_made_up_{number}")
            else:
                assert keys.key(f"ins_made_up_{number}") is None
    finally:
        over.set()
    assert time.monotonic() - start < SECONDS


def test_who_waits_for_a_key_waits_no_longer_than_the_call_may(clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    for wait in ("FETCH_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(module, wait, 2 * SECONDS)
    over = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        over.wait(3 * SECONDS)

    clerk.answer = hang
    try:
        keys = Keys(clerk.url)
        start = time.monotonic()
        with time_limit(0.2), pytest.raises(errors.Unavailable):
            keys.key("ins_1")
        assert time.monotonic() - start < SECONDS
    finally:
        over.set()


def test_an_answer_that_is_too_large_is_not_taken(clerk: Clerk, keys: Keys, clock: Clock) -> None:
    clerk.keys = [*clerk.keys, clerk.new_key()]
    bloated = clerk.keys[1]
    bloated.id = "k" * (4 * module.MAX_BYTES)
    clock.now += module.UNKNOWN_SECONDS + 1
    assert keys.key("ins_made_up") is None
    assert keys.key(bloated.id) is None
    assert keys.key(clerk.keys[0].id) is not None
