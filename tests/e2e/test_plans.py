"""How PostgreSQL finds what a list asks for, in a table that is large enough for a wrong way to be dear."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from service.actor import SYSTEM
from service.database import handle, migrate
from service.models.templates import View
from service.operations import seed, template_search, templates, users
from tests.conftest import Database

FILL = """
insert into templates (id, title, instructions, user_id, template_type_id, model_id, create_time)
select 't' || n, 'Invoice ' || n || '号の請求書' || case when n = 1 then ' needle 針金線' else '' end, 'Do it.', %s,
  (select min(id) from template_types), (select min(id) from openai_models), now() + n * interval '1 second'
from generate_series(1, 50000) n
"""


@pytest.fixture(scope="module")
def large(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A database with 50,000 templates, which this thread's operations work on."""
    database = Database(new_database())
    handle.database.drop()
    handle.database.configure(database.url)
    migrate.up(migrate.load())
    seed.run(SYSTEM)
    database.query(FILL, (users.provision(SYSTEM, "user_1").id,))
    database.query("analyze templates")
    yield database
    handle.database.drop()
    handle.database.configure(url)
    database.close()


@pytest.mark.parametrize(
    ("word", "few", "index"),
    [
        ("needle", 5_000, "templates_by_words"),
        ("針金線", 5_000, "templates_by_words"),
        ("線", 5_000, "templates_by_words"),
        ("invoice", 5_000, "templates_by_scope"),
        ("請求書", 5_000, "templates_by_scope"),
        ("求", 5_000, "templates_by_scope"),
        ("invoice 号の請求書", 5_000, "templates_by_scope"),
        ("needle", 100_000, "templates_by_scope"),
        ("針金線", 100_000, "templates_by_scope"),
    ],
)
def test_a_search_finds_rare_words_by_their_index_and_walks_where_they_are_common(
    large: Database, monkeypatch: pytest.MonkeyPatch, word: str, few: int, index: str
) -> None:
    del large
    monkeypatch.setattr(template_search, "MAX_FEW", few)
    execute, plans = handle.database.execute_sql, []

    def explained(sql: str, parameters: Sequence[object] | None = None) -> Any:
        if "page.is_last" in sql:
            plans.append("\n".join(line for (line,) in execute(f"explain {sql}", parameters).fetchall()))
        return execute(sql, parameters)

    monkeypatch.setattr(handle.database, "execute_sql", explained)
    assert templates.page(SYSTEM, query=word, view=View.BASIC, after=None, size=50).rows
    (plan,) = plans
    used = {name for name in ("templates_by_words", "templates_by_scope") if name in plan}
    assert used == {index}, plan
