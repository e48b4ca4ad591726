"""What `report` says of a database that is well, and of one that was made sick."""

import argparse
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service.actor import SYSTEM
from service.commands import report
from service.config import Settings
from service.database import embedded, handle, indexes, migrate
from service.operations import diagnosis, statistics
from service.statements import Statements, Sum, statements
from tests.conftest import Database, as_service
from tests.jobs.test_tasks import run

EXPECTED = indexes.made_by(migration.up for migration in migrate.load())
FSYNC = "1. fsync is off: a crash of the machine can destroy the database."
"""What the tests' own server does, so that they are fast."""
DEAD = 3000


@pytest.fixture
def admin(postgres: embedded.Server) -> Iterator[Database]:
    admin = Database(postgres.admin_url)
    yield admin
    admin.close()


@pytest.fixture(autouse=True)
def _empty(queue: Database) -> None:
    queue.query("truncate statement_times, statistics_samples")
    statements.take()


def reported(queue: Database, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what the command prints."""
    queue.query("select pg_stat_force_next_flush()")
    handle.database.drop()
    settings = Settings(
        auth="none", database_url=SecretStr(as_service(queue.url)), database_owner_url=SecretStr(queue.url)
    )
    report.run(settings, argparse.Namespace())
    handle.database.drop()
    handle.database.configure(as_service(queue.url))
    return capsys.readouterr().out.splitlines()


def findings(lines: list[str]) -> list[str]:
    return [line.partition(". ")[2] for line in lines[: lines.index("")] if not line.startswith(" ")]


def test_the_migrations_make_the_indexes_that_are_there(queue: Database) -> None:
    found = queue.query(
        "select relname from pg_index join pg_class on pg_class.oid = indexrelid"
        " where relnamespace = 'public'::regnamespace and not relispartition"
        " and not exists (select from pg_constraint where conindid = indexrelid)"
    )
    assert {name for (name,) in found} == EXPECTED.keys()


def test_of_a_database_that_is_well_there_is_nothing_to_do(queue: Database, capsys: pytest.CaptureFixture[str]) -> None:
    lines = reported(queue, capsys)
    assert lines[0] == FSYNC
    assert len(findings(lines)) == 1
    assert "Changes: there is no sample yet; the task sample_statistics takes one a minute." in lines


def test_what_is_wrong_is_named_with_what_to_do(
    queue: Database, admin: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(diagnosis, "SLOT_BYTES", 0)
    open_one = Database(as_service(queue.url))
    admin.query("select pg_create_physical_replication_slot('left_behind', true)")
    try:
        queue.query("drop index templates_by_user")
        queue.query("create index by_nobody on users (update_time)")
        queue.query("alter table idempotency_keys set (autovacuum_enabled = false)")
        queue.query(
            "insert into idempotency_keys (caller, method, request_id, fingerprint)"
            f" select 'a', 'b', n::text, '' from generate_series(1, {DEAD}) n;"
            "update idempotency_keys set response = ''"
        )
        queue.query(
            "insert into statement_times values (now(), 'templates.slow', 100, 200, 9),"
            " (now() - interval '20 hours', 'templates.slower', 10000, 10, 0.1),"
            " (now(), 'templates.slower', 100, 10, 1)"
        )
        open_one.query("begin; select 1")
        lines = reported(queue, capsys)
    finally:
        open_one.close()
        admin.query("select pg_drop_replication_slot('left_behind')")
        queue.query(f"drop index by_nobody; {EXPECTED['templates_by_user']}; truncate idempotency_keys")
        queue.query("alter table idempotency_keys reset (autovacuum_enabled)")
    found = findings(lines)
    for begin in (
        "fsync is off",
        "a transaction of omniflo_service (unnamed, idle in transaction) has been open for",
        "the replication slot left_behind holds",
        "the index templates_by_user is missing",
        "the index by_nobody on users",
        f"idempotency_keys has {DEAD:,} dead rows beside {DEAD:,} live ones",
        "statements of templates.slow took 2,000 ms",
        "statements of templates.slower took 100 ms on average within the last hour, and 2 ms within the day",
    ):
        assert any(line.startswith(begin) for line in found), (begin, found)
    assert len(found) == 8
    done = [line.strip().removeprefix("Do: ") for line in lines if line.startswith("   Do: ")]
    assert "drop index concurrently by_nobody" in done
    assert "create index concurrently templates_by_user on templates (user_id, scope, create_time, id)" in done
    assert len(done) == len(found)


def test_a_sample_a_minute_says_what_has_changed_since_yesterday(
    queue: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(queue, "sample_statistics") == {"purged": 0}
    ((figures, tables),) = queue.query("select figures, tables from statistics_samples")
    assert figures["bytes"] > 0
    assert {"bytes", "rows", "dead"} == tables["users"].keys()
    # Of each table once an hour.
    queue.query("update statistics_samples set time = date_trunc('hour', now())")
    run(queue, "sample_statistics")
    assert queue.query("select count(*), count(tables) from statistics_samples") in ([(2, 1)], [(1, 1)])
    queue.query(
        "update statistics_samples set time = now() - interval '25 hours', figures = figures || '{\"dead_rows\": -7}'"
        " where tables is not null"
    )
    queue.query("insert into statistics_samples values (now() - interval '3 days', '{}', null)")
    lines = reported(queue, capsys)
    assert any(line.startswith("Changes since ") for line in lines)
    (dead,) = (line for line in lines if line.startswith("  dead rows: "))
    assert dead.startswith("  dead rows: -7 -> ")


def test_samples_and_times_are_kept_for_14_days(queue: Database) -> None:
    queue.query(
        "insert into statistics_samples select now() - n * interval '1 day', '{}' from generate_series(1, 20) n;"
        "insert into statement_times select now() - n * interval '1 day', 'a', 1, 1, 1 from generate_series(1, 20) n"
    )
    assert run(queue, "sample_statistics")["purged"] == 14
    assert statistics.purge(SYSTEM) == 0


@pytest.mark.usefixtures("queue")
def test_processes_add_up_how_long_statements_took(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in ((0.1, 0.3), (0.5,)):
        process = Statements()
        for one in seconds:
            process.note("users.get", one, None)
        monkeypatch.setattr(statistics, "statements", process)
        statistics.note_statements(SYSTEM)
        assert process.take() == {}
        assert process.totals()["users.get"].calls == len(seconds)
    (times,) = statistics.times(SYSTEM, 1)
    assert (times.name, times.calls, times.slowest) == ("users.get", 3, 0.5)
    assert times.mean == pytest.approx(0.3)


def test_times_that_could_not_be_written_are_written_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Statements()
    process.note("users.get", 0.25, None)
    monkeypatch.setattr(statistics, "statements", process)

    def fail(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(statistics, "_write", fail)
    with pytest.raises(ConnectionError):
        statistics.note_statements(SYSTEM)
    process.note("users.get", 0.5, None)
    assert process.take() == {"users.get": Sum(2, 0.75, 0.5)}


def test_what_is_large_is_listed_in_columns() -> None:
    rows = [("a.name", "1,000", "2.50"), ("b", "7", "10.00")]
    assert list(report._table("Title", ("statement", "calls", "mean ms"), rows)) == [
        "",
        "Title",
        "  statement  calls  mean ms",
        "  a.name     1,000     2.50",
        "  b              7    10.00",
    ]
    assert list(report._table("Title", ("statement",), [])) == ["", "Title: none"]
