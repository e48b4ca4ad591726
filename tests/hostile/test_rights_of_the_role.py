"""A database role that lacks a right, or does not see the schema: what is missing is said, and no call is INTERNAL."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psycopg2.errors
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.user_service_pb2 import ListUsersRequest, ProvisionUserRequest
from service.database import embedded
from service.database.grants import FUNCTIONS, HELP, SEQUENCES, TABLES
from tests.conftest import ROOT, Api, Database, as_service, fails, tables_of
from tests.e2e.clients import connected
from tests.e2e.serving import eventually, logged, serving, serving_by
from tests.e2e.test_process import run, said

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Running(NamedTuple):
    api: Api
    database: Database
    """Seen by the role that owns the tables, and so may take rights from the other one, which serves."""
    log: Path

    def health(self) -> int:
        answer: HealthCheckResponse = HealthStub(self.api.channel).Check(HealthCheckRequest(), timeout=5)
        return int(answer.status)

    def logged(self, **fields: Any) -> list[dict[str, Any]]:
        return [line for line in logged(self.log) if fields.items() <= line.items()]


@pytest.fixture
def running(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Running]:
    url, log = new_database(), tmp_path / "log"
    with serving(url, log, cache_mb=0) as service, connected(service.address) as api:
        database = Database(url)
        yield Running(api, database, log)
        database.close()


def test_every_table_of_the_schema_is_asked_for(url: str) -> None:
    database = Database(url)
    assert set(TABLES) == tables_of(database)
    database.close()


def test_a_missing_right_is_named_and_makes_the_service_not_ready(running: Running) -> None:
    def provision() -> object:
        return running.api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_1"))

    def list_() -> object:
        return running.api.users.ListUsers(ListUsersRequest())

    eventually(lambda: running.health() == SERVING, within=5)
    for right, missing, call in (
        ("insert", ["INSERT on users"], provision),
        ("select", ["SELECT on users"], list_),
        ("insert, select", ["INSERT on users", "SELECT on users"], list_),
    ):
        running.database.query(f"revoke {right} on users from omniflo_service")
        failure = fails(call)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert failure.retry_seconds
        eventually(lambda: running.health() == NOT_SERVING, within=10)
        assert running.logged(event="database", is_reachable=True, missing=missing)
        assert running.logged(sqlstate="42501", error="permission denied for table users")
        running.database.query(f"grant {right} on users to omniflo_service")
        eventually(lambda: running.health() == SERVING, within=10)
        call()


def test_a_function_that_the_role_may_not_call_is_named(running: Running) -> None:
    running.database.query("revoke execute on function renew_epoch() from omniflo_service")
    # What it lacks is asked once for each connection.
    ours = "datname = current_database() and application_name = 'omniflo-templates'"
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where {ours}"
    eventually(lambda: running.database.query(end), within=10)
    eventually(lambda: running.logged(event="database", missing=["EXECUTE on renew_epoch()"]), within=10)
    assert running.health() == NOT_SERVING
    running.database.query("grant execute on function renew_epoch() to omniflo_service")
    eventually(lambda: running.health() == SERVING, within=10)


def test_a_schema_that_the_role_does_not_see_is_named_and_makes_the_service_not_ready(running: Running) -> None:
    roles = "pg_database_owner, public, omniflo_service"
    running.database.query(f"revoke usage on schema public from {roles}")
    failure = fails(running.api.users.ListUsers, ListUsersRequest())
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    eventually(lambda: running.health() == NOT_SERVING, within=5)
    eventually(lambda: running.logged(event="database", is_reachable=True, level="error", missing=_all()), within=5)
    running.database.query(f"grant usage on schema public to {roles}")
    eventually(lambda: running.health() == SERVING, within=5)


def _all() -> list[str]:
    of_tables = [f"{right} on {table}" for table, rights in TABLES.items() for right in rights]
    of_sequences = [f"USAGE on {sequence}" for sequence in SEQUENCES]
    return sorted([*of_tables, *of_sequences, *(f"EXECUTE on {function}" for function in FUNCTIONS)])


def test_a_service_that_starts_without_a_right_says_so(new_database: Callable[[], str], tmp_path: Path) -> None:
    url, log = new_database(), tmp_path / "log"
    with serving(url, log):
        """It migrates."""
    database = Database(url)
    database.query("revoke delete on idempotency_keys from omniflo_service")
    # Migrating would give it what it lacks.
    served = serving_by(Path(sys.executable), ROOT, url, log)
    with served as service, connected(service.address) as api:
        running = Running(api, database, log)
        eventually(lambda: running.logged(missing=["DELETE on idempotency_keys"], help=HELP), within=5)
        assert running.health() == NOT_SERVING
        # What it says to do helps.
        assert "`python -m service migrate roles --apply`" in HELP
        done = run("migrate", "roles", "--apply", database_url=as_service(url), database_owner_url=url)
        assert done.returncode == 0, done.stderr
        eventually(lambda: running.health() == SERVING, within=10)
    database.close()


@pytest.fixture
def stranger(postgres: embedded.Server, new_database: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """The URL of a new database, and the URL of the same for a role that has no right on anything in it."""
    url = new_database()
    name = url.rpartition("/")[2].partition("?")[0]
    admin = Database(postgres.admin_url.replace("/postgres?", f"/{name}?"))
    admin.query(f"create role {name} login")
    yield url, f"{admin.url}&options=-crole%3D{name}"
    admin.query(f"drop owned by {name}; drop role {name}")
    admin.close()


COMMANDS = [
    ["serve"],
    ["serve", "--migrate"],
    ["migrate", "up"],
    ["migrate", "status"],
    ["seed"],
    ["keys", "create", "--user", "user_1", "--name", "laptop"],
]


def denied(command: list[str], url: str) -> str:
    """Run a command that must end for want of a right, and return what it says."""
    done = run(*command, database_url=url)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert '"trace"' not in done.stderr
    return said(done) if command[0] == "serve" else done.stderr.splitlines()[-1]


def test_a_role_without_rights_is_told_which_to_ask_for(stranger: tuple[str, str]) -> None:
    url, without = stranger
    prefix = "DATABASE_UNAVAILABLE: the database does not let the service do its work: permission denied for"
    assert denied(["migrate", "up"], without) == f"{prefix} schema public; {HELP}"
    assert run("migrate", "up", database_url=url).returncode == 0
    for command in COMMANDS:
        assert denied(command, without) == f"{prefix} table schema_migrations; {HELP}"
    database = Database(url)
    database.query(f"grant select on schema_migrations to {url.rpartition('/')[2].partition('?')[0]}")
    database.close()
    # There is nothing to apply, for which no other right is needed.
    assert run("migrate", "up", database_url=without).stdout == "nothing to apply\n"
    for command in COMMANDS[-2:]:
        assert denied(command, without).startswith(f"{prefix} table ")


@pytest.fixture
def serving_role(url: str, database: Database) -> Iterator[Database]:
    """The database of the server, as its role sees it, with a user in it and what is known of that."""
    database.query("insert into users (id, clerk_id) values ('u1', 'user_1')")
    role = Database(as_service(url))
    yield role
    role.close()


LOG_ROW = "(epoch, kind, resource_id, action, tags, actor, method, request_id)"


@pytest.mark.parametrize(
    "sql",
    [
        f"insert into changes {LOG_ROW} select epoch, 'user', 'u1', 'delete', '{{}}', 'user:u2', '', '' from registry",
        "update changes set actor = 'user:u2'",
        "delete from changes",
        "truncate changes",
        "copy changes (kind) from stdin",
        "begin; lock table changes in exclusive mode",
        "select * from changes for update",
        "drop table changes",
        "comment on table changes is ''",
        "create trigger t before insert on changes for each row execute function record_change('user', '{}')",
        "create rule r as on insert to changes do instead nothing",
        "alter table changes enable row level security",
        "alter table users disable trigger record_changes",
        "drop trigger record_changes on users",
        "set session_replication_role = replica",
        "create or replace function record_change() returns trigger language plpgsql as 'begin return null; end'",
        "create or replace function public.purge_changes(integer, integer) returns integer return 0",
        "alter function record_change() reset search_path",
        "alter function record_change() security invoker",
        "drop function record_change() cascade",
        "create function public.clock_timestamp() returns timestamptz return now()",
        "create table public.mine ()",
        "create schema mine",
        "alter schema public rename to theirs",
        "set role omniflo",
        "set session authorization omniflo",
        "select setval('changes_seq_seq', 1)",
        "update registry set epoch = gen_random_uuid()",
        "delete from registry",
        "truncate registry",
        "insert into schema_migrations (version, name, checksum) values (9999, 'x', 'x')",
        # A table of its own, whose rows would be recorded as if they were those of another one.
        (
            "create temp table mine (id text);"
            " create trigger t after insert on mine for each row execute function record_change('user', '{}')"
        ),
        "call record_changes('users', 'user')",
        "select record_change()",
    ],
)
def test_the_role_that_serves_can_neither_forge_nor_change_what_happened(serving_role: Database, sql: str) -> None:
    before = serving_role.query("select * from changes")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        serving_role.query(sql)
    serving_role.query("rollback")
    assert serving_role.query("select * from changes") == before


def test_what_the_role_makes_for_itself_does_not_take_the_place_of_what_is_the_owner_s(serving_role: Database) -> None:
    serving_role.query(
        "create temp table changes (like changes including all);"
        " create temp table registry as select * from registry;"
        " create temp table users as select * from users;"
        " update pg_temp.registry set epoch = gen_random_uuid();"
        " create function pg_temp.clock_timestamp() returns timestamptz return 'infinity'::timestamptz;"
        " create function pg_temp.current_setting(text, boolean) returns text return 'user:u2';"
        " set search_path = pg_temp, public, pg_catalog"
    )
    serving_role.query("update public.users set clerk_id = 'user_2'")
    assert serving_role.query("select count(*) from pg_temp.changes") == [(0,)]
    told = serving_role.query(
        "select action, actor from public.changes join public.registry using (epoch) order by seq"
    )
    assert told[-2:] == [("create", "sql:omniflo"), ("update", "sql:omniflo_service")]
    assert serving_role.query("select renew_epoch(), purge_changes(1, 100)") == [(False, 0)]
    assert serving_role.query("select count(*) from public.changes") == [(len(told),)]


def test_the_role_that_serves_says_who_acts_as_the_service_does_and_changes_nothing_afterwards(
    serving_role: Database,
) -> None:
    serving_role.query(
        "begin; select set_config('omniflo.actor', 'user:u1', true);"
        " update users set clerk_id = 'user_2'; commit;"
        " update users set clerk_id = 'user_3'"
    )
    told = "select actor, after ->> 'clerk_id' from changes where action = 'update' order by seq"
    recorded = [("user:u1", "user_2"), ("sql:omniflo_service", "user_3")]
    assert serving_role.query(told) == recorded
    serving_role.query(
        "select set_config('omniflo.actor', 'user:u2', false); select renew_epoch(), purge_changes(0, 9)"
    )
    assert serving_role.query(told) == recorded


def test_the_role_that_serves_purges_nothing_of_the_last_day(serving_role: Database, database: Database) -> None:
    database.query("insert into users (id, clerk_id) values ('u2', 'user_2')")
    database.query("update changes set time = time - interval '25 hours' where resource_id = 'u2'")
    assert serving_role.query("select purge_changes(0, 100)") == [(1,)]
    assert serving_role.query("select resource_id from changes where resource_id <> '*'") == [("u1",)]
