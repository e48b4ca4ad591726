"""What other organizations have makes no list of templates slower, so nobody learns of it from a clock."""

from collections.abc import Callable
from typing import Any

import pytest

from service.actor import Actor
from service.database import handle, migrate
from service.models.templates import View
from service.operations import template_lists
from tests.conftest import Database
from tests.migrations.conftest import working_on

OURS = """
insert into users (id, clerk_id) select 'u' || n, 'user_' || n from generate_series(0, 999) n;
insert into template_types (id, name) select 't' || n, 't' || n from generate_series(0, 3999) n;
insert into openai_models (id, openai_id, name) select 'm' || n, 'm' || n, 'm' || n from generate_series(0, 999) n;
insert into organizations (id, name) select id, id from unnest(array['few', 'many', 'theirs']) id;
insert into organization_members (id, organization_id, user_id, role)
values ('few', 'few', 'u100', 'member'), ('many', 'many', 'u101', 'member');
alter table templates disable trigger record_changes, disable trigger record_revision;
insert into templates
  (id, title, instructions, user_id, template_type_id, model_id, organization_id, tags, create_time)
select
  place || n, 'Invoices', 'Do it.', 'u' || 100 + n % 900, 't' || 100 + n % 900, 'm' || 100 + n % 900, place, array['a'],
  now() - n * interval '1 second'
from (values ('few', 50), ('many', 8000)) filled (place, most), generate_series(1, most) n
"""
THEIRS = """
insert into templates
  (id, title, instructions, user_id, template_type_id, model_id, organization_id, tags, is_default)
select
  'theirs' || n, 'Layoffs of the works 月度报告 ' || n, 'Do it.', 'u' || n % 2, 't' || 1000 + n % 3000, 'm' || n % 2,
  'theirs', array['layoffs', 'works/berlin'], n <= 3000
from generate_series(1, 15000) n
"""

FOUND: dict[str, dict[str, Any]] = {
    "a word": {"query": "layoffs"},
    "the beginning of a word": {"query": "lay"},
    "two words": {"query": "layoffs works"},
    "a word beside one of ours": {"query": "layoffs inv"},
    "a run": {"query": "度报"},
    "a tag": {"tags": ["layoffs"]},
    "a folder of tags": {"tags": ["works/"]},
    "a tag beside one of ours": {"tags": ["layoffs", "a"]},
    "a word and a tag": {"query": "layoffs", "tags": ["layoffs"]},
}
FILTERED: dict[str, dict[str, Any]] = {
    "an author": {"user_id": "u1"},
    "a type": {"template_type": "t1001"},
    "a model": {"model": "m1"},
    "all of these": {"user_id": "u1", "template_type": "t1001", "model": "m1"},
    "defaults": {"is_default": True},
}
CASES = (
    FOUND
    | FILTERED
    | {f"{found} and {filtered}": FOUND[found] | FILTERED[filtered] for found in FOUND for filtered in FILTERED}
)
"""Of what only other organizations have."""


def blocks(patch: pytest.MonkeyPatch) -> dict[tuple[str, bool, str], int]:
    """Return how many blocks each case reads, by the member who asks, and by whether it names its organization."""
    execute = handle.Database.execute_sql
    read = 0

    def note(database: handle.Database, sql: str, params: Any = None) -> Any:
        nonlocal read
        if "select" in sql and "from" in sql:
            explain = f"explain (analyze, buffers, timing off, format json) {sql}"
            (((plan,),),) = execute(database, explain, params).fetchall()
            read += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        return execute(database, sql, params)

    found = {}
    with patch.context() as patched:
        patched.setattr(handle.Database, "execute_sql", note)
        patched.setattr(handle.database, "prepares", False)
        for member, user_id in ("few", "u100"), ("many", "u101"):
            for is_named in False, True:
                for name, filters in CASES.items():
                    read = 0
                    organization_id = member if is_named else None
                    actor = Actor(f"user:{member}", user_id=user_id)
                    page = template_lists.page(
                        actor, organization_id=organization_id, view=View.SUMMARY, after=None, size=50, **filters
                    )
                    assert page.rows == []
                    found[member, is_named, name] = read
    return found


def test_what_others_have_is_not_read(
    new_database: Callable[[], str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(new_database())
    with working_on(database.url, afterwards=url):
        migrate.up(migrate.load())
        database.query(OURS)
        database.query("vacuum analyze templates")
        # The first statements also read the catalogs.
        blocks(monkeypatch)
        before = blocks(monkeypatch)
        database.query(THEIRS)
        # PostgreSQL knows how much there is, and nobody has cleaned up.
        database.query("analyze templates")
        after = blocks(monkeypatch)
    database.close()
    assert {case: (before[case], after[case]) for case in before if abs(after[case] - before[case]) > 10} == {}
