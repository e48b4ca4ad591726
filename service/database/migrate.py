"""Applies migrations/: plain SQL files, each once, in order, and unchanged ever after."""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errorcodes

from service.database import grants
from service.database.handle import database
from service.database.transactions import read, session, sqlstate

LOCK_KEY = 0x6F6D6E69666C6F  # "omniflo"
WAIT_SECONDS = 120.0
FILE_LOCK_SECONDS = 10
NO_TRANSACTION = "-- no-transaction"
"""The first line of a file that runs outside a transaction; it may hold one statement only."""

COMPATIBLE_FROM = "-- compatible-from:"
"""Begins the line that says since which version releases can work with the schema that the file leaves."""

_COMPATIBLE = re.compile(rf"{COMPATIBLE_FROM} (\d{{4}})")
_NAME = re.compile(r"(?P<version>\d{4})_(?P<what>[a-z0-9_]+)\.(?P<direction>up|down)\.sql")


class MigrationError(Exception):
    """The migrations and the database do not fit together; the message says what to do."""


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    up: str
    down: str
    compatible_from: int
    """The oldest schema whose release can work with the one that this leaves; its own version is none but its own."""

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True)
class Applied:
    name: str
    checksum: str
    compatible_from: int | None
    """None where an older release has applied it, which did not know of this."""


class Status(NamedTuple):
    """The names of migrations."""

    applied: list[str]
    pending: list[str]
    newer: list[str]
    """Those that are applied, and that only a newer release has."""


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
        name = f"{version}_{what}"
        migrations.append(
            Migration(expected, name, files["up"], files["down"], _compatible_from(name, expected, files["up"]))
        )
    return migrations


def up(migrations: list[Migration], *, to: int | None = None, role: str | None = None) -> list[str]:
    """Apply what is not applied yet, up to version `to`, and return the names; on a newer schema as `status`.

    A `role` is given what it needs to serve, once all is applied.
    """
    done = []
    with _locked() as connection:
        _require_utf8(connection)
        applied = _applied(connection)
        for migration in _pending(migrations, _known(migrations, applied)):
            if to is not None and migration.version > to:
                break
            _run(
                connection,
                migration,
                migration.up,
                "insert into schema_migrations (version, name, checksum, compatible_from) values (%s, %s, %s, %s)",
                (migration.version, migration.name, migration.checksum, migration.compatible_from),
            )
            done.append(migration.name)
        _renew_epoch(connection)
        if role is not None and to is None:
            grants.apply(connection, role)
    return done


def down(migrations: list[Migration], *, to: int) -> list[str]:
    """Take back what is applied above version `to`, newest first, and return the names."""
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


def grant(migrations: Sequence[Migration], role: str, *, is_applied: bool) -> list[str]:
    """Return the statements that give a role what it needs to serve, after executing them if asked to."""
    if reason := obstacle(migrations):
        raise MigrationError(reason)
    with _locked() if is_applied else session() as connection:
        if is_applied:
            grants.apply(connection, role)
        return grants.statements(connection, role)


def status(migrations: list[Migration]) -> Status:
    """Return how far a schema is; an edited or missing file is an error.

    Migrations that only a newer release has are an error too, unless all of them say that this one may go on.
    """
    with session() as connection:
        applied = _applied(connection)
    known = _known(migrations, applied)
    pending = [migration.name for migration in _pending(migrations, known)]
    newer = [row.name for version, row in applied.items() if version not in known]
    return Status([row.name for row in known.values()], pending, newer)


@read
def obstacle(migrations: Sequence[Migration]) -> str | None:
    """Return why a release with these migrations cannot work with the schema, and what to do; None when it can."""
    try:
        pending = _pending(migrations, _known(migrations, _applied(database.connection())))
    except MigrationError as error:
        return str(error)
    names = ", ".join(migration.name for migration in pending)
    return f"migrations are pending: run `python -m service migrate up` ({names})" if names else None


@read
def version() -> int:
    """Return the version of the schema; 0 for none."""
    ((newest,),) = database.execute_sql("select coalesce(max(version), 0) from schema_migrations").fetchall()
    return int(newest)


def place() -> str:
    """Return which database it is, for people."""
    with session() as connection:
        return f"the database {connection.info.dbname} at {connection.info.host or 'this machine'}"


def _folder() -> Path:
    here = Path(__file__).parents[1]
    # Inside the package in a wheel, beside it in a checkout.
    return next(path for path in (here / "migrations", here.parent / "migrations") if path.is_dir())


@contextmanager
def _locked() -> Iterator[Any]:
    """Yield a connection that is the only one to migrate.

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
        cursor.execute(f"set statement_timeout = 0; set lock_timeout = '{FILE_LOCK_SECONDS}s'")
        cursor.execute("select to_regclass('schema_migrations') is null")
        # Asked first: who has nothing to apply need not be allowed to make tables.
        if cursor.fetchone()[0]:
            cursor.execute(
                "create table schema_migrations ("
                "  version bigint primary key,"
                "  name text not null,"
                "  checksum text not null,"
                "  apply_time timestamptz not null default clock_timestamp(),"
                "  compatible_from bigint"
                ")"
            )
        cursor.execute(
            "select from pg_attribute where attrelid = 'schema_migrations'::regclass and attname = 'compatible_from'"
        )
        # Releases before this column made the table without it. Asked first: adding it waits for all who read.
        if not cursor.rowcount:
            cursor.execute("alter table schema_migrations add column if not exists compatible_from bigint")
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
        # By way of JSON: the column may not be there yet, and who only reads does not add it.
        cursor.execute(
            "select version, name, checksum, (to_jsonb(m) ->> 'compatible_from')::bigint"
            " from schema_migrations m order by version"
        )
        return {version: Applied(*row) for version, *row in cursor.fetchall()}


def _known(migrations: Sequence[Migration], applied: Mapping[int, Applied]) -> Mapping[int, Applied]:
    """Return what is applied of these migrations; MigrationError when there is more that they cannot work with."""
    newest = len(migrations)
    for version, row in applied.items():
        if version > newest and (row.compatible_from is None or row.compatible_from > newest):
            raise MigrationError(
                f"{row.name} is applied, and this release, which ends at {newest:04}, cannot work with it: use the"
                f" release that has it, or take it back with that one: `python -m service migrate down --to {newest}`"
            )
    return {version: row for version, row in applied.items() if version <= newest}


def _compatible_from(name: str, version: int, sql: str) -> int:
    """Read since which version releases can work with what a file leaves; its own where it does not say."""
    lines = [line for line in sql.splitlines() if "compatible-from" in line]
    if not lines:
        return version
    match = _COMPATIBLE.fullmatch(lines[0])
    if len(lines) > 1 or match is None or int(match[1]) > version:
        raise MigrationError(f"{name}.up.sql should have one line `{COMPATIBLE_FROM} NNNN`, up to {version:04}")
    return int(match[1])


def _pending(migrations: Sequence[Migration], applied: Mapping[int, Applied]) -> list[Migration]:
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


def _require_utf8(connection: Any) -> None:
    """Refuse a database whose encoding a later migration would fail at."""
    with connection.cursor() as cursor:
        cursor.execute("show server_encoding")
        (encoding,) = cursor.fetchone()
    if encoding != "UTF8":
        raise MigrationError(f"the database has the encoding {encoding}; create one with encoding 'UTF8'")


def _renew_epoch(connection: Any) -> None:
    """Let the log of changes begin another epoch where it was restored from a dump, if there is a log yet."""
    with connection.cursor() as cursor:
        # Who has nothing to apply need not be allowed to do anything.
        cursor.execute("select has_function_privilege(to_regprocedure('renew_epoch()'), 'execute')")
        if cursor.fetchone()[0]:
            cursor.execute("select renew_epoch()")


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
            message = f"{migration.name} failed and was rolled back, unless it says {NO_TRANSACTION}: {error}".rstrip()
            if sqlstate(error) == errorcodes.INSUFFICIENT_PRIVILEGE:
                message += f"; {grants.HELP}"
            raise MigrationError(message) from error
