"""The Peewee rows of service/models against the schema that the migrations make."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import peewee as pw
import pytest

from service import models
from service.database import handle
from service.database.changes import Change
from service.models.row import Row, Versioned
from tests.conftest import QUEUE, Database, tables_of


def rows_of(base: type[pw.Model]) -> Iterator[type[pw.Model]]:
    """Answer the classes below the base that stand for a table."""
    for row in base.__subclasses__():
        if row not in {Row, Versioned} and row.__module__.startswith("service."):
            yield row
        yield from rows_of(row)


for module in pkgutil.iter_modules(models.__path__, "service.models."):
    import_module(module.name)
MODELS = sorted(rows_of(pw.Model), key=lambda row: row._meta.table_name)

each_model = pytest.mark.parametrize("row", MODELS, ids=lambda row: row._meta.table_name)


COLUMNS = "select attname from pg_attribute"

UNREAD = {"templates": ["words"]}
"""The columns that no row has, of each table: those that are for conditions alone."""


LOG = ("changes", "registry", "schema_migrations", "statement_times", "statistics_samples")
"""Tables without resources, which are read and written by SQL."""


def table_of(row: type[pw.Model]) -> str:
    return str(row._meta.table_name)


def test_every_table_has_a_model(database: Database) -> None:
    assert tables_of(database) == {*LOG, *QUEUE, *(table_of(row) for row in MODELS)}


def test_a_change_is_read_with_all_columns_of_the_log_but_those_that_find_it(database: Database) -> None:
    columns = {column for (column,) in database.query(f"{COLUMNS} where attrelid = 'changes'::regclass and attnum > 0")}
    assert {*Change._fields} - columns == {"template_type", "revision"}
    assert columns - {*Change._fields} == {"epoch", "template_type_id"}


@each_model
def test_columns_are_the_model_s_in_name_type_nullability_and_collation(
    database: Database, row: type[pw.Model]
) -> None:
    def expected(field: pw.Field) -> tuple[Any, ...]:
        context: Any = handle.database.get_sql_context()
        spelled, _ = context.sql(field.ddl_datatype(context)).query()
        # PostgreSQL's own name of the type, whatever Peewee calls it.
        ((type_,),) = database.query("select %s::regtype::text", (spelled,))
        # A reference compares as what it refers to.
        collation = getattr(field, "rel_field", field).collation
        return field.column_name, type_, not field.null, collation

    assert sorted(
        database.query(
            """
            select attname, format_type(atttypid, atttypmod), attnotnull,
              case when attcollation = 0 or collname = 'default' then null else collname end
            from pg_attribute left join pg_collation c on c.oid = attcollation
            where attrelid = %s::regclass and attnum > 0 and not attisdropped and attname <> all(%s)
            """,
            (table_of(row), UNREAD.get(table_of(row), [])),
        )
    ) == sorted(map(expected, row._meta.sorted_fields))


@each_model
def test_primary_key_is_the_model_s(database: Database, row: type[pw.Model]) -> None:
    key: Any = row._meta.primary_key
    # What happens again and again has none.
    names = key.field_names if isinstance(key, pw.CompositeKey) else (key.column_name,) if key else ()
    assert database.query(
        "select replace(pg_get_constraintdef(oid), '\"', '') from pg_constraint"
        " where contype = 'p' and conrelid = %s::regclass",
        (table_of(row),),
    ) == [(f"PRIMARY KEY ({', '.join(names)})",)] * bool(names)


@each_model
def test_defaults_of_the_database_are_the_model_s(database: Database, row: type[pw.Model]) -> None:
    def of_model(field: pw.Field) -> Any:
        if field.constraints:
            (constraint,) = field.constraints
            return constraint.sql.removeprefix("default ")
        default = field.default() if callable(field.default) else field.default
        return "'{}'" if default == [] else None if default is None else repr(default).lower()

    found = database.query(
        "select column_name, regexp_replace(column_default, '::.*', '') from information_schema.columns"
        " where table_schema = 'public' and table_name = %s and column_name <> all(%s)",
        (table_of(row), UNREAD.get(table_of(row), [])),
    )
    assert dict(found) == {field.column_name: of_model(field) for field in row._meta.sorted_fields}


@each_model
def test_references_of_the_model_are_foreign_keys(database: Database, row: type[pw.Model]) -> None:
    # Of a reference by several columns the model knows the first, and none of one to a member.
    found = database.query(
        """
        select attname, confrelid::regclass::text, confdeltype = 'c'
        from pg_constraint join pg_attribute on attrelid = conrelid and attnum = conkey[1]
        where contype = 'f' and conrelid = %s::regclass and confrelid <> 'organization_members'::regclass
        """,
        (table_of(row),),
    )
    fields = {
        (field.column_name, table_of(field.rel_model), field.on_delete == "CASCADE")
        for field in row._meta.refs
        # The type of a selection is its template's: they are one reference.
        if (table_of(row), field.name) != ("user_template_selections", "template_type")
    }
    assert set(found) == fields
