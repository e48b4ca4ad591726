"""The words of templates: filled in for rows from before, kept up by a trigger, and there after a restore."""

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from service.actor import SYSTEM
from service.database import embedded, migrate
from service.models.templates import View
from service.operations import template_lists
from tests.conftest import Database
from tests.migrations.conftest import fill, working_on
from tests.migrations.test_runner import SECONDS, Background, background, wait_for

__all__ = ["background"]

MIGRATIONS = migrate.load()
TRIGGER = next(migration.version for migration in MIGRATIONS if migration.name.endswith("_words_by_trigger"))
FILL = TRIGGER + 1

MANY = """
insert into templates (id, title, instructions, user_id, template_type_id, model_id)
select 'r' || lpad(n::text, 4, '0'), 'Café 月度报告 ' || n, 'Do it.', 'u1', 't1', 'm1' from generate_series(1, 2500) n
"""
NEW = "words @@ '报告'::tsquery"


@pytest.fixture
def before(empty: Database) -> Database:
    """A database of the release before, with more templates than are filled in at a time."""
    migrate.up(MIGRATIONS, to=TRIGGER - 1)
    fill(empty)
    empty.query(MANY)
    return empty


def titles(query: str) -> list[str]:
    found = template_lists.page(SYSTEM, query=query, view=View.SUMMARY, after=None, size=10)
    return sorted(template.title for template in found.rows)


def test_words_are_filled_in_for_what_was_there_and_nothing_else_changes(before: Database) -> None:
    everything = "select to_jsonb(t) - 'words' from templates t order by id"
    rows = before.query(everything)
    with closing(psycopg2.connect(before.url)) as listener:
        listener.autocommit = True
        listener.cursor().execute("listen omniflo_changes")
        migrate.up(MIGRATIONS, to=FILL)
        listener.cursor().execute("select")
        assert listener.notifies == []
    assert before.query("select count(*) from templates where words <> template_words(title, description)") == [(0,)]
    assert before.query(everything) == rows


def test_an_interrupted_fill_keeps_what_it_has_and_goes_on_from_there(
    before: Database, background: Background[list[str]]
) -> None:
    migrate.up(MIGRATIONS, to=TRIGGER)
    waiting = "from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with closing(psycopg2.connect(before.url)) as holder:
        holder.cursor().execute("select from templates where id = 'r1500' for update")
        running: Future[list[str]] = background(lambda: migrate.up(MIGRATIONS, to=FILL))
        wait_for(before, f"select 1 {waiting}")
        # What somebody writes meanwhile has the new words, and so has the first batch.
        before.query("update templates set title = '月度报告' where id = 'r2500'")
        filled = before.query(f"select count(*) from templates where {NEW}")
        assert 900 < filled[0][0] < 1500
        before.query(f"select pg_cancel_backend(pid) {waiting}")
        with pytest.raises(migrate.MigrationError, match="_words_filled failed"):
            running.result(SECONDS)
    assert before.query(f"select count(*) from templates where {NEW}") == filled
    unchanged = "select xmin::text from templates where id = 'r0001'"
    xmin = before.query(unchanged)
    assert migrate.up(MIGRATIONS, to=FILL) == [MIGRATIONS[FILL - 1].name]
    assert before.query(f"select count(*) from templates where {NEW}") == [(2500,)]
    assert before.query(unchanged) == xmin


def test_words_follow_every_write_past_the_service(migrated: Database) -> None:
    migrated.query("update templates set title = '月度报告' where id = 'p1'")
    migrated.query("update templates set description = 'Thre\u0301' where id = 'p2'")
    assert titles("报告") == ["月度报告"]
    assert titles("thré") == ["Two"]
    assert titles("one") == []


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Monthly Report", "'mon':*"),
        ("Monthly Report", "'Report':*"),
        ("Gebühr 1e5 v1.2", "'gebühr':* & '1e5':* & 'v1':*"),
        ("月度报告", "'月度':*"),
        ("月度报告", "'月度报告':*"),
        ("แม่แบบรายงาน", "'แม่แบบ':*"),
        ("월간보고서를", "'월간':*"),
    ],
)
def test_what_an_older_release_asks_finds_what_it_did(before: Database, title: str, words: str) -> None:
    before.query("update templates set title = %s where id = 'p1'", (title,))
    ask = ("select id from templates where words @@ to_tsquery('simple', %s) and id like 'p%%'", (words,))
    assert before.query(*ask) == [("p1",)]
    migrate.up(MIGRATIONS)
    assert before.query(*ask) == [("p1",)]


@pytest.mark.parametrize("parts", [[], ["--data-only"]], ids=["everything", "rows alone"])
def test_a_restored_database_is_searched_as_before(
    migrated: Database, new_database: Callable[[], str], tmp_path: Path, parts: list[str]
) -> None:
    migrated.query("update templates set title = '月度报告', description = 'Cafe\u0301' where id = 'p1'")
    dump, restored = str(tmp_path / "dump"), Database(new_database())
    # With rows alone, triggers would write the engine's events a second time.
    without = ["--exclude-table=schema_migrations", *(["--exclude-table=procrastinate_*"] if parts else [])]
    tool("pg_dump", "--format=custom", *parts, *without, "--file", dump, migrated.url)
    with working_on(restored.url, afterwards=migrated.url):
        if parts:
            migrate.up(MIGRATIONS)
        tool("pg_restore", *parts, "--no-owner", "--exit-on-error", "--dbname", restored.url, dump)
        assert titles("café 度报") == ["月度报告"]
        restored.query("update templates set title = '销售' where id = 'p2'")
        assert titles("售") == ["销售"]
    restored.close()


@pytest.mark.parametrize("scope", ["", "g1", "it's", "a\\b", "a 'b':* & (\\1", "組織"])
def test_a_query_finds_the_words_of_its_scope_and_no_others(migrated: Database, scope: str) -> None:
    words, query = "'invoice' '月度':2 '度报':3", "'inv':* & ('月度' <-> '度报')"
    ((finds, finds_others),) = migrated.query(
        "select scoped_words(%s, words) @@ wanted, scoped_words('other', words) @@ wanted"
        " from cast(%s as tsvector) words, scoped_query(%s, %s) wanted",
        (scope, words, scope, query),
    )
    assert (finds, finds_others) == (True, False)


def tool(name: str, *arguments: str) -> None:
    program = embedded.binaries() / name
    subprocess.run([program, *arguments], check=True, timeout=SECONDS, env=os.environ | {"LC_ALL": "C"})


def test_a_database_that_has_not_every_character_is_refused(url: str, postgres: Any) -> None:
    admin = Database(postgres.admin_url)
    admin.query(
        "create database no_unicode owner omniflo template template0"
        " encoding 'SQL_ASCII' locale_provider libc locale 'C'"
    )
    other = postgres.url.replace("/postgres?", "/no_unicode?")
    with working_on(other, afterwards=url), pytest.raises(migrate.MigrationError, match="UTF8"):
        migrate.up(MIGRATIONS)
    admin.query("drop database no_unicode")
    admin.close()
