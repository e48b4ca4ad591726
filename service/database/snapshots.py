"""What a backup has to know of a database, and what it asks for before it is restored into another."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import extensions, sql

from service import errors
from service.database.connections import connect
from service.deadline import time_limit

PRINTED = (
    "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set extra_float_digits = 1;"
    " set bytea_output = 'hex'"
)
"""What rows look like as text depends on these."""

SUM = (
    "select count(*), coalesce(sum(('x' || encode(substr(sha256(convert_to((r.*)::text, 'UTF8')), 1, 8), 'hex'))"
    "::bit(64)::bigint), 0)::text from %I.%I r"
)
"""The rows of a table and their checksum, with the schema and the table put in by `format`. Adding up the digests of
rows, it needs no order; SHA-256 is the same in every version, and allowed everywhere."""

_BY_ITSELF = (
    "not exists (select from pg_depend where (classid, objid) = ({0}.tableoid, {0}.oid) and refobjid <> objid"
    " and deptype in ('e', 'a', 'i'))"
)
"""Whether something does not come and go with something else, such as an extension, a column or a table."""

CONTENT = f"""
    select format('%s if exists %I.%I', case relkind
        when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table'
        else 'table' end, nspname, relname)
    from pg_class r join pg_namespace n on n.oid = relnamespace
    where nspname = {{0}} and relkind in ('r', 'p', 'v', 'm', 'S', 'f') and {_BY_ITSELF.format("r")}
    union all
    select format('routine if exists %I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid))
    from pg_proc p join pg_namespace n on n.oid = pronamespace
    where nspname = {{0}} and {_BY_ITSELF.format("p")}
    union all
    select format('type if exists %I.%I', nspname, typname)
    from pg_type t join pg_namespace n on n.oid = typnamespace
    where nspname = {{0}} and typtype in ('e', 'd', 'c', 'r') and {_BY_ITSELF.format("t")}
"""
"""What there is in the schema whose name is put in, as it is named to be dropped; what only goes with another aside."""

LONGEST_SECONDS = 6 * 3600.0
"""How long a database may take to be saved or restored."""
_WAIT_FOR_LOCKS = "30s"


class Table(NamedTuple):
    rows: int
    checksum: str


class Place(NamedTuple):
    """A database."""

    name: str
    postgresql: int
    """The major version."""
    namespace: str | None
    """The schema that is worked in, where there is one."""
    is_empty: bool
    """Whether there is nothing in that schema."""


class Snapshot(NamedTuple):
    """A database as it was at a moment."""

    id: str
    """By which pg_dump finds it, for as long as it is held."""
    place: Place
    namespace: str
    time: datetime
    schema_version: int
    epoch: str
    tables: Mapping[str, Table]


class UnfitError(Exception):
    """The database cannot be saved whole; the message says why."""


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """Yield a connection in autocommit, and close it; what fails on it is raised as one of `errors`."""
    try:
        with time_limit(LONGEST_SECONDS), closing(connect(url)) as connection:
            with connection.cursor() as cursor:
                # Some of these are not in every version. A role may have been given other values.
                cursor.execute(
                    "select set_config(name, '0', false) from pg_settings where name in"
                    " ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')"
                )
                cursor.execute(f"set lock_timeout = '{_WAIT_FOR_LOCKS}'; {PRINTED}")
            yield connection
    except psycopg2.Error as error:
        raise errors.Unavailable("DATABASE_UNAVAILABLE", "the database does not do what it is asked") from error


def place(connection: Any) -> Place:
    with connection.cursor() as cursor:
        cursor.execute(f"select current_schema(), exists ({CONTENT.format('current_schema()')})")
        namespace, is_used = cursor.fetchone()
    return Place(connection.info.dbname, connection.info.server_version // 10_000, namespace, not is_used)


@contextmanager
def held(url: str) -> Iterator[Snapshot]:
    """Yield the database as it is now, which pg_dump can see for as long as the block lasts, and no longer.

    UnfitError where it has no schema of this service, or where the role may not see all of it.
    """
    with opened(url) as connection, connection.cursor() as cursor:
        cursor.execute("begin isolation level repeatable read read only")
        here = place(connection)
        cursor.execute(
            "select relname, pg_get_userbyid(relowner), pg_has_role(relowner, 'USAGE'), current_user from pg_class r"
            " where relnamespace = quote_ident(current_schema())::regnamespace and relkind in ('r', 'p')"
            f" and {_BY_ITSELF.format('r')} order by relname"
        )
        names = []
        for name, owner, is_ours, role in cursor.fetchall():
            if not is_ours:
                raise UnfitError(
                    f"the role {role} may not read all of the database: set OMNIFLO_DATABASE_OWNER_URL for the role"
                    f" that owns the tables, which is {owner}"
                )
            names.append(name)
        if here.namespace is None or "registry" not in names:
            raise UnfitError(
                f"the database {here.name} has nothing to save: `python -m service migrate up` was not run"
            )
        tables = {name: _table(cursor, here.namespace, name) for name in names}
        cursor.execute(
            "select pg_export_snapshot(), transaction_timestamp(), (select max(version) from schema_migrations),"
            " (select epoch::text from registry)"
        )
        id, time, version, epoch = cursor.fetchone()
        yield Snapshot(id, here, here.namespace, time, version, epoch, tables)


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Make an empty database beside the one of the URL, yield its URL, and drop it."""
    with opened(url) as connection, connection.cursor() as cursor:
        cursor.execute("select datcollate, datctype from pg_database where datname = current_database()")
        cursor.execute(
            sql.SQL("create database {} template template0 encoding 'UTF8' lc_collate {} lc_ctype {}").format(
                sql.Identifier(name), *map(sql.Literal, cursor.fetchone())
            )
        )
        try:
            # Everybody may connect to a new one.
            cursor.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))
            yield extensions.make_dsn(url, dbname=name)
        finally:
            drop(connection, name)


def drop(connection: Any, name: str) -> None:
    """Drop a database, and whoever is connected to it."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def databases(connection: Any, prefix: str) -> list[str]:
    """Return the databases of the role whose names begin so."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select datname from pg_database where starts_with(datname, %s) and pg_has_role(datdba, 'USAGE')", (prefix,)
        )
        return [name for (name,) in cursor.fetchall()]


def may_make_databases(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select rolcreatedb or rolsuper from pg_roles where rolname = current_user")
        return bool(cursor.fetchone()[0])


def _table(cursor: Any, namespace: str, name: str) -> Table:
    cursor.execute("select format(%s, %s, %s)", (SUM, namespace, name))
    cursor.execute(cursor.fetchone()[0])
    return Table(*cursor.fetchone())
