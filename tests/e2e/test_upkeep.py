"""What a server does for itself beside the calls: it holds up nothing, and is done."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.database import migrate
from tests.conftest import Database
from tests.e2e.serving import eventually, serving
from tests.migrations.conftest import working_on

SECONDS = 20.0


@pytest.fixture
def database(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A migrated database of its own, which no other server of the tests asks for anything."""
    database = Database(new_database())
    with working_on(database.url, afterwards=url):
        migrate.up(migrate.load(), role="omniflo_service")
    yield database
    database.close()


def old_request_ids(database: Database, count: int) -> None:
    database.query(
        "insert into idempotency_keys (caller, method, request_id, fingerprint, response, create_time)"
        " select 'anonymous', 'CreateModel', n::text, 'abc', 'def', clock_timestamp() - interval '49 hours'"
        " from generate_series(1, %s) n",
        (count,),
    )


def lines(log: Path) -> list[str]:
    # The last one may still be on its way.
    return log.read_text().split("\n")[:-1]


def test_a_purge_that_waits_does_not_hold_up_health(database: Database, tmp_path: Path) -> None:
    old_request_ids(database, 10)
    holder = Database(database.url)
    holder.query("begin; lock table idempotency_keys in access exclusive mode")
    with serving(database.url, tmp_path / "log"):
        ours = "from pg_stat_activity where datname = current_database() and application_name <> ''"
        waiting = f"select 1 {ours} and wait_event_type = 'Lock' and query like '%delete from idem%'"
        asked = f"select max(query_start) {ours} and query = 'select 1'"
        eventually(lambda: database.query(waiting), within=SECONDS)
        times, end = set(), time.monotonic() + 3
        while time.monotonic() < end:
            assert database.query(waiting), "the purge should still wait"
            times.update(database.query(asked))
            time.sleep(0.05)
        assert len(times) >= 3
    holder.query("rollback")
    holder.close()


def test_old_request_ids_are_purged_in_as_many_batches_as_it_takes(database: Database, tmp_path: Path) -> None:
    old_request_ids(database, 2500)
    database.query(
        "insert into idempotency_keys (caller, method, request_id, fingerprint, response)"
        " values ('anonymous', 'CreateModel', 'young', 'abc', 'def')"
    )
    with serving(database.url, tmp_path / "log"):
        left = "select request_id from idempotency_keys"
        eventually(lambda: database.query(left) == [("young",)], within=SECONDS)
        log = tmp_path / "log"
        eventually(lambda: 2500 in [line.get("purged") for line in map(json.loads, lines(log))], within=SECONDS)


def test_changes_are_kept_for_as_long_as_the_settings_say(database: Database, tmp_path: Path) -> None:
    database.query("insert into users (id, clerk_id) select 'u' || n, 'user_' || n from generate_series(1, 2500) n")
    database.query("update changes set time = time - interval '9 days' where resource_id = 'u1'")
    database.query("update changes set time = time - interval '11 days' where resource_id not in ('u1', 'u2')")
    with serving(database.url, tmp_path / "log", changes_days=10):
        left = "select resource_id from changes order by 1"
        eventually(lambda: database.query(left) == [("u1",), ("u2",)], within=SECONDS)
