"""A database role that lacks a right, or does not see the schema: what is missing is said, and no call is INTERNAL."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.user_service_pb2 import ListUsersRequest, ProvisionUserRequest
from service.database import embedded
from service.database.grants import FUNCTIONS, TABLES
from service.database.transactions import GRANTS
from tests.conftest import Api, Database, fails
from tests.e2e.clients import connected
from tests.e2e.serving import eventually, serving
from tests.e2e.test_process import run, said

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Running(NamedTuple):
    api: Api
    database: Database
    """Seen by the role of the service, which owns the tables, and so may take rights from itself."""
    log: Path

    def health(self) -> int:
        answer: HealthCheckResponse = HealthStub(self.api.channel).Check(HealthCheckRequest(), timeout=5)
        return int(answer.status)

    def logged(self, **fields: Any) -> list[dict[str, Any]]:
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line for line in lines if fields.items() <= line.items()]


@pytest.fixture
def running(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Running]:
    url, log = new_database(), tmp_path / "log"
    with serving(url, log, cache_mb=0) as service, connected(service.address) as api:
        database = Database(url)
        yield Running(api, database, log)
        database.close()


def test_every_table_of_the_schema_is_asked_for(url: str) -> None:
    database = Database(url)
    tables = {name for (name,) in database.query("select tablename from pg_tables where schemaname = 'public'")}
    assert set(TABLES) == tables
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
        running.database.query(f"revoke {right} on users from omniflo")
        failure = fails(call)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert failure.retry_seconds
        eventually(lambda: running.health() == NOT_SERVING, within=10)
        assert running.logged(event="database", is_reachable=True, missing=missing)
        assert running.logged(sqlstate="42501", error="permission denied for table users")
        running.database.query(f"grant {right} on users to omniflo")
        eventually(lambda: running.health() == SERVING, within=10)
        call()


def test_a_schema_that_the_role_does_not_see_is_named_and_makes_the_service_not_ready(running: Running) -> None:
    roles = "pg_database_owner, public"
    running.database.query(f"revoke usage on schema public from {roles}")
    failure = fails(running.api.users.ListUsers, ListUsersRequest())
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    eventually(lambda: running.health() == NOT_SERVING, within=5)
    (line,) = running.logged(event="database", is_reachable=True, level="error", missing=_all())
    assert line
    running.database.query(f"grant usage on schema public to {roles}")
    eventually(lambda: running.health() == SERVING, within=5)


def _all() -> list[str]:
    of_tables = [f"{right} on {table}" for table, rights in TABLES.items() for right in rights]
    return sorted([*of_tables, *(f"EXECUTE on {function}" for function in FUNCTIONS)])


def test_a_service_that_starts_without_a_right_says_so(new_database: Callable[[], str], tmp_path: Path) -> None:
    url, log = new_database(), tmp_path / "log"
    with serving(url, log):
        """It migrates."""
    database = Database(url)
    database.query("revoke delete on idempotency_keys from omniflo")
    with serving(url, log) as service, connected(service.address) as api:
        running = Running(api, database, log)
        eventually(lambda: running.logged(missing=["DELETE on idempotency_keys"], help=GRANTS), within=5)
        assert running.health() == NOT_SERVING
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
    assert denied(["migrate", "up"], without) == f"{prefix} schema public; {GRANTS}"
    assert run("migrate", "up", database_url=url).returncode == 0
    for command in COMMANDS:
        assert denied(command, without) == f"{prefix} table schema_migrations; {GRANTS}"
    database = Database(url)
    database.query(f"grant select on schema_migrations to {url.rpartition('/')[2].partition('?')[0]}")
    database.close()
    # There is nothing to apply, for which no other right is needed.
    assert run("migrate", "up", database_url=without).stdout == "nothing to apply\n"
    for command in COMMANDS[-2:]:
        assert denied(command, without).startswith(f"{prefix} table ")
