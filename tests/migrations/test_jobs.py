"""The tables of the engine of jobs: those that the installed version of it has."""

from collections.abc import Callable
from typing import Any

from procrastinate.schema import SchemaManager

from tests.conftest import Database

QUERIES = {
    "columns": """
        select c.oid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
          (select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = c.oid and adnum = attnum)
        from pg_attribute join pg_class c on c.oid = attrelid
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'c', 'S') and attnum > 0
        and relname like 'procrastinate%' order by 1, attnum
    """,
    "indexes": "select tablename, indexdef from pg_indexes where tablename like 'procrastinate%' order by 1, 2",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint
        where conrelid::regclass::text like 'procrastinate%' order by 1, 2
    """,
    "functions": "select pg_get_functiondef(oid) from pg_proc where proname like 'procrastinate%' order by 1",
    "triggers": """
        select pg_get_triggerdef(oid) from pg_trigger
        where tgrelid::regclass::text like 'procrastinate%' and not tgisinternal order by 1
    """,
    "enums": """
        select typname, enumlabel from pg_enum join pg_type on enumtypid = pg_type.oid
        where typname like 'procrastinate%' order by 1, enumsortorder
    """,
}


def schema(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    return {what: database.query(sql) for what, sql in QUERIES.items()}


def test_the_migrations_make_what_the_installed_version_of_the_engine_has(
    new_database: Callable[[], str], database: Database
) -> None:
    its_own = Database(new_database())
    its_own.query(SchemaManager.get_schema())
    wanted = schema(its_own)
    its_own.close()
    assert all(wanted.values())
    assert schema(database) == wanted, "an upgrade of procrastinate is a migration"
