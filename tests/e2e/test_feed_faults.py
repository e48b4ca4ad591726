"""The feed when PostgreSQL dies, is restored from a dump, or another server takes its place: nothing is missed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from service.database import changes, embedded, migrate
from service.database.changes import GapError
from service.database.connections import connect
from service.database.feed import Feed
from tests.conftest import ROOT, Database, as_service
from tests.e2e.clients import say
from tests.e2e.proxy import Proxy
from tests.e2e.serving import eventually
from tests.e2e.test_faults import dead
from tests.e2e.test_feed import Notes
from tests.migrations.conftest import working_on
from tests.scale import KILLS, LOGGED_SECONDS

SECONDS = 20.0
WRITERS = 16
READERS = 4
INSERT = "insert into users (id, clerk_id) values ('{0}', '{0}')"


@pytest.fixture
def own_postgres(tmp_path: Path, url: str) -> Iterator[embedded.Server]:
    """A PostgreSQL that may be killed, with a migrated database."""
    # What is written is not lost with a process, only what is not written yet.
    running = embedded.Server(tmp_path, ["-c", "fsync=off", "-c", "max_connections=200"])
    running.start()
    with working_on(running.url, afterwards=url):
        migrate.up(migrate.load(), role="omniflo_service")
    yield running
    running.stop()


class Writer:
    """Inserts users by SQL: in transactions that are short or long, with savepoints, and rolled back."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        self._url, self._number, self._stop = url, number, stop
        self._dice = random.Random(number)
        self._ids = (f"w{number}-{count}" for count in range(10**9))

    def run(self) -> None:
        while not self._stop.is_set():
            # PostgreSQL may be away.
            with suppress(psycopg2.Error), closing(psycopg2.connect(self._url)) as connection:
                while not self._stop.is_set():
                    self._write(connection)

    def _write(self, connection: Any) -> None:
        dice = self._dice
        with connection.cursor() as cursor:
            for _ in range(dice.choice((1, 1, 1, 5))):
                if is_tried := dice.random() < 0.2:
                    cursor.execute("savepoint s")
                cursor.execute(INSERT.format(next(self._ids)))
                if is_tried and dice.random() < 0.5:
                    cursor.execute("rollback to s")
        if dice.random() < 0.05:
            time.sleep(dice.random())
        connection.rollback() if dice.random() < 0.2 else connection.commit()
        time.sleep(0.01 * dice.random())


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Write for the time of the block."""
    stop = threading.Event()
    threads = [threading.Thread(target=Writer(url, number, stop).run) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


def written(url: str) -> Counter[str]:
    """Answer what the transactions wrote that have committed."""
    with closing(Database(url)) as database:
        return Counter(id for (id,) in database.query("select id from users where id like 'w%%'"))


def cut(url: str) -> None:
    """End the connections of all feeds."""
    with closing(Database(url)) as database:
        database.query(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like '%%omniflo_feed%%' and pid <> pg_backend_pid()"
        )


@contextmanager
def reading(url: str, count: int) -> Iterator[list[Notes]]:
    """Hear of all changes for the time of the block, by as many feeds."""
    notes = [Notes() for _ in range(count)]
    feeds = [Feed([each], as_service(url)) for each in notes]
    for feed in feeds:
        feed.start()
    try:
        for each in notes:
            eventually(lambda each=each: each.safe is not None, within=SECONDS)  # type: ignore[misc]
        yield notes
    finally:
        for feed in feeds:
            feed.stop()


@pytest.mark.timed
@pytest.mark.soak
@pytest.mark.parametrize("kills", [0, KILLS], ids=["cut", "killed"])
def test_every_change_is_told_once_whatever_is_cut_or_killed(own_postgres: embedded.Server, kills: int) -> None:
    url = own_postgres.url
    with reading(url, READERS) as notes:
        with writing(url):
            for _ in range(max(kills, 3)):
                time.sleep(LOGGED_SECONDS / max(kills, 3))
                if kills:
                    with dead(own_postgres):
                        """It starts again."""
                else:
                    cut(url)
        for each in notes:
            each.has_read_on()
        wanted = written(url)
        assert len(wanted) > 100
        say(f"{len(wanted)} changes told once by {READERS} feeds, with {max(kills, 3)} connections lost")
        for each in notes:
            told = Counter(each.ids())
            assert (wanted - told, told - wanted) == (Counter(), Counter())
            # What was missed would be said, and nothing is confirmed that is not told.
            assert each.starts[0] is True
            assert not any(each.starts[1:])


READER = """
import sys
from service.database import changes
from service.database.connections import connect
from service.positions import Position

url, token = sys.argv[1:]
position = Position.of(token)
connection = connect(url)
while True:
    fresh = []
    reading = changes.read(connection, position, fresh.extend)
    position = reading.position
    for change in fresh:
        print("told", change.transaction_id, change.seq, change.resource_id)
    if reading.flushed >= reading.written:
        print("safe", position.token(), flush=True)
"""


@pytest.mark.timed
@pytest.mark.soak
def test_a_reader_that_is_killed_goes_on_from_the_last_position_that_it_gave_away(
    own_postgres: embedded.Server,
) -> None:
    url = own_postgres.url
    with closing(connect(url)) as connection:
        since = changes.here(connection).position.token()
    told: dict[tuple[str, str], str] = {}
    rounds = 0

    def read_on() -> None:
        """Start a reader, and kill it after some time."""
        nonlocal since, rounds
        rounds += 1
        process = subprocess.Popen(
            [sys.executable, "-c", READER, url, since], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        killer = threading.Timer(LOGGED_SECONDS / 4, process.kill)
        killer.start()
        assert process.stdout is not None
        with process, process.stdout as lines:
            for line in lines:
                # The last one may be cut off.
                what, *rest = line.split() if line.endswith("\n") else ["cut"]
                if what == "told":
                    told[rest[0], rest[1]] = rest[2]
                elif what == "safe":
                    (since,) = rest
        killer.join()
        assert process.returncode == -signal.SIGKILL

    with writing(url):
        for _ in range(3):
            read_on()
    read_on()
    wanted = written(url)
    assert len(wanted) > 100
    assert Counter(told.values()) == wanted


@contextmanager
def unflushed(server: embedded.Server) -> Iterator[None]:
    """Let nothing but commits reach the disk, for the time of the block, in which PostgreSQL dies."""
    with closing(Database(server.admin_url)) as admin:
        ((pid,),) = admin.query("select pid from pg_stat_activity where backend_type = 'walwriter'")
    os.kill(pid, signal.SIGSTOP)
    # It does not notice that the others have died.
    end = threading.Timer(2, os.kill, (pid, signal.SIGKILL))
    end.start()
    yield
    end.join()


def test_an_id_that_a_crash_gives_out_again_is_not_taken_for_the_one_that_was_rolled_back(
    own_postgres: embedded.Server,
) -> None:
    url = own_postgres.url
    database = Database(url)
    with reading(url, 1) as (notes,):
        with unflushed(own_postgres):
            ids = []
            for _ in range(5):
                database.query(f"begin; {INSERT.format('undone')}")
                ids += [int(id) for (id,) in database.query("select pg_current_xact_id()::text")]
                database.query("rollback")
            notes.has_read_on()
            assert notes.position is not None
            assert notes.position.snapshot.sees(ids[-1])
            assert notes.safe is not None
            assert not notes.safe.snapshot.sees(ids[-1]), "a crash can undo it"
            with dead(own_postgres):
                database.close()
        database = Database(url)
        again = []
        for number in range(5):
            database.query(f"begin; {INSERT.format(f'u{number}')}")
            again += [int(id) for (id,) in database.query("select pg_current_xact_id()::text")]
            database.query("commit")
        assert set(ids) & set(again), "the test is of no use: no id came again"
        eventually(lambda: notes.ids() == [f"u{number}" for number in range(5)], within=SECONDS)
        assert notes.starts == [True, False]
    database.close()


@contextmanager
def beside(folder: Path, *options: str) -> Iterator[embedded.Server]:
    """Run another PostgreSQL."""
    running = embedded.Server(folder, ["-c", "fsync=off", "-c", "max_connections=200", *options])
    running.start()
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def through(server: embedded.Server) -> Iterator[tuple[Proxy, str]]:
    """Answer a proxy before a PostgreSQL that may be turned to another one, and its URL for the owner."""
    with Proxy(server.socket_dir) as proxy:
        yield proxy, f"postgresql://omniflo@127.0.0.1:{proxy.port}/postgres?sslmode=disable"


def turn(proxy: Proxy, server: embedded.Server) -> None:
    """Let another PostgreSQL take the place of the one behind the proxy."""
    proxy._target = str(server.socket_dir / ".s.PGSQL.5432")
    proxy.cuts = lambda *_: True
    eventually(lambda: proxy.cut, within=SECONDS)
    proxy.cuts = lambda *_: False


def grow_older(url: str, transactions: int) -> None:
    with closing(Database(url)) as database:
        database.query(
            f"do $$ begin for n in 1..{transactions} loop"
            " insert into template_types (id, name) values ('t', 't'); delete from template_types; commit;"
            " end loop; end $$"
        )


def restored(old: embedded.Server, new: embedded.Server, tmp_path: Path) -> None:
    """Restore a dump of one PostgreSQL in another one, by hand."""
    programs, dump = old.binaries, tmp_path / "dump"
    run = ("-U", "omniflo", "-h")
    subprocess.run([programs / "pg_dump", *run, old.socket_dir, "-Fc", "-f", dump, "postgres"], check=True)
    subprocess.run([programs / "pg_restore", *run, new.socket_dir, "--no-owner", "-d", "postgres", dump], check=True)


def log(url: str) -> list[tuple[Any, ...]]:
    with closing(Database(url)) as database:
        return database.query("select to_jsonb(c) from changes c order by seq")


def test_a_dump_that_is_restored_in_a_younger_server_begins_another_epoch(
    own_postgres: embedded.Server, tmp_path: Path
) -> None:
    grow_older(own_postgres.url, 3000)
    with beside(tmp_path / "new") as new, through(own_postgres) as (proxy, url), reading(url, 1) as (notes,):
        with closing(Database(own_postgres.url)) as database:
            database.query(INSERT.format("before"))
        eventually(lambda: notes.ids() == ["before"], within=SECONDS)
        before, old = log(own_postgres.url), notes.position
        assert old is not None
        restored(own_postgres, new, tmp_path)
        with closing(Database(new.url)) as database:
            ((now,),) = database.query("select pg_current_xact_id()::text::bigint")
            assert now < old.snapshot.end, "the test is of no use: the server is not younger"
            turn(proxy, new)
            # Nothing can be said of what happened in between, and nothing is missed from here on.
            eventually(lambda: notes.starts[-1] and len(notes.starts) > 1, within=SECONDS)
            for number in range(3):
                database.query(INSERT.format(f"after{number}"))
                eventually(lambda number=number: notes.ids()[-1] == f"after{number}", within=SECONDS)  # type: ignore[misc]
            assert log(new.url)[: len(before)] == before, "what happened is still known"
        with closing(connect(new.url)) as connection, pytest.raises(GapError):
            changes.read(connection, old, lambda _: None)


def test_migrating_begins_another_epoch_where_a_dump_was_restored(
    own_postgres: embedded.Server, tmp_path: Path, url: str
) -> None:
    epoch = "select epoch from registry"
    with beside(tmp_path / "new") as new:
        restored(own_postgres, new, tmp_path)
        with closing(Database(new.url)) as database, closing(Database(own_postgres.url)) as old:
            assert database.query(epoch) == old.query(epoch)
            with working_on(new.url, afterwards=url):
                migrate.up(migrate.load())
                after = database.query(epoch)
                assert after != old.query(epoch)
                migrate.up(migrate.load())
                assert database.query(epoch) == after


def test_a_server_that_takes_over_without_the_last_writes_is_another_timeline(
    own_postgres: embedded.Server, tmp_path: Path
) -> None:
    # A copy that has recovered by itself is on a timeline of its own, as a standby is that was promoted.
    own_postgres.stop()
    subprocess.run(["/bin/cp", "-a", own_postgres.data_dir, tmp_path / "copy"], check=True)
    copy = tmp_path / "standby" / "postgresql"
    copy.parent.mkdir()
    (tmp_path / "copy").rename(copy)
    signal_file = copy / "recovery.signal"
    signal_file.touch()
    owner = copy.stat()
    os.chown(signal_file, owner.st_uid, owner.st_gid)
    with (
        beside(tmp_path) as primary,
        beside(copy.parent, "-c", "restore_command=false", "-c", "hot_standby=off") as standby,
        through(primary) as (proxy, url),
        reading(url, 1) as (notes,),
    ):
        with closing(Database(primary.url)) as database:
            # The copy has not heard of these.
            for number in range(20):
                database.query(INSERT.format(f"lost{number}"))
        eventually(lambda: len(notes.changes) == 20 and notes.safe == notes.position, within=SECONDS)
        old = notes.position
        assert old is not None
        with closing(Database(standby.url)) as database:
            turn(proxy, standby)
            for number in range(10):
                database.query(INSERT.format(f"kept{number}"))
            ((now,),) = database.query("select pg_current_xact_id()::text::bigint")
            assert now < old.snapshot.end, "the test is of no use: no id comes again"
            eventually(lambda: notes.starts == [True, False, True], within=SECONDS)
            database.query(INSERT.format("after"))
            eventually(lambda: notes.ids()[-1:] == ["after"], within=SECONDS)
            assert notes.position is not None
            assert notes.position.timeline > old.timeline
            assert notes.position.epoch == old.epoch
        with closing(connect(standby.url)) as connection, pytest.raises(GapError):
            changes.read(connection, old, lambda _: None)
