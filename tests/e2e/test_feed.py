"""Whoever wants to hear of changes hears of all, or that some may have been missed; no cache is needed for it."""

import threading
import time
from collections.abc import Iterable, Iterator

import psycopg2
import pytest

from service.actor import SYSTEM, Actor
from service.database.feed import CHANNEL, Listener
from service.database.handle import database as handle
from service.database.transactions import transaction
from tests.conftest import Database
from tests.e2e.serving import eventually

SECONDS = 10.0


class Notes:
    """A hearer that notes what it hears, and on which thread."""

    def __init__(self) -> None:
        self.starts = 0
        self.tags: list[tuple[str, str]] = []
        self.confirmed = float("-inf")

    def start_over(self) -> None:
        self.starts += 1

    def change(self, tags: Iterable[str]) -> None:
        self.tags += [(tag, threading.current_thread().name) for tag in tags]

    def confirm(self, moment: float) -> None:
        assert moment > self.confirmed
        self.confirmed = moment

    def heard(self, tag: str) -> bool:
        return (tag, "changes") in self.tags


MEMBERS = "insert into organization_members (id, organization_id, user_id, role)"


@transaction
def join(_: Actor, user: str) -> None:
    """Make a user a member, which changes what belongs to the user."""
    handle.execute_sql(f"{MEMBERS} values (%s, 'g1', %s, 'admin')", (user, user))


@pytest.fixture
def users(database: Database) -> list[str]:
    """The ids of users, who can become members of the organization g1."""
    database.query("insert into organizations (id, name) values ('g1', 'Sales')")
    database.query("insert into users (id, clerk_id) select 'u' || n, 'user_' || n from generate_series(1, 100) n")
    return [f"u{number}" for number in range(1, 101)]


@pytest.fixture
def hearers(url: str, database: Database) -> Iterator[tuple[Notes, Notes]]:
    """Two who hear of the changes of one database."""
    del database
    both = Notes(), Notes()
    listener = Listener(both, url)
    listener.start()
    eventually(lambda: both[1].confirmed > 0, within=SECONDS)
    yield both
    listener.stop()


def test_all_hear_what_somebody_changes_by_hand(hearers: tuple[Notes, Notes], database: Database) -> None:
    database.query("insert into users (id, clerk_id) values ('u1', 'user_1')")
    database.query(f"notify {CHANNEL}, 'anything at all'")
    for hearer in hearers:
        eventually(lambda hearer=hearer: hearer.heard("anything at all"), within=SECONDS)  # type: ignore[misc]
        assert hearer.starts == 1
        assert not any(tag.startswith("beat:") for tag, _ in hearer.tags)


def test_what_this_process_commits_is_heard_before_it_goes_on(hearers: tuple[Notes, Notes], users: list[str]) -> None:
    join(SYSTEM, users[0])
    here = threading.current_thread().name
    for hearer in hearers:
        assert [tag for tag, thread in hearer.tags if thread == here] == [f"user:{users[0]}"]
        # And once more, as all other processes do.
        eventually(lambda hearer=hearer: hearer.heard(f"user:{users[0]}"), within=SECONDS)  # type: ignore[misc]
    handle.drop()


def test_all_start_over_when_the_connection_was_lost(hearers: tuple[Notes, Notes], database: Database) -> None:
    killed = time.monotonic()
    database.query("select pg_terminate_backend(pid) from pg_stat_activity where query like %s", ("notify omniflo%",))
    for hearer in hearers:
        eventually(lambda hearer=hearer: hearer.starts == 2 and hearer.confirmed > killed, within=SECONDS)  # type: ignore[misc]


def test_one_that_stops_hears_no_more_and_the_others_do(url: str, hearers: tuple[Notes, Notes]) -> None:
    third = Notes()
    other = Listener([third], url)
    other.start()
    eventually(lambda: third.confirmed > 0, within=SECONDS)
    other.stop()
    heard = len(third.tags)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"notify {CHANNEL}, 'afterwards'")
    connection.close()
    eventually(lambda: hearers[0].heard("afterwards"), within=SECONDS)
    assert len(third.tags) == heard


def test_who_stays_is_told_also_when_another_leaves_at_that_moment(users: list[str]) -> None:
    stays = Notes()

    def leave(tags: Iterable[str]) -> None:
        del tags
        handle.tell_no_more(leave)

    handle.tell(leave)
    handle.tell(stays.change)
    try:
        join(SYSTEM, users[0])
        assert [tag for tag, _ in stays.tags] == [f"user:{users[0]}"]
    finally:
        handle.tell_no_more(stays.change)
        handle.drop()
