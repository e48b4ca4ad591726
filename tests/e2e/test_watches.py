"""What a process holds for its watches: readers that are slow, changes that are too many, and callers that end."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from service import errors
from service.actor import SYSTEM, Actor
from service.database import backlog
from service.database.backlog import Backlog
from service.database.feed import Feed
from service.operations import backlogs, newest, watches
from service.operations.watch import Filter, Told, Watch
from service.operations.watches import Watches
from service.positions import Position, Snapshot
from tests.conftest import Database, as_service
from tests.e2e.serving import eventually

SECONDS = 10.0
ALL = Filter(frozenset(), "", frozenset())
INSERT = "insert into users (id, clerk_id) select '{0}' || n, '{0}' || n from generate_series(1, {1}) n"


class Stream:
    """A caller of the watches of a process, who reads all that there is, or nothing."""

    def __init__(self, held: Watches, *, reads: bool = True, token: str = "", actor: Actor = SYSTEM) -> None:
        self.ids: list[str] = []
        self.position: Position | None = None
        self.ends: list[errors.Error] = []
        self.reads = reads
        self._is_woken = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.watch = held.open(
            actor, ALL, token=token, heartbeat=60, wake=lambda _: self._is_woken.set(), end=self.ends.append
        )
        if reads:
            self._thread.start()

    def _read(self) -> None:
        while not self.ends:
            self._is_woken.wait(0.1)
            self._is_woken.clear()
            while (told := self.watch.next()) is not None:
                self.ids += [change.resource_id for change in told.changes]
                self.position = told.position or self.position


@pytest.fixture
def held(url: str, database: Database) -> Iterator[Watches]:
    """The watches of a process, with the feed that they hear."""
    del database
    running = Watches(as_service(url), hours=24)
    feed = Feed([running], as_service(url))
    running.hurry = feed.hurry
    running.start()
    feed.start()
    yield running
    feed.stop()
    running.stop()


def begun(held: Watches) -> tuple[Stream, str]:
    """Answer a stream that has begun, and a token of before all that follows."""
    stream = Stream(held)
    eventually(lambda: stream.position, within=SECONDS)
    assert stream.position is not None
    return stream, stream.position.token()


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(1, count + 1)]


def test_a_reader_that_falls_behind_what_is_held_is_told_so_and_nobody_else_notices(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "MAX_CHANGES", 20)
    fast, slow = Stream(held), Stream(held, reads=False)
    eventually(lambda: fast.position, within=SECONDS)
    # Its first message is taken, and then no more.
    eventually(lambda: slow.watch.next() is not None, within=SECONDS)
    assert slow.watch.next() is None
    for number in range(40):
        database.query(INSERT.format(f"u{number}-", 1))
        held.hurry()
        eventually(lambda: len(fast.ids) > number, within=SECONDS)  # noqa: B023 - it is over before the next
    eventually(lambda: slow.ends, within=SECONDS)
    assert [(error.code, error.reason) for error in slow.ends] == [("RESOURCE_EXHAUSTED", "WATCH_TOO_SLOW")]
    assert fast.ids == [f"u{number}-1" for number in range(40)]
    assert not fast.ends
    assert held._newest._count <= 20


@pytest.mark.parametrize("count", [21, 1200])
def test_what_is_too_much_to_be_held_is_read_from_the_database(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(newest, "MAX_CHANGES", 20)
    streams = [Stream(held) for _ in range(3)]
    for stream in streams:
        eventually(lambda stream=stream: stream.position, within=SECONDS)  # type: ignore[misc]
    database.query(INSERT.format("u", count))
    database.query(INSERT.format("last", 1))
    for stream in streams:
        eventually(lambda stream=stream: "last1" in stream.ids, within=SECONDS)  # type: ignore[misc]
        assert stream.ids == [*ids("u", count), "last1"]


def test_a_backlog_is_read_on_when_its_connection_was_lost(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _first, token = begun(held)
    database.query(INSERT.format("u", 5_000))
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where query like %s and pid <> pg_backend_pid()"
    page = Backlog.page
    pages: list[int] = []

    def cut(of: Any, reader: Any) -> Any:
        pages.append(len(pages))
        if len(pages) in {3, 6}:
            database.query(kill, ("%c.seq >%",))
        return page(of, reader)

    monkeypatch.setattr(Backlog, "page", cut)
    resumed = Stream(held, token=token)
    eventually(lambda: len(resumed.ids) >= 5_000, within=SECONDS)
    assert resumed.ids == ids("u", 5_000)
    assert len(pages) > 11
    assert not resumed.ends


@pytest.mark.parametrize("statement", ["_OLDEST", "_OUTLINE", "_PAGE"])
def test_a_backlog_that_takes_too_long_to_find_is_known_no_more(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    first = Stream(held)
    eventually(lambda: first.position, within=SECONDS)
    assert first.position is not None
    database.query(INSERT.format("u", 10))
    monkeypatch.setattr(backlog, statement, "select pg_sleep(60)")
    monkeypatch.setattr(backlog, "LONGEST_SECONDS", 0.2)
    monkeypatch.setattr(backlog, "ANSWER_SECONDS", 0.2)
    resumed = Stream(held, token=first.position.token())
    eventually(lambda: resumed.ends, within=SECONDS)
    assert [(error.code, error.reason) for error in resumed.ends] == [("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED")]
    assert resumed.ids == []


def test_a_token_whose_time_is_made_up_reaches_no_further_back(held: Watches, database: Database) -> None:
    database.query(INSERT.format("u", 10))
    database.query("update changes set time = time - interval '25 hours' where seq = (select min(seq) from changes)")
    first = Stream(held)
    eventually(lambda: first.position, within=SECONDS)
    assert first.position is not None
    for snapshot in (Snapshot(0, 0, frozenset()), all_running(database, first.position)):
        resumed = Stream(held, token=first.position._replace(snapshot=snapshot).token())
        eventually(lambda: resumed.ends, within=SECONDS)  # noqa: B023 - it is over before the next
        assert [error.reason for error in resumed.ends] == ["RESUME_TOKEN_EXPIRED"]


def all_running(database: Database, position: Position) -> Snapshot:
    """Answer a snapshot that sees nothing of what is in the log, with the end of the position's."""
    ids = [id for (id,) in database.query("select distinct transaction_id::text::bigint from changes")]
    return Snapshot(min(ids), position.snapshot.end, frozenset(ids))


def test_a_token_from_a_future_that_does_not_come_is_known_no_more(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "UNKNOWN_SECONDS", 0.5)
    first = Stream(held)
    eventually(lambda: first.position, within=SECONDS)
    assert first.position is not None
    future = Snapshot(first.position.snapshot.end, 2**62, frozenset())
    resumed = Stream(held, token=first.position._replace(snapshot=future).token())
    eventually(lambda: resumed.ends, within=SECONDS)
    assert [error.reason for error in resumed.ends] == ["RESUME_TOKEN_EXPIRED"]
    eventually(lambda: not held.awaits_flush(), within=SECONDS)
    del database


def test_a_caller_with_many_backlogs_is_served_by_turns_with_others(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, token = begun(held)
    database.query(INSERT.format("u", 10))
    eventually(lambda: first.ids, within=SECONDS)
    pages: list[int] = []
    page = Backlog.page

    def slow(of: Any, reader: Any) -> Any:
        pages.append(len(pages))
        time.sleep(0.2)
        return page(of, reader)

    monkeypatch.setattr(Backlog, "page", slow)
    many = [Stream(held, token=token) for _ in range(20)]
    eventually(lambda: pages, within=SECONDS)
    other = Stream(held, token=token, actor=replace(SYSTEM, name="another"))
    eventually(lambda: other.ids, within=SECONDS)
    # The one that is being read, and some of which are read before the other's first message is taken.
    assert len(pages) <= 5
    for stream in many:
        held.close(stream.watch)


def test_no_page_is_read_for_one_that_has_not_taken_what_came_before(held: Watches, database: Database) -> None:
    first, token = begun(held)
    database.query(INSERT.format("u", 1_200))
    eventually(lambda: len(first.ids) == 1_200, within=SECONDS)
    silent = Stream(held, reads=False, token=token)
    # Its first message, and a page.
    eventually(lambda: silent.watch.next() is not None, within=SECONDS)
    eventually(lambda: (told := silent.watch.next()) is not None and told.changes, within=SECONDS)
    time.sleep(0.5)
    assert (list(silent.watch.queue), held._backlogs._size) == ([], 0)


@pytest.mark.parametrize(("key", "cause"), [(None, "session_expired"), ("k1", "key_over")])
def test_a_stream_ends_with_the_credentials_of_its_caller(held: Watches, key: str | None, cause: str) -> None:
    until = time.monotonic() + 0.5
    stream = Stream(held, actor=Actor("user:u1", user_id="u1", api_key_id=key, ends=until))
    eventually(lambda: stream.ends, within=SECONDS)
    (end,) = stream.ends
    assert time.monotonic() >= until
    assert isinstance(end, errors.Unauthenticated)
    assert end.cause == cause


def test_a_stream_that_is_over_is_forgotten(held: Watches, database: Database) -> None:
    streams = [Stream(held, reads=False) for _ in range(5)]
    assert held.count() == 5
    for stream in streams:
        held.close(stream.watch)
    assert held.count() == 0
    database.query(INSERT.format("u", 10))
    eventually(lambda: held._told_number == held._number, within=SECONDS)
    assert (held._newest.last(), held._backlogs._size) == (0, 0)


def test_a_page_that_nobody_reads_any_more_makes_room_for_another(
    held: Watches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, token = begun(held)
    database.query(INSERT.format("u", 10))
    eventually(lambda: first.ids, within=SECONDS)
    monkeypatch.setattr(backlogs, "MAX_BYTES", 0)
    silent = Stream(held, reads=False, token=token)
    # It takes the first message, and leaves the page.
    assert silent.watch.next() is not None
    assert silent.watch.next() is None
    eventually(lambda: silent.watch.queue, within=SECONDS)
    resumed = Stream(held, token=token)
    time.sleep(0.5)
    assert resumed.ids == []
    held.close(silent.watch)
    eventually(lambda: resumed.ids == ids("u", 10), within=SECONDS)


def test_while_the_log_cannot_be_read_a_new_watch_is_told_so_once_and_then_left_alone(url: str) -> None:
    running = Watches(as_service(url), hours=24)
    running.start()
    woken: list[Watch] = []
    running.open(SYSTEM, ALL, token="", heartbeat=1, wake=woken.append, end=lambda _: None)
    told: list[Told | None] = []
    for _ in range(20):
        time.sleep(0.05)
        while len(woken) > len(told):
            told.append(woken[len(told)].next())
            assert woken[0].next() is None
    assert [message.is_behind for message in told if message is not None] == [True]
    assert len(woken) <= 3
    running.stop()
