"""The triggers that make revisions: whoever writes, and what was there before them."""

from collections.abc import Callable

import psycopg2.errors
import pytest

from service.actor import SYSTEM
from service.database import migrate
from service.models.templates import View
from service.operations import maintenance, template_revisions, undelete
from tests.conftest import REVISIONS as REVISION_TABLES
from tests.conftest import Database, as_service
from tests.contract.tables import taken_for_small
from tests.migrations.conftest import fill

MIGRATIONS = migrate.load()
TRIGGERS = next(migration.version for migration in MIGRATIONS if migration.name.endswith("_revisions"))

REVISIONS = "select template_id, revision, says ->> 'title', message, actor from template_revisions order by 1, 2"
TYPES = """
    select template_type_id, revision, jsonb_path_query_array(tools, '$[*].name')::text
    from template_type_revisions order by 1, 2
"""


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database)
    return database


def test_what_was_there_before_gets_its_first_revision(empty: Database) -> None:
    migrate.up(MIGRATIONS, to=TRIGGERS - 1)
    fill(empty)
    empty.query(
        "insert into templates (id, title, instructions, user_id, template_type_id, model_id)"
        " select 'r' || lpad(n::text, 4, '0'), 'Title', 'Do it.', 'u1', 't1', 'm1' from generate_series(1, 2500) n"
    )
    migrate.up(MIGRATIONS, to=TRIGGERS)
    # Between the two files, the release of before goes on.
    empty.query("update templates set title = 'Meanwhile' where id = 'r0007'; delete from templates where id = 'r0008'")
    migrate.up(MIGRATIONS)
    found = empty.query(REVISIONS)
    assert [(id, revision) for id, revision, *_ in found if id < "r"] == [("p1", 1), ("p2", 1), ("p3", 1)]
    assert [row[1:] for row in found if row[0] == "r0007"] == [
        (1, "Title", "", ""),
        (2, "Meanwhile", "", "sql:omniflo"),
    ]
    assert len({id for id, *_ in found}) == 3 + 2500 - 1
    assert empty.query(
        "select count(*) from templates t where not exists (select from template_revisions r"
        " where r.template_id = t.id and r.revision = t.revision)"
    ) == [(0,)]
    # What no revision says, a type is shown with as it is now, and a template without.
    lacking = empty.query(
        "select distinct 'template_type_revisions', field from template_types t, jsonb_object_keys(to_jsonb(t)) field"
        " where field not in ('id', 'create_time', 'update_time', 'version', 'revision')"
        " and exists (select from template_type_revisions where not says ? field)"
        " union all select distinct 'template_revisions', field"
        " from templates t, jsonb_object_keys(template_says(t)) field"
        " join pg_attribute on attrelid = 'templates'::regclass and attname = field and attnotnull"
        " where exists (select from template_revisions where not says ? field)"
    )
    assert not lacking, "the migration that adds the column has to write its default into `says` of these revisions"
    assert empty.query(TYPES) == [("t1", 1, '["search", "write"]'), ("t2", 1, '["run"]')]


def test_sql_by_hand_makes_revisions(filled: Database) -> None:
    filled.query("update templates set model_id = 'm1', title = 'By hand' where id in ('p1', 'p2')")
    filled.query("update templates set version = version + 1, is_default = is_default")
    found = filled.query(REVISIONS)
    assert [(id, revision, title) for id, revision, title, *_ in found] == [
        ("p1", 1, "One"),
        ("p1", 2, "By hand"),
        ("p2", 1, "Two"),
        ("p2", 2, "By hand"),
        ("p3", 1, "Three"),
    ]
    assert {actor for *_, actor in found} == {"sql:omniflo"}
    # Numbers are the database's, whatever somebody writes.
    filled.query("update templates set revision = 7 where id = 'p3'")
    assert filled.query("select revision from templates order by id") == [(2,), (2,), (1,)]


def test_what_is_rolled_back_has_made_no_revision(filled: Database) -> None:
    filled.query(
        "begin; savepoint s; update templates set title = 'No' where id = 'p1'; rollback to s;"
        "update templates set title = 'Yes' where id = 'p1'; commit"
    )
    titles = filled.query("select says ->> 'title' from template_revisions where template_id = 'p1' order by revision")
    assert titles == [("One",), ("Yes",)]


def test_a_statement_about_tools_is_one_revision_of_each_type(filled: Database) -> None:
    assert filled.query(TYPES) == [
        ("t1", 1, "[]"),
        ("t1", 2, '["search", "write"]'),
        ("t2", 1, "[]"),
        ("t2", 2, '["run"]'),
    ]
    version = "select revision, version from template_types order by id"
    before = filled.query(version)
    filled.query("update template_tools set version = version + 1")
    filled.query("update template_tools set name = name where false; delete from template_tools where false")
    assert filled.query(version) == before
    filled.query("update template_tools set template_type_id = 't2', name = 'aim' where id = 'o1'")
    assert filled.query(TYPES)[2::3] == [("t1", 3, '["write"]'), ("t2", 3, '["aim", "run"]')]
    filled.query("delete from template_tools")
    assert filled.query(version) == [(4, 4), (4, 4)]


def test_a_text_is_stored_once_for_each_template(filled: Database) -> None:
    for title, text in (("a", "Do it."), ("b", "Do more."), ("c", "Do it."), ("d", "Do more.")):
        filled.query("update templates set title = %s, instructions = %s where id = 'p1'", (title, text))
    assert filled.query("select count(*) from template_revisions where template_id = 'p1'") == [(5,)]
    assert filled.query("select count(*) from revision_texts where owner_id = 'p1'") == [(2,)]
    assert [
        template_revisions.get(SYSTEM, "p1", number, view=View.BASIC).template.instructions for number in range(1, 6)
    ] == ["Do it.", "Do it.", "Do more.", "Do it.", "Do more."]


@pytest.mark.parametrize("table", REVISION_TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "insert into {0} select * from {0}",
        "delete from {0}",
        "truncate {0}",
        "select keep_template_revision(t, '', '', now()) from templates t where id = 'p1'",
    ],
)
def test_who_serves_can_neither_make_nor_change_a_revision(filled: Database, table: str, statement: str) -> None:
    serving = Database(as_service(filled.url))
    serving.query("update templates set title = 'Other'")
    made = filled.query("delete from template_revisions where template_id = 'p1' returning 1")
    assert len(made) == 2
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        serving.query(statement.format(table))
    serving.close()


def test_labels_keep_the_type_of_a_template(filled: Database) -> None:
    filled.query("delete from user_template_selections")
    filled.query("update templates set labels = '{\"production\": 1}' where id = 'p3'")
    with pytest.raises(psycopg2.errors.CheckViolation):
        filled.query(
            "delete from user_template_selections; update templates set template_type_id = 't1' where id = 'p3'"
        )


def test_revisions_go_with_the_log(filled: Database, emptying: Database) -> None:
    filled.query("update templates set title = 'Other' where id <> 'p3'; delete from templates where id = 'p1'")
    filled.query("delete from templates where id = 'p2'")
    # Of one that was deleted and is there again, nothing goes.
    filled.query(
        "delete from templates where id = 'p3';"
        "insert into templates (id, title, instructions, user_id, template_type_id, model_id)"
        " values ('p3', 'Back', 'Do it.', 'u2', 't2', 'm2')"
    )
    emptying.query("update changes set time = now() - interval '3 days' where resource_id in ('p1', 'p3')")
    ((old,),) = filled.query("select count(*) from changes where time < now() - interval '2 days'")
    kept: Callable[[], object] = lambda: filled.query(  # noqa: E731 - read several times
        "select template_id, count(*) from template_revisions group by 1 order by 1"
    )
    assert kept() == [("p1", 2), ("p2", 2), ("p3", 2)]
    # One at a time, however PostgreSQL joins: two revisions, of one text, and what the log has.
    with taken_for_small(emptying, "changes", rows=0):
        assert [filled.query("select purge_changes(2, 1)") for _ in range(2 + 1 + old)] == [[(1,)]] * (2 + 1 + old)
    assert maintenance.purge_changes(SYSTEM, days=2) == 0
    assert kept() == [("p2", 2), ("p3", 2)]
    owners = "select distinct owner_id from revision_texts where owner_id like 'p%' order by 1"
    assert filled.query(owners) == [("p2",), ("p3",)]


def test_revisions_stay_while_the_log_has_a_later_deletion(filled: Database, emptying: Database) -> None:
    filled.query("delete from user_template_selections; delete from templates where id = 'p1'")
    emptying.query("update changes set time = now() - interval '3 days' where resource_id = 'p1'")
    undelete.template(SYSTEM, "p1", view=View.SUMMARY)
    filled.query("delete from templates where id = 'p1'")
    maintenance.purge_changes(SYSTEM, days=2)
    assert undelete.template(SYSTEM, "p1", view=View.BASIC).instructions == "Do it."
