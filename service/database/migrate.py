"""Applies migrations/: plain SQL files, each once, in order, and unchanged ever after."""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from service.database.handle import database
from service.database.transactions import read, session

LOCK_KEY = 0x6F6D6E69666C6F  # "omniflo"
WAIT_SECONDS = 120.0
FILE_LOCK_SECONDS = 10
NO_TRANSACTION = "-- no-transaction"
"""The first line of a file that runs outside a transaction; it may hold one statement only."""

_NAME = re.compile(r"(?P<version>\d{4})_(?P<what>[a-z0-9_]+)\.(?P<direction>up|down)\.sql")


class MigrationError(Exception):
    """The migrations and the database do not fit together; the message says what to do."""


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True)
class Applied:
    name: str
    checksum: str


def load(folder: Path | None = None) -> list[Migration]:
    """Read the migrations in order; each needs both directions, and versions run from 1 without a gap."""
    folder = folder or _folder()
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not called NNNN_what.up.sql or NNNN_what.down.sql")
        texts.setdefault((match["version"], match["what"]), {})[match["direction"]] = path.read_text()
    migrations = []
    for expected, ((version, what), files) in enumerate(texts.items(), start=1):
        if int(version) != expected:
            raise MigrationError(f"{version}_{what} should have the version {expected:04}")
        if files.keys() != {"up", "down"}:
            raise MigrationError(f"{version}_{what} needs both an .up.sql and a .down.sql")
        migrations.append(Migration(expected, f"{version}_{what}", files["up"], files["down"]))
    return migrations


def up(migrations: list[Migration], *, to: int | None = None) -> list[str]:
    """Apply what is not applied yet, up to version `to`, and answer the names."""
    done = []
    with _locked() as connection:
        for migration in _pending(migrations, _applied(connection)):
            if to is not None and migration.version > to:
                break
            _run(
                connection,
                migration,
                migration.up,
                "insert into schema_migrations (version, name, checksum) values (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )
            done.append(migration.name)
    return done


def down(migrations: list[Migration], *, to: int) -> list[str]:
    """Take back what is applied above version `to`, newest first, and answer the names."""
    done = []
    with _locked() as connection:
        applied = _applied(connection)
        _pending(migrations, applied)
        for migration in reversed(migrations[to : len(applied)]):
            _run(
                connection,
                migration,
                migration.down,
                "delete from schema_migrations where version = %s",
                (migration.version,),
            )
            done.append(migration.name)
    return done


def status(migrations: list[Migration], *, allow_newer: bool = False) -> tuple[list[str], list[str]]:
    """Answer the names of the applied and of the pending migrations; an edited or missing file is an error.

    `allow_newer` is for a release that runs on beside a newer one, whose migrations it does not have.
    """
    with session() as connection:
        applied = _applied(connection)
    if allow_newer:
        applied = {version: row for version, row in applied.items() if version <= len(migrations)}
    pending = _pending(migrations, applied)
    return [row.name for row in applied.values()], [migration.name for migration in pending]


@read
def version() -> int:
    """Return the version of the schema; 0 for none."""
    ((newest,),) = database.execute_sql("select coalesce(max(version), 0) from schema_migrations").fetchall()
    return int(newest)


def _folder() -> Path:
    here = Path(__file__).parents[1]
    # Inside the package in a wheel, beside it in a checkout.
    return next(path for path in (here / "migrations", here.parent / "migrations") if path.is_dir())


@contextmanager
def _locked() -> Iterator[Any]:
    """Answer a connection that is the only one to migrate.

    The lock is polled: one that waits in the server holds a snapshot, for which CREATE INDEX CONCURRENTLY waits.
    """
    give_up = time.monotonic() + WAIT_SECONDS
    with session() as connection, connection.cursor() as cursor:
        while True:
            cursor.execute("select pg_try_advisory_lock(%s)", (LOCK_KEY,))
            if cursor.fetchone()[0]:
                break
            if time.monotonic() > give_up:
                raise MigrationError(
                    "another runner has been migrating this database for two minutes; see what it does"
                )
            time.sleep(0.1)
        cursor.execute(
            "set statement_timeout = 0;"
            f"set lock_timeout = '{FILE_LOCK_SECONDS}s';"
            "create table if not exists schema_migrations ("
            "  version bigint primary key,"
            "  name text not null,"
            "  checksum text not null,"
            "  apply_time timestamptz not null default clock_timestamp()"
            ")"
        )
        try:
            yield connection
        finally:
            # The session ends with the connection, and the lock with the session, but not so behind a pooler.
            if not connection.closed:
                cursor.execute("rollback; select pg_advisory_unlock(%s)", (LOCK_KEY,))


def _applied(connection: Any) -> Mapping[int, Applied]:
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('schema_migrations') is not null")
        if not cursor.fetchone()[0]:
            return {}
        cursor.execute("select version, name, checksum from schema_migrations order by version")
        return {version: Applied(name, checksum) for version, name, checksum in cursor.fetchall()}


def _pending(migrations: list[Migration], applied: Mapping[int, Applied]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, row in applied.items():
        migration = known.get(version)
        if migration is None or migration.name != row.name:
            raise MigrationError(f"{row.name} is applied, but its file is missing; use the release that has it")
        if migration.checksum != row.checksum:
            raise MigrationError(
                f"{row.name}.up.sql was edited after it was applied; restore it, and write a new migration instead"
            )
    return [migration for migration in migrations if migration.version not in applied]


def _run(connection: Any, migration: Migration, sql: str, record: str, values: tuple[object, ...]) -> None:
    with connection.cursor() as cursor:
        try:
            if sql.startswith(NO_TRANSACTION):
                # It waits for older transactions, however long they take: giving up leaves an invalid index.
                cursor.execute("set lock_timeout = 0")
                cursor.execute(sql)
                cursor.execute(record, values)
                cursor.execute(f"set lock_timeout = '{FILE_LOCK_SECONDS}s'")
            else:
                cursor.execute("begin")
                cursor.execute(sql)
                cursor.execute(record, values)
                cursor.execute("commit")
        except psycopg2.Error as error:
            raise MigrationError(
                f"{migration.name} failed and was rolled back, unless it says {NO_TRANSACTION}: {error}".rstrip()
            ) from error
