"""Whoever wants to hear of changes hears of each, in order and once, or that some may have been missed."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from service.actor import SYSTEM, Actor
from service.database import changes, feed, migrate
from service.database.changes import Change
from service.database.feed import Feed
from service.database.handle import database as handle
from service.database.transactions import transaction
from service.positions import Position
from tests.conftest import Database, as_service
from tests.e2e.serving import eventually
from tests.migrations.conftest import working_on

SECONDS = 10.0


class Notes:
    """A hearer that notes what it hears."""

    def __init__(self) -> None:
        self.starts: list[bool] = []
        """Whether something was missed, each time that it started over."""
        self.changes: list[Change] = []
        self.batches: list[int] = []
        """How many changes came at a time."""
        self.confirmed = float("-inf")
        self.position: Position | None = None
        self.safe: Position | None = None

    def start_over(self, *, missed: bool) -> None:
        self.starts.append(missed)

    def change(self, changes: Sequence[Change]) -> None:
        assert threading.current_thread().name == "feed"
        self.changes += changes
        self.batches.append(len(changes))

    def confirm(self, moment: float, position: Position, safe: Position | None) -> None:
        assert moment > self.confirmed
        self.confirmed, self.position, self.safe = moment, position, safe

    def awaits_flush(self) -> bool:
        return False

    def ids(self) -> list[str]:
        return [change.resource_id for change in self.changes]

    def has_read_on(self) -> None:
        """Wait until the log was read to an end that is later than now."""
        now = time.monotonic()
        eventually(lambda: self.confirmed > now, within=SECONDS)


@transaction
def provision(_: Actor, *ids: str) -> None:
    for id in ids:
        handle.execute_sql("insert into users (id, clerk_id) values (%s, %s)", (id, id))


@pytest.fixture
def hearers(url: str, database: Database) -> Iterator[tuple[Notes, Notes]]:
    """Two who hear of the changes of one database."""
    del database
    both = Notes(), Notes()
    running = Feed(both, as_service(url))
    running.start()
    eventually(lambda: both[1].confirmed > 0, within=SECONDS)
    yield both
    running.stop()


def test_all_hear_what_somebody_changes_by_hand(hearers: tuple[Notes, Notes], database: Database) -> None:
    database.query("insert into users (id, clerk_id) values ('u1', 'user_1')")
    database.query("update users set clerk_id = 'user_2'")
    for hearer in hearers:
        eventually(lambda hearer=hearer: len(hearer.changes) == 2, within=SECONDS)  # type: ignore[misc]
        created, updated = hearer.changes
        assert (created.kind, created.resource_id, created.action, created.tags) == ("user", "u1", "create", [])
        assert (updated.action, updated.tags, updated.actor) == ("update", ["user:u1"], "sql:omniflo")
        assert (updated.before, updated.after) == ('{"clerk_id": "user_1"}', '{"clerk_id": "user_2"}')
        assert created.seq < updated.seq
        assert created.transaction_id < updated.transaction_id
        assert hearer.starts == [True]


def test_what_this_process_commits_is_told_to_it_before_it_goes_on_and_wakes_the_feed(
    hearers: tuple[Notes, Notes],
) -> None:
    told: list[tuple[list[str], str]] = []

    def hear(tags: Sequence[str]) -> None:
        told.append((list(tags), threading.current_thread().name))

    handle.tell(hear)
    try:
        provision(SYSTEM, "u1")
        transaction(lambda _: handle.execute_sql("update users set clerk_id = 'other'"))(SYSTEM)
        here = threading.current_thread().name
        assert told == [([], here), (["user:u1"], here)]
        transaction(lambda _: handle.execute_sql("update users set clerk_id = clerk_id"))(SYSTEM)
        assert len(told) == 2, "nothing has changed"
    finally:
        handle.tell_no_more(hear)
        handle.drop()
    eventually(lambda: hearers[0].ids() == ["u1", "u1"], within=SECONDS)
    assert hearers[0].changes[0].actor == "system"


def test_no_wake_up_is_lost_in_this_process_or_another(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody reads unless somebody is woken.
    monkeypatch.setattr(feed, "BEAT_SECONDS", 3600.0)
    monkeypatch.setattr(feed, "PACE_SECONDS", 0.005)
    here, there = Notes(), Notes()
    feeds = [Feed([here], as_service(url)), Feed([there], as_service(url))]
    for each in feeds:
        each.start()
    # Of this process it is not, as far as it knows.
    handle.tell_no_more(feeds[1].wake)
    eventually(lambda: here.confirmed > 0 < there.confirmed, within=SECONDS)
    database.query(f"listen {feed.CHANNEL}")
    dice, ids = random.Random(1), []
    for number in range(300):
        ids.append(f"u{number}")
        provision(SYSTEM, ids[-1])
        time.sleep(0.01 * dice.random())
        if number % 10 == 0:
            for notes in (here, there):
                eventually(lambda notes=notes: notes.ids() == ids, within=SECONDS)  # type: ignore[misc]
    assert feeds[0].figures().commits > 100
    assert feeds[1].figures().commits == 0 < feeds[1].figures().notifications
    database.query("select 1")
    assert {notification.payload for notification in database._connection.notifies} == {""}
    database.query(f"unlisten {feed.CHANNEL}")
    for each in feeds:
        each.stop()
    handle.drop()


def test_after_a_lost_connection_all_start_over_and_nothing_is_missed_or_told_twice(
    hearers: tuple[Notes, Notes], database: Database
) -> None:
    eventually(lambda: hearers[1].safe is not None, within=SECONDS)
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where query like %s and pid <> pg_backend_pid()"
    for number in range(5):
        database.query("insert into users (id, clerk_id) values (%s, %s)", (f"u{number}", f"user_{number}"))
        assert database.query(kill, ("%omniflo_feed%",))
        database.query("insert into users (id, clerk_id) values (%s, %s)", (f"v{number}", f"other_{number}"))
        for hearer in hearers:
            wanted = number + 2
            eventually(lambda hearer=hearer, wanted=wanted: len(hearer.starts) == wanted, within=SECONDS)  # type: ignore[misc]
            hearer.has_read_on()
    for hearer in hearers:
        assert hearer.ids() == [f"{letter}{number}" for number in range(5) for letter in "uv"]
        assert hearer.starts == [True, *[False] * 5]


def test_one_that_stops_hears_no_more_and_the_others_do(
    url: str, hearers: tuple[Notes, Notes], database: Database
) -> None:
    third = Notes()
    other = Feed([third], as_service(url))
    other.start()
    eventually(lambda: third.confirmed > 0, within=SECONDS)
    other.stop()
    database.query("insert into users (id, clerk_id) values ('afterwards', 'user')")
    eventually(lambda: "afterwards" in hearers[0].ids(), within=SECONDS)
    assert third.changes == []


def test_who_stays_is_told_also_when_another_leaves_at_that_moment(database: Database) -> None:
    del database
    stays: list[str] = []

    def leave(tags: object) -> None:
        del tags
        handle.tell_no_more(leave)

    handle.tell(leave)
    handle.tell(stays.extend)
    try:
        provision(SYSTEM, "u1")
        transaction(lambda _: handle.execute_sql("update users set clerk_id = 'other'"))(SYSTEM)
        assert stays == ["user:u1"]
    finally:
        handle.tell_no_more(stays.extend)
        handle.drop()


def test_what_commits_late_and_what_was_rolled_back(hearers: tuple[Notes, Notes], url: str) -> None:
    hearer, _ = hearers
    early, late = Database(url), Database(url)
    insert = "insert into users (id, clerk_id) values ('{0}', '{0}')"
    early.query(f"begin; {insert.format('first')}; savepoint s; {insert.format('undone')}; rollback to s")
    late.query(f"begin; {insert.format('undone')}; rollback")
    for number in range(3):
        late.query(insert.format(f"late{number}"))
        hearer.has_read_on()
    assert hearer.ids() == ["late0", "late1", "late2"]
    early.query(f"{insert.format('last')}; commit")
    eventually(lambda: hearer.ids()[3:] == ["first", "last"], within=SECONDS)
    early.close()
    late.close()


@pytest.mark.parametrize("count", [1_000, 1_001, 10_000])
def test_a_large_transaction_is_told_in_batches_before_it_is_confirmed(
    hearers: tuple[Notes, Notes], url: str, database: Database, count: int
) -> None:
    hearer, _ = hearers
    fill = "insert into users (id, clerk_id) select {0} || n, {0} || n from generate_series(1, {1}) n"
    other = Database(url)
    # Others write in the middle of it, so that its changes are not next to each other.
    database.query(f"begin; {fill.format(chr(39) + 'a' + chr(39), count // 2)}")
    other.query(fill.format("'b'", 5))
    database.query(f"{fill.format(chr(39) + 'c' + chr(39), count - count // 2)}; commit")
    eventually(lambda: len(hearer.changes) >= count + 5, within=SECONDS)
    hearer.has_read_on()
    assert len(set(hearer.ids())) == len(hearer.ids()) == count + 5
    assert max(hearer.batches) <= changes.BATCH
    other.close()


def test_of_a_huge_transaction_a_kind_that_is_huge_is_told_as_one_change_and_all_else_whole(
    hearers: tuple[Notes, Notes], url: str, database: Database
) -> None:
    hearer, _ = hearers
    other = Database(url)
    database.query(
        "begin; insert into organizations (id, name) values ('g', 'Sales');"
        " insert into users (id, clerk_id) select 'u' || n, 'u' || n from generate_series(1, 10001) n;"
        " insert into organization_members (id, organization_id, user_id, role)"
        " select 'a' || n, 'g', 'u' || n, 'viewer' from generate_series(1, 9999) n"
    )
    other.query("insert into users (id, clerk_id) select 'v' || n, 'v' || n from generate_series(1, 5) n")
    eventually(lambda: len(hearer.changes) == 5, within=SECONDS)
    database.query("update organizations set name = 'Support'; commit")
    eventually(lambda: len(hearer.changes) > 5, within=SECONDS)
    hearer.has_read_on()
    told = {(change.kind, change.resource_id, change.action): change.tags for change in hearer.changes[5:]}
    assert {key for key in told if key[0] != "member"} == {
        ("organization", "g", "create"),
        ("organization", "g", "update"),
        ("user", "*", "create"),
    }
    assert {id for kind, id, _ in told if kind == "member"} == {f"a{number}" for number in range(1, 10_000)}
    other.close()


def test_a_kind_that_no_cache_depends_on_empties_none_however_much_of_it_changes(
    hearers: tuple[Notes, Notes], database: Database
) -> None:
    hearer, _ = hearers
    database.query("insert into organizations (id, name) select 'g' || n, 'Sales' from generate_series(1, 10001) n")
    eventually(lambda: hearer.changes, within=SECONDS)
    database.query("insert into users (id, clerk_id) select 'u' || n, 'u' || n from generate_series(1, 10001) n")
    eventually(lambda: len(hearer.changes) == 2, within=SECONDS)
    database.query("delete from users")
    eventually(lambda: len(hearer.changes) == 3, within=SECONDS)
    assert [(change.kind, change.resource_id, change.action, change.tags) for change in hearer.changes] == [
        ("organization", "*", "create", []),
        ("user", "*", "create", []),
        ("user", "*", "delete", ["*"]),
    ]


def test_a_log_that_is_another_one_is_begun_anew(hearers: tuple[Notes, Notes], database: Database) -> None:
    hearer, _ = hearers
    epoch = hearer.position.epoch if hearer.position else ""
    # As a dump would have it that was restored here.
    database.query("update registry set system_identifier = 1")
    assert database.query("select renew_epoch(), renew_epoch()") == [(True, False)]
    eventually(lambda: hearer.starts == [True, True], within=SECONDS)
    database.query("insert into users (id, clerk_id) values ('u1', 'user_1')")
    eventually(lambda: hearer.ids() == ["u1"], within=SECONDS)
    assert hearer.position is not None
    assert hearer.position.epoch != epoch


def test_who_reads_the_log_at_the_moment_in_which_it_is_replaced_starts_over(
    new_database: Callable[[], str], url: str
) -> None:
    there = new_database()
    name = there.partition("?")[0].rpartition("/")[2]
    with working_on(there, afterwards=url):
        migrate.up(migrate.load(), role="omniflo_service")
    notes, database, other = Notes(), Database(there), Database(there)
    running = Feed([notes], as_service(there))
    running.start()
    eventually(lambda: notes.confirmed > 0, within=SECONDS)
    database.query("begin; lock table registry in access exclusive mode")
    waiting = "select count(*) from pg_locks join pg_database d on d.oid = database where not granted and datname = %s"
    # It has its snapshot, and goes on with a table in which that shows nothing.
    eventually(lambda: other.query(waiting, (name,)) == [(1,)], within=SECONDS)
    database.query(
        "alter table registry rename to before; create table registry (like before);"
        "insert into registry select * from before; drop table before;"
        "grant select on registry to omniflo_service; commit"
    )
    eventually(lambda: notes.starts == [True, True], within=SECONDS)
    notes.has_read_on()
    running.stop()
    database.close()
    other.close()
