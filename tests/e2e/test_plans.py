"""How PostgreSQL finds what a list asks for, in a table that is large enough for a wrong way to be dear."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench import usage
from service.actor import SYSTEM
from service.database import changes, embedded, handle, migrate
from service.database.connections import connect
from service.models.templates import View
from service.operations import changes as operations
from service.operations import (
    processing_work,
    seed,
    selections,
    template_lists,
    template_revisions,
    templates,
    usage_sums,
    users,
)
from tests.conftest import Database, as_service
from tests.e2e.test_bench import superuser
from tests.migrations.conftest import working_on
from tests.scale import LOG_ROWS, OPEN_CHANGES

FILL = """
alter table templates disable trigger record_changes, disable trigger record_revision;
insert into templates (id, title, instructions, user_id, template_type_id, model_id, create_time, tags)
select 't' || n, 'Invoice ' || n || '号の請求書' || case when n = 1 then ' needle 針金線' else '' end, 'Do it.', %s,
  (select min(id) from template_types), (select min(id) from openai_models), now() + n * interval '1 second',
  array['all/' || n %% 3] || case when n %% 2000 = 1 then array['few/' || n %% 4] else '{}' end
from generate_series(1, 20000) n;
alter table templates enable trigger record_changes, enable trigger record_revision;
insert into template_revisions (template_id, revision, says, instructions_digest, message, actor, create_time)
select id, 1, template_says(t), '', '', '', now() from templates t
"""


@pytest.fixture(scope="module")
def large(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A database with 20,000 templates, which this thread's operations work on."""
    database = Database(new_database())
    handle.database.drop()
    handle.database.configure(database.url)
    migrate.up(migrate.load())
    seed.run(SYSTEM)
    database.query(FILL, (users.provision(SYSTEM, "user_1").id,))
    database.query("analyze templates; analyze template_revisions")
    yield database
    handle.database.drop()
    handle.database.configure(as_service(url))
    database.close()


def explaining(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer the list to which the plan of each page is added."""
    execute = handle.database.execute_sql
    plans: list[str] = []

    def explained(sql: str, parameters: Sequence[object] | None = None) -> Any:
        if "page.is_last" in sql:
            plans.append("\n".join(line for (line,) in execute(f"explain {sql}", parameters).fetchall()))
        return execute(sql, parameters)

    monkeypatch.setattr(handle.database, "execute_sql", explained)
    return plans


@pytest.mark.parametrize(
    ("word", "index"),
    [
        ("needle", "templates_by_scoped_words"),
        ("針金線", "templates_by_scoped_words"),
        ("線", "templates_by_scoped_words"),
        ("invoice", "templates_by_scope"),
        ("請求書", "templates_by_scope"),
        ("求", "templates_by_scope"),
        ("invoice 号の請求書", "templates_by_scope"),
    ],
)
def test_a_search_finds_rare_words_by_their_index_and_walks_where_they_are_common(
    large: Database, monkeypatch: pytest.MonkeyPatch, word: str, index: str
) -> None:
    del large
    plans = explaining(monkeypatch)
    assert template_lists.page(SYSTEM, query=word, view=View.BASIC, after=None, size=50).rows
    (plan,) = plans
    assert set(re.findall(r"templates_by_\w+", plan)) == {index}, plan


@pytest.fixture
def pinned(large: Database) -> tuple[str, str, str]:
    """A user, a template in its second revision that the user has selected in the first, and the name of its type."""
    ((user, type_),) = large.query(
        "select t.user_id, o.name from templates t join template_types o on o.id = t.template_type_id where t.id = 't7'"
    )
    large.query("update templates set title = title || '.', labels = '{\"production\": 1}' where id = 't7'")
    large.query(
        "delete from user_template_selections;"
        "insert into user_template_selections (id, user_id, template_type_id, template_id, revision)"
        " select 's', %s, template_type_id, id, 1 from templates where id = 't7'",
        (user,),
    )
    return user, "t7", type_


REVISED: dict[str, Callable[[str, str, str], object]] = {
    "by labels": lambda _, this, __: templates.get(
        SYSTEM, this, view=View.RENDERABLE, labels=["staging", "production"]
    ),
    "by number": lambda _, this, __: templates.get(SYSTEM, this, view=View.FULL, revision=1),
    "several": lambda _, this, __: templates.batch_get(SYSTEM, [this] * 100, view=View.FULL, labels=["production"]),
    "selected": lambda user, _, type_: selections.get(SYSTEM, user_id=user, template_type=type_, view=View.BASIC),
    "selections": lambda user, _, __: selections.page(SYSTEM, user_id=user, view=View.BASIC, after=None, size=50),
    "resolved": lambda user, _, type_: selections.resolve(
        SYSTEM, user_id=user, template_type=type_, view=View.RENDERABLE
    ),
    "resolved by labels": lambda user, _, type_: selections.batch_resolve(
        SYSTEM, user_id=user, template_types=[type_] * 100, view=View.BASIC, labels=["production"]
    ),
    "a revision": lambda _, this, __: template_revisions.get(SYSTEM, this, 1, view=View.BASIC),
    "revisions": lambda _, this, __: template_revisions.page(SYSTEM, this, view=View.BASIC, after=None, size=50),
}


@pytest.mark.parametrize("name", REVISED)
def test_a_revision_is_found_by_an_index(
    large: Database, pinned: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    execute, plans = handle.database.execute_sql, []
    this = threading.get_ident()

    def note(sql: str, parameters: Sequence[object] | None = None) -> Any:
        if threading.get_ident() == this and "select" in sql:
            plans.append(explained(large, sql, parameters))
        return execute(sql, parameters)

    monkeypatch.setattr(handle.database, "execute_sql", note)
    monkeypatch.setattr(handle.database, "prepares", False)
    assert REVISED[name](*pinned)
    scanned = {node["Relation Name"] for plan in plans for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
    assert plans
    assert not scanned & {"templates", "template_revisions"}, plans


@pytest.mark.parametrize(
    ("tags", "index"),
    [
        (["few/1"], "templates_by_scoped_tags"),
        (["few/"], "templates_by_scoped_tags"),
        (["few/", "all/1"], "templates_by_scoped_tags"),
        (["all/1"], "templates_by_scope"),
        (["all/"], "templates_by_scope"),
    ],
)
def test_rare_tags_are_found_by_their_index_and_common_ones_by_walking(
    large: Database, monkeypatch: pytest.MonkeyPatch, tags: list[str], index: str
) -> None:
    del large
    plans = explaining(monkeypatch)
    assert template_lists.page(SYSTEM, tags=tags, view=View.BASIC, after=None, size=50).rows
    (plan,) = plans
    assert set(re.findall(r"templates_by_\w+", plan)) == {index}, plan


def test_a_plan_is_made_without_knowing_which_organization_is_named(
    large: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.query("insert into organizations (id, name) values ('house', 'House') on conflict do nothing")
    plans = explaining(monkeypatch)
    template_lists.page(SYSTEM, organization_id="house", tags=["few/1"], view=View.BASIC, after=None, size=50)
    (plan,) = plans
    assert "templates_by_scoped_tags" in plan
    # Of a term that it knows, PostgreSQL looks up how frequent it is among those of all organizations.
    assert "house few/1" not in plan


@pytest.mark.parametrize("labels", [[], ["production"]])
def test_a_revision_is_found_by_its_number_among_many(
    large: Database, monkeypatch: pytest.MonkeyPatch, labels: list[str]
) -> None:
    user = users.provision(SYSTEM, "user_1").id
    for number in range(20):
        large.query("update templates set title = %s where id = 't5'", (f"Invoice {number}",))
    large.query("update templates set labels = '{\"production\": 3}' where id = 't5'")
    large.query(
        "delete from user_template_selections;"
        "insert into user_template_selections (id, user_id, template_type_id, template_id, revision)"
        " select 's', %s, template_type_id, id, %s from templates where id = 't5'",
        (user, None if labels else 3),
    )
    ((type_name,),) = large.query("select name from template_types order by id limit 1")
    large.query("analyze templates, template_revisions")
    execute, plans = handle.database.execute_sql, []

    def explained(sql: str, parameters: Sequence[object] | None = None) -> Any:
        if "template_revisions" in sql:
            plans.append("\n".join(line for (line,) in execute(f"explain {sql}", parameters).fetchall()))
        return execute(sql, parameters)

    monkeypatch.setattr(handle.database, "prepares", False)
    monkeypatch.setattr(handle.database, "execute_sql", explained)
    found = selections.resolve(SYSTEM, user_id=user, template_type=type_name, view=View.BASIC, labels=labels)
    assert (found.template.id, found.template.revision) == ("t5", 3)
    (plan,) = plans
    assert re.search(r"on template_revisions.*\n *Index Cond: .*template_id = .*revision = ", plan), plan


USAGE = usage.Options(400, 400, days=33, hours_days=1, batches=0, rounds=0, calls=0, is_quick=True)
USAGES = """
insert into usages (
  time, template_id, template_revision, template_type, model, user_id, organization_id, duration,
  input_tokens, cached_tokens, output_tokens, reasoning_tokens, token_count, success, error_code
)
select now() - n * interval '1 second', 't' || n % 400, 0, '', 'm', 'u' || n % 400, '', n, 1, 0, 1, 0, 2, true, ''
from generate_series(1, 20000) n
"""


@pytest.fixture(scope="module")
def using(new_database: Callable[[], str], url: str, postgres: embedded.Server) -> Iterator[Database]:
    """A database with sums of a month of usage, and some usages by themselves."""
    database = Database(new_database())
    with working_on(database.url, afterwards=url):
        migrate.up(migrate.load())
    filling = superuser(database.url, postgres)
    usage.fill(filling, USAGE)
    filling.close()
    month_ago = "now() - interval '1 month'"
    database.query(f"select make_usage_partitions({month_ago}, now()); {USAGES}")
    database.query("vacuum (analyze) usage_totals, usages")
    yield database
    database.close()


QUESTIONS: dict[str, dict[str, Any]] = {
    "all together": {},
    "by template": {"group_by": {"template_id"}},
    "by template and day": {"group_by": {"template_id"}, "by": "day"},
    "by model and hour": {"group_by": {"model"}, "by": "hour", "days": 1},
    "by type, of an organization": {"group_by": {"template_type"}, "organization_id": "organization-3"},
    "by user": {"group_by": {"user_id"}},
    "of a template by day": {"template_id": "t7", "by": "day"},
    "of a user by day": {"user_id": "u7", "by": "day"},
    "of a user by template": {"user_id": "u7", "group_by": {"template_id"}, "days": 9},
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_usage_is_found_by_an_index(using: Database, url: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    execute, plans = handle.database.execute_sql, []
    this = threading.get_ident()

    def note(sql: str, parameters: Sequence[object] | None = None) -> Any:
        if threading.get_ident() == this and "usage_arrivals" in sql:
            plans.append(explained(using, sql, parameters))
        return execute(sql, parameters)

    monkeypatch.setattr(handle.database, "execute_sql", note)
    question = {"days": 30} | QUESTIONS[name]
    start = datetime.now(UTC) - timedelta(days=question.pop("days"))
    with working_on(using.url, afterwards=url):
        usage_sums.query(SYSTEM, start=start, end=None, after=None, size=50, **question)
    assert plans
    read = [node for plan in plans for node in nodes(plan) if node.get("Relation Name", "").startswith("usage")]
    scanned = {node["Relation Name"] for node in read if node["Node Type"] == "Seq Scan"}
    assert not scanned - {"usage_arrivals"}, plans


LOG = """
insert into changes
  (epoch, time, kind, resource_id, action, organization_id, user_id, tags, actor, method, request_id, after)
select epoch, now() - (%(rows)s - n) * interval '1 second',
  case when n %% 10000 = 0 then 'user' else 'template' end, 't' || n %% 5000, 'update',
  case when n %% 3 = 0 then 'g' || n %% 300 end, 'u' || n %% 700, array['template:t' || n %% 5000],
  'user:u' || n %% 700, case when n %% 10000 = 0 then 'DeleteUser' else 'UpdateTemplate' end, 'r' || n, '{"version": 2}'
from generate_series(1, %(rows)s) n, registry
"""


@pytest.fixture(scope="module")
def logged(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A database with a large log."""
    database = Database(new_database())
    with working_on(database.url, afterwards=url):
        migrate.up(migrate.load())
    database.query(LOG, {"rows": LOG_ROWS})  # type: ignore[arg-type]
    database.query("analyze changes")
    yield database
    database.close()


def explained(database: Database, sql: str, parameters: Any, options: str = "") -> Any:
    (((plan,),),) = database.query(f"explain (format json{options}) {sql}", parameters)
    return plan["Plan"]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


FILTERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "all": ({}, {"changes_by_time"}),
    "a rare kind": ({"kinds": ["user"]}, {"changes_by_kind"}),
    # Where almost all are of the kind, both find them at once.
    "a common kind": ({"kinds": ["template", "user"]}, {"changes_by_kind", "changes_by_time"}),
    "a resource": ({"resource_id": "t7"}, {"changes_by_resource"}),
    "an organization": ({"organization_id": "g3"}, {"changes_by_organization"}),
    "an actor": ({"by": "user:u7"}, {"changes_by_actor"}),
    "a rare method": ({"method": "DeleteUser"}, {"changes_by_method"}),
    "a time": ({"start_time": datetime(2020, 1, 1, tzinfo=UTC), "end_time": datetime.now(UTC)}, {"changes_by_time"}),
}


@pytest.mark.soak
@pytest.mark.parametrize(("filters", "indexes"), FILTERS.values(), ids=FILTERS)
def test_a_large_log_is_listed_by_an_index(
    logged: Database, url: str, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any], indexes: set[str]
) -> None:
    execute, plans = handle.database.execute_sql, []
    this = threading.get_ident()

    def note(sql: str, parameters: Sequence[object] | None = None) -> Any:
        # The servers of this process look at the database as well.
        if threading.get_ident() == this:
            plans.append(explained(logged, sql, parameters, ", analyze, buffers"))
        return execute(sql, parameters)

    monkeypatch.setattr(handle.database, "execute_sql", note)
    with working_on(logged.url, afterwards=url):
        assert operations.page(SYSTEM, **filters, after=None, size=50).rows
    (plan,) = plans
    scans = [node for node in nodes(plan) if node.get("Index Name", "").startswith("changes_by")]
    # The rows of the page itself are read by their times and numbers.
    used = {node["Index Name"] for node in scans if "seq = " not in node.get("Index Cond", "")}
    assert used & indexes, plan
    assert used <= indexes, plan
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"], plan
    # It reads some rows for each that it returns, and not the log.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 2_000, plan


def feeding(database: Database, since: changes.Reading) -> Any:
    """Answer the plan of what a feed reads, as it was executed."""
    return explained(database, changes._FEW, changes.parameters(since.position), ", analyze, buffers")


def blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.soak
def test_a_feed_reads_what_is_new_by_the_index_also_beside_a_transaction_that_has_been_open_for_long(
    logged: Database,
) -> None:
    rename = "update users set clerk_id = clerk_id || 'x' where id = 'u1'"
    logged.query("insert into users (id, clerk_id) values ('u1', 'u'), ('u2', 'v')")
    with closing(connect(logged.url)) as feed, closing(Database(logged.url)) as holder:
        before = changes.here(feed)
        logged.query(rename)
        alone = feeding(logged, before)
        holder.query("begin; update users set clerk_id = 'held' where id = 'u2'")
        logged.query(
            f"do $$ begin for n in 1..{OPEN_CHANGES // 100} loop"
            " insert into users (id, clerk_id) select 'x' || n || '-' || m, 'x' || n || '-' || m"
            " from generate_series(1, 100) m; commit; end loop; end $$"
        )
        before = changes.here(feed)
        assert before.position.snapshot.running, "the other one is open"
        logged.query(rename)
        beside = feeding(logged, before)
        assert blocks(beside) <= 2 * blocks(alone)
        for plan in (alone, beside):
            read = [node for node in nodes(plan) if node.get("Relation Name") == "changes"]
            assert {node.get("Index Name") for node in read} <= {"changes_by_transaction", None}
            assert not [node for node in read if node["Node Type"] == "Seq Scan"]
        holder.query("commit")


QUEUED = """
insert into processing_records (id, filename, user_id, status, template_id, runner, try_time, output_text)
select
  'r' || n, 'a.pdf', case when n <= 20000 then 'u1' else 'u' || 2 + n %% 99 end,
  case when n %% 2 = 0 then 'processing' else 'completed' end::processing_status, 't', 'registry',
  -- Of the first user, a fourth is due, and a fourth was put off.
  case when n %% 4 = 0 or n > 20000 and n %% 2 = 0 then now() when n %% 2 = 0 then now() + interval '5 minutes' end,
  repeat('x', 500)
from generate_series(%s, %s) n
"""


@pytest.mark.parametrize("known", ["all", "those of the first user", "those that have ended", "nothing"])
def test_runs_are_taken_without_reading_all_that_a_user_has(
    new_database: Callable[[], str], url: str, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    execute, plans = handle.database.execute_sql, []
    this = threading.get_ident()

    def note(sql: str, parameters: Sequence[object] | None = None) -> Any:
        if threading.get_ident() == this and "skip locked" in sql:
            # This takes some as well.
            plans.append(explained(queued, sql, parameters, ", analyze"))
        return execute(sql, parameters)

    with closing(Database(new_database())) as queued, working_on(queued.url, afterwards=url):
        migrate.up(migrate.load())
        queued.query("insert into users (id, clerk_id) select 'u' || n, 'user_' || n from generate_series(1, 100) n")
        # Otherwise statistics may come in between.
        queued.query("alter table processing_records set (autovacuum_enabled = off)")
        if known == "those that have ended":
            queued.query(f"{QUEUED}; update processing_records set try_time = null, id = 'e' || id", (1, 20000))
            queued.query("vacuum analyze processing_records")
        queued.query(QUEUED, (1, 20000))
        if known == "those of the first user":
            queued.query("analyze processing_records")
        queued.query(QUEUED, (20001, 20400))
        if known == "all":
            queued.query("analyze processing_records")
        monkeypatch.setattr(handle.database, "execute_sql", note)
        assert len(processing_work.take(SYSTEM, 4)) == 4
    (plan,) = plans
    read = [node for node in nodes(plan) if node.get("Relation Name") == "processing_records"]
    assert len(read) >= 5
    for node in read:
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        # Some for each of a hundred users, and none for each run.
        assert rows * node["Actual Loops"] < 1_000, plan
