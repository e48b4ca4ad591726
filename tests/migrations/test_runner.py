"""What the runner refuses, survives, and does when it is not alone."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

import psycopg2
import pytest

from service.database import embedded, migrate
from service.database.migrate import MigrationError
from tests.conftest import ROOT, Database, tables_of
from tests.migrations.conftest import working_on

T = TypeVar("T")
Load = Callable[[Mapping[str, str]], list[migrate.Migration]]
Background = Callable[[Callable[[], T]], Future[T]]

SECONDS = 20.0
"""How long a test waits for what must happen."""

ONE = {"0001_one.up.sql": "create table one (id bigint);", "0001_one.down.sql": "drop table one;"}


def step(number: int, up: str, down: str = "select 1;") -> dict[str, str]:
    return {f"000{number}_step.up.sql": up, f"000{number}_step.down.sql": down}


def wait_for(database: Database, sql: str, *parameters: object) -> None:
    """Wait until the query answers a row."""
    give_up = time.monotonic() + SECONDS
    while not database.query(sql, parameters):
        assert time.monotonic() < give_up, f"in vain: {sql}"
        time.sleep(0.02)


@pytest.fixture
def lock_holder(empty: Database) -> Iterator[Database]:
    """A session that holds the runners' lock."""
    holder = Database(empty.url)
    holder.query("select pg_advisory_lock(%s)", (migrate.LOCK_KEY,))
    yield holder
    holder.close()


@pytest.fixture
def background() -> Iterator[Background[Any]]:
    """Runs a function in a thread, which has a connection of its own."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


NAMES = [migration.name for migration in migrate.load()]
NEWEST = NAMES[-1]
MORE = f"{len(NAMES) + 1:04}_more"


def add_more(files: Path) -> None:
    """Write one more migration beside the others."""
    (files / f"{MORE}.up.sql").write_text("create table more (id bigint);")
    (files / f"{MORE}.down.sql").write_text("drop table more;")


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (step(2, ""), "0002_step should have the version 0001"),
        (ONE | step(3, ""), "0003_step should have the version 0002"),
        (ONE | step(1, ""), "0001_step should have the version 0002"),
        (ONE | {"0002_step.up.sql": ""}, "0002_step needs both"),
        (ONE | {"0002_step.down.sql": ""}, "0002_step needs both"),
        (ONE | {"0002_step.sql": ""}, "0002_step.sql is not called"),
        (ONE | {"2_step.up.sql": "", "2_step.down.sql": ""}, "2_step.down.sql is not called"),
        (ONE | {"0002-step.up.sql": "", "0002-step.down.sql": ""}, "0002-step.down.sql is not called"),
    ],
    ids=["first is not 1", "gap", "version twice", "no down", "no up", "no direction", "short version", "hyphen"],
)
def test_files_that_do_not_add_up_are_refused_by_name(load: Load, texts: Mapping[str, str], complaint: str) -> None:
    with pytest.raises(MigrationError, match=complaint):
        load(texts)


def test_a_database_in_another_encoding_is_refused_before_anything_is_done(postgres: embedded.Server, url: str) -> None:
    with closing(Database(postgres.admin_url)) as admin:
        admin.query("create database ascii owner omniflo encoding 'SQL_ASCII' locale 'C' template template0")
        there = postgres.url.replace("/postgres?", "/ascii?")
        with working_on(there, afterwards=url), pytest.raises(MigrationError, match=r"SQL_ASCII.* 'UTF8'"):
            migrate.up(migrate.load())
        with closing(Database(there)) as database:
            assert tables_of(database) <= {"schema_migrations"}
        admin.query("drop database ascii")


def test_an_edited_file_is_refused_before_anything_is_done(migrated: Database, files: Path) -> None:
    with (files / "0002_template_types.up.sql").open("a") as file:
        file.write("-- An afterthought.\n")
    add_more(files)
    edited = migrate.load(files)
    for act in (
        lambda: migrate.up(edited),
        lambda: migrate.down(edited, to=0),
        lambda: migrate.status(edited),
    ):
        with pytest.raises(MigrationError, match=r"0002_template_types\.up\.sql was edited"):
            act()
    assert migrated.query("select to_regclass('more'), to_regclass('users')::text") == [(None, "users")]


def test_an_edited_down_file_is_no_reason_to_refuse(migrated: Database, files: Path) -> None:
    add_more(files)
    assert migrate.up(migrate.load(files)) == [MORE]
    with (files / f"{MORE}.down.sql").open("a") as file:
        file.write("-- Taken back with care.\n")
    assert migrate.down(migrate.load(files), to=len(NAMES)) == [MORE]
    assert migrated.query("select to_regclass('more')") == [(None,)]


@pytest.mark.parametrize("is_renamed", [True, False], ids=["renamed", "gone"])
def test_a_missing_file_is_refused_by_name(migrated: Database, files: Path, is_renamed: bool) -> None:
    for direction in ("up", "down"):
        path = files / f"{NEWEST}.{direction}.sql"
        path.rename(files / f"{len(NAMES):04}_renamed.{direction}.sql") if is_renamed else path.unlink()
    fewer = migrate.load(files)
    is_missing = f"{NEWEST} is applied, but its file is missing"
    # As far as anybody can tell, one that is gone is of a newer release.
    newer = is_missing if is_renamed else f"{NEWEST} is applied, and this release, which ends at {len(NAMES) - 1:04}"
    migrated.query("update schema_migrations set compatible_from = version")
    for act, complaint in (
        (lambda: migrate.up(fewer), newer),
        (lambda: migrate.status(fewer), newer),
        (lambda: migrate.down(fewer, to=0), is_missing),
    ):
        with pytest.raises(MigrationError, match=complaint):
            act()
    assert migrated.query("select count(*) from schema_migrations") == [(len(NAMES),)]


@pytest.mark.parametrize("failing", ["select 1 / 0;", "this is no SQL;", "insert into one values ('x');"])
def test_a_failing_file_names_itself_and_leaves_nothing(empty: Database, load: Load, failing: str) -> None:
    bad = ONE | step(2, f"create table half (id bigint); insert into one values (1); {failing}")
    with pytest.raises(MigrationError, match="0002_step failed and was rolled back"):
        migrate.up(load(bad))
    assert empty.query("select to_regclass('half'), (select count(*) from one)") == [(None, 0)]
    assert migrate.status(load(bad)) == (["0001_one"], ["0002_step"], [])
    assert migrate.up(load(ONE | step(2, "create table half (id bigint);"))) == ["0002_step"]


def test_a_failing_way_back_names_itself_and_leaves_all(empty: Database, load: Load) -> None:
    migrations = load(ONE | step(2, "create table two (id bigint);", "drop table two; drop table three;"))
    migrate.up(migrations)
    with pytest.raises(MigrationError, match="0002_step failed and was rolled back"):
        migrate.down(migrations, to=0)
    assert empty.query("select to_regclass('two')::text, to_regclass('one')::text") == [("two", "one")]
    assert migrate.status(migrations) == (["0001_one", "0002_step"], [], [])


def test_a_file_without_transaction_may_build_an_index_concurrently(empty: Database, load: Load) -> None:
    index = "create index concurrently one_by_id on one (id);"
    with pytest.raises(MigrationError, match="0002_step failed"):
        migrate.up(load(ONE | step(2, index)))
    concurrently = load(
        ONE | step(2, f"{migrate.NO_TRANSACTION}\n{index}", f"{migrate.NO_TRANSACTION}\ndrop index one_by_id;")
    )
    assert migrate.up(concurrently) == ["0002_step"]
    assert empty.query("select indisvalid from pg_index where indexrelid = 'one_by_id'::regclass") == [(True,)]
    assert migrate.down(concurrently, to=1) == ["0002_step"]
    assert empty.query("select to_regclass('one_by_id')") == [(None,)]


def test_a_failing_file_without_transaction_names_itself_and_is_not_recorded(empty: Database, load: Load) -> None:
    del empty
    migrations = load(ONE | step(2, f"{migrate.NO_TRANSACTION}\ncreate index concurrently x on nothing (id);"))
    with pytest.raises(MigrationError, match="0002_step failed"):
        migrate.up(migrations)
    assert migrate.status(migrations) == (["0001_one"], ["0002_step"], [])


def test_a_waiting_runner_does_not_hold_up_an_index_that_is_built_concurrently(
    empty: Database, load: Load, background: Background[list[str]]
) -> None:
    migrations = load(ONE | step(2, f"{migrate.NO_TRANSACTION}\ncreate index concurrently one_by_id on one (id);"))
    migrate.up(migrations, to=1)
    # Building waits for this transaction, which may still read the table without the index.
    reader = psycopg2.connect(empty.url)
    with reader.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read; select from one")
    first = background(lambda: migrate.up(migrations))
    running = "select 1 from pg_stat_activity where datname = current_database() and query like %s and state = %s"
    wait_for(empty, running, "-- no-transaction%", "active")
    second = background(lambda: migrate.up(migrations))
    wait_for(empty, running, "select pg_try_advisory_lock%", "idle")
    reader.close()
    assert first.result(SECONDS) == ["0002_step"]
    assert second.result(SECONDS) == []


def test_two_runners_at_once_both_succeed_and_one_does_the_work(
    empty: Database,
    lock_holder: Database,
    background: Background[CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMNIFLO_DATABASE_URL", empty.url)
    command = [sys.executable, "-m", "service", "migrate", "up"]
    runners = [
        background(
            lambda: subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True)
        )
        for _ in range(2)
    ]
    wait_for(
        empty,
        "select 1 from pg_stat_activity where datname = current_database() and query like %s having count(*) = 2",
        "select pg_try_advisory_lock%",
    )
    lock_holder.query("select pg_advisory_unlock_all()")
    assert sorted(runner.result().stdout for runner in runners) == [
        "".join(f"applied {name}\n" for name in NAMES),
        "nothing to apply\n",
    ]


def test_a_runner_that_cannot_get_the_lock_gives_up(lock_holder: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "WAIT_SECONDS", 0.3)
    with pytest.raises(MigrationError, match="another runner has been migrating this database"):
        migrate.up(migrate.load())
    lock_holder.query("select pg_advisory_unlock_all()")
    assert migrate.up(migrate.load(), to=1) == NAMES[:1]


def test_a_table_that_others_hold_is_waited_for_no_longer_than_the_bound(
    empty: Database, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "FILE_LOCK_SECONDS", 0.2)
    migrations = load(ONE | step(2, "alter table one add column two bigint;"))
    migrate.up(migrations, to=1)
    reader = psycopg2.connect(empty.url)
    with reader.cursor() as cursor:
        cursor.execute("select from one")
    start = time.monotonic()
    with pytest.raises(MigrationError, match="0002_step failed"):
        migrate.up(migrations)
    assert time.monotonic() - start < 5
    reader.close()
    assert migrate.up(migrations) == ["0002_step"]
