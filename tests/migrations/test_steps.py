"""The files of migrations/: from zero, to zero, and each step there and back."""

from typing import Any

import pytest

from service.database import migrate
from tests.conftest import REVISIONS, Database, tables_of
from tests.migrations.conftest import IN_ORGANIZATIONS, ROWS, fill, schema

MIGRATIONS = migrate.load()


FILLS = {"revisions_filled", "words_filled"}
"""Migrations that change rows alone."""


def rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Answer all rows of all tables, the runner's own aside, without the words that are made of other columns."""
    tables = tables_of(database) - {"schema_migrations"}
    return {
        table: [row for (row,) in database.query(f"select to_jsonb(t) - 'words' from {table} t order by t::text")]
        for table in tables
    }


def same_columns(rows: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer the rows without the columns that the others do not have."""
    return [{name: value for name, value in row.items() if name in other[0]} for row in rows]


def test_every_table_has_rows_in_these_tests(migrated: Database) -> None:
    # What happened and what was said is written by triggers.
    assert rows(migrated).keys() == {*ROWS, *REVISIONS, "changes", "registry"}
    assert all(rows(migrated).values())


def test_up_applies_all_in_order_and_nothing_twice(empty: Database) -> None:
    names = [migration.name for migration in MIGRATIONS]
    assert migrate.status(MIGRATIONS) == ([], names, [])
    assert migrate.up(MIGRATIONS) == names
    assert migrate.status(MIGRATIONS) == (names, [], [])
    assert migrate.up(MIGRATIONS) == []
    assert empty.query("select version, name from schema_migrations order by apply_time") == list(
        enumerate(names, start=1)
    )


def test_down_leaves_nothing_and_up_makes_the_same_schema_again(migrated: Database) -> None:
    before = schema(migrated)
    assert migrate.down(MIGRATIONS, to=0) == [migration.name for migration in reversed(MIGRATIONS)]
    assert not any(schema(migrated).values())
    migrate.up(MIGRATIONS)
    assert schema(migrated) == before


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_a_step_back_and_forth_spares_the_rows_of_other_tables(empty: Database, migration: migrate.Migration) -> None:
    migrate.up(MIGRATIONS, to=migration.version)
    fill(empty)
    schema_before, before = schema(empty), rows(empty)

    assert migrate.down(MIGRATIONS, to=migration.version - 1) == [migration.name]
    assert (schema(empty) == schema_before) == (migration.name[5:] in FILLS)
    without = rows(empty)
    assert without == {table: same_columns(before[table], kept) for table, kept in without.items()}

    assert migrate.up(MIGRATIONS, to=migration.version) == [migration.name]
    assert schema(empty) == schema_before
    again = rows(empty)
    assert {table: same_columns(again[table], kept) for table, kept in without.items()} == without


@pytest.mark.parametrize("table", ["templates", "user_template_selections"])
def test_what_belongs_to_organizations_is_neither_lost_nor_made_public(migrated: Database, table: str) -> None:
    migrated.query(IN_ORGANIZATIONS)
    if table == "user_template_selections":
        # The selection of a platform-wide template in an organization.
        migrated.query("delete from templates where organization_id is not null")
    before, newest = rows(migrated), max(migration.version for migration in MIGRATIONS)
    migrate.down(MIGRATIONS, to=9)
    schema_before = schema(migrated)
    with pytest.raises(migrate.MigrationError, match="0009_templates_of_organizations failed and was rolled back"):
        migrate.down(MIGRATIONS, to=0)
    assert schema(migrated) == schema_before
    kept = rows(migrated)[table]
    assert kept == same_columns(before[table], kept)

    migrate.up(MIGRATIONS, to=newest)
    for each in ("user_template_selections", "templates"):
        migrated.query(f"delete from {each} where organization_id is not null")
    assert migrate.down(MIGRATIONS, to=8)[-1] == "0009_templates_of_organizations"
    assert [row["id"] for row in rows(migrated)[table]] == [
        row["id"] for row in before[table] if row["organization_id"] is None
    ]
