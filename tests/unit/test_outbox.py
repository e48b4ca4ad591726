"""The messages of a stream on their way out."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest

from service.interceptors.outbox import MAX_MESSAGES, TURN, Outbox
from tests.e2e.serving import eventually

SECONDS = 10.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_all_is_sent_in_order_and_nothing_after_the_end(pool: ThreadPoolExecutor) -> None:
    sent: list[Any] = []
    outbox = Outbox(pool, sent.append, nullcontext, lambda: sent.append("dropped"))
    rest = iter([b"of a function", b"once more", None])
    messages = [b"%d" % number for number in range(2 * TURN)]
    for message in [*messages, lambda: next(rest), None, b"too late"]:
        outbox.put(message)
    eventually(lambda: None in sent, within=SECONDS)
    # What would come after it has come by then.
    pool.submit(lambda: None).result(SECONDS)
    assert sent == [*messages, b"of a function", b"once more", None]


def test_a_stream_to_which_nothing_can_be_sent_is_dropped(pool: ThreadPoolExecutor) -> None:
    dropped = threading.Event()

    def send(message: Any) -> None:
        raise ValueError(message)

    Outbox(pool, send, nullcontext, dropped.set).put(b"a message")
    assert dropped.wait(SECONDS)


def test_a_stream_whose_reader_is_too_slow_is_dropped(pool: ThreadPoolExecutor) -> None:
    reads, dropped = threading.Event(), threading.Event()

    def send(_: Any) -> None:
        reads.wait(SECONDS)

    outbox = Outbox(pool, send, nullcontext, dropped.set)
    for _ in range(MAX_MESSAGES):
        outbox.put(b"a message")
    assert not dropped.is_set()
    outbox.put(b"one more")
    assert dropped.is_set()
    outbox.close()
    reads.set()
