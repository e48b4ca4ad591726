"""The indexes: every list finds its rows by one, also on a later page, and no index is there for nothing."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from service.actor import SYSTEM, Actor
from service.database import handle, migrate
from service.database.transactions import transaction
from service.models.assistants import Copies
from service.models.templates import View
from service.operations import (
    api_keys,
    assistant_states,
    assistant_sweeps,
    assistants,
    changes,
    invitations,
    maintenance,
    openai_models,
    organizations,
    processing_records,
    processing_work,
    selections,
    template_lists,
    template_tools,
    template_types,
    usage_keeping,
    usage_sums,
    users,
)
from tests.conftest import Database
from tests.migrations.conftest import working_on

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
MIDDLE = (MOMENT + timedelta(minutes=5000), "p5000")
LOGGED = (MOMENT + timedelta(minutes=25000), 25000)

List = Callable[..., object]
Node = dict[str, Any]
Explain = Callable[[Callable[[], object]], list[Node]]


USER = Actor("user:u10", user_id="u10")
"""A member of 20 organizations."""


def list_templates(actor: Actor = SYSTEM, **filters: object) -> List:
    return lambda **page: template_lists.page(actor, view=View.SUMMARY, **filters, **page)  # type: ignore[arg-type]


def list_changes(actor: Actor = SYSTEM, **filters: object) -> List:
    return lambda **page: changes.page(actor, **filters, **page)  # type: ignore[arg-type]


LISTS: dict[str, tuple[List, tuple[object, ...], str]] = {
    "ListUsers": (lambda **page: users.page(SYSTEM, **page), (MOMENT, "u10"), "users_by_create_time"),
    "ListTemplateTypes": (
        lambda **page: template_types.page(SYSTEM, **page),
        ("type-10",),
        "template_types_name_is_unique",
    ),
    "ListTemplateTools": (
        lambda **page: template_tools.page(SYSTEM, "type-10", **page),
        ("tool_5", "o5"),
        "template_tools_by_template_type",
    ),
    "ListModels": (lambda **page: openai_models.page(SYSTEM, **page), ("Model 10", "m10"), "openai_models_by_name"),
    "ListTemplates": (list_templates(), MIDDLE, "templates_by_scope"),
    "ListTemplates that a user may read": (list_templates(USER), MIDDLE, "templates_by_scope"),
    "ListTemplates of an organization": (list_templates(organization_id="g10"), MIDDLE, "templates_by_scope"),
    "ListTemplates of a type": (
        list_templates(template_type="type-10"),
        MIDDLE,
        "templates_by_template_type",
    ),
    "ListTemplates of a model": (list_templates(model="model-10"), MIDDLE, "templates_by_model"),
    "ListTemplates of a user": (list_templates(user_id="u10"), MIDDLE, "templates_by_user"),
    "ListSelections": (
        lambda **page: selections.page(SYSTEM, user_id="u10", view=View.SUMMARY, **page),
        (),
        "user_template_selections_one_for_each_user_scope_and_type",
    ),
    "ListOrganizations": (
        lambda **page: organizations.page(SYSTEM, user_id="u10", **page),
        (),
        "organization_members_by_user",
    ),
    "ListMembers": (
        lambda **page: organizations.page_of_members(SYSTEM, "g10", **page),
        (MOMENT, "a1010"),
        "organization_members_by_organization",
    ),
    "ListInvitations of an organization": (
        lambda **page: invitations.page(SYSTEM, organization_id="g10", **page),
        (MOMENT, "i1010"),
        "organization_invitations_by_organization",
    ),
    "ListInvitations of a user": (
        lambda **page: invitations.page(SYSTEM, user_id="u10", **page),
        (MOMENT, "i210"),
        "organization_invitations_by_user",
    ),
    "ListApiKeys": (
        lambda **page: api_keys.page(SYSTEM, user_id="u10", **page),
        (MIDDLE[0], "k2010"),
        "api_keys_by_user",
    ),
    "ListProcessingRecords": (
        lambda **page: processing_records.page(USER, user_id="u10", **page),
        (MIDDLE[0], "r5010"),
        "processing_records_by_user",
    ),
    "ListProcessingRecords in an organization": (
        lambda **page: processing_records.page(SYSTEM, organization_id="g10", **page),
        (MIDDLE[0], "r5010"),
        "processing_records_by_organization",
    ),
    "changes": (list_changes(), LOGGED, "changes_by_time"),
    "changes of two kinds": (list_changes(kinds=["organization", "template_type"]), LOGGED, "changes_by_kind"),
    "changes of a resource": (list_changes(resource_id="u10"), LOGGED, "changes_by_resource"),
    "changes in an organization": (list_changes(organization_id="g10"), LOGGED, "changes_by_organization"),
    "changes about a user": (list_changes(USER), LOGGED, "changes_by_user"),
    "changes where a user is an admin": (list_changes(USER), LOGGED, "changes_by_organization"),
    "changes by somebody": (list_changes(by="user:u10"), LOGGED, "changes_by_actor"),
    "changes by a method": (list_changes(method="method-10"), LOGGED, "changes_by_method"),
}
"""What lists rows, a key within them, and the index that they are found by.

The selections of a user are sorted for each page: there are no more than types in each of the user's organizations. So
are those, of which a user has few.
"""

KEYED = {name: (list_, key, index) for name, (list_, key, index) in LISTS.items() if key}

FILTERS: dict[str, tuple[Callable[[], object], str]] = {
    "ListTemplates with words": (
        lambda: list_templates(query="rare")(after=None, size=50),
        "templates_by_scoped_words",
    ),
    "ListTemplates with tags": (
        lambda: list_templates(tags=["rare"])(after=None, size=50),
        "templates_by_scoped_tags",
    ),
    "ListTemplates below a tag": (
        lambda: list_templates(tags=["rare/", "common"])(after=None, size=50),
        "templates_by_scoped_tags",
    ),
    "ResolveTemplate": (
        lambda: selections.resolve(SYSTEM, user_id="u10", template_type="type-10", view=View.SUMMARY),
        "templates_one_default_for_each_scope_and_type",
    ),
    "ResolveTemplate in an organization, its default": (
        lambda: selections.resolve(
            SYSTEM, user_id="u10", organization_id="g10", template_type="type-10", view=View.SUMMARY
        ),
        "templates_one_default_for_each_scope_and_type",
    ),
    "ResolveTemplate in an organization, the selections": (
        lambda: selections.resolve(
            SYSTEM, user_id="u10", organization_id="g10", template_type="type-10", view=View.SUMMARY
        ),
        "user_template_selections_one_for_each_user_scope_and_type",
    ),
    "ListTemplates, all defaults": (
        lambda: list_templates(is_default=True)(after=None, size=50),
        "templates_one_default_for_each_scope_and_type",
    ),
    "what a user may read": (
        lambda: list_templates(USER)(after=None, size=50),
        "organization_members_by_user",
    ),
    "ListModels that end": (
        lambda: openai_models.page(SYSTEM, shutting_down_before=date(2027, 6, 1), after=None, size=50),
        "openai_models_by_shutdown_date",
    ),
    "whether an organization has an ADMIN": (
        lambda: organizations.require_open("g10"),
        "organization_members_admins",
    ),
    "what a transaction has changed": (
        lambda: handle.database.execute_sql(
            "select tags from changes where epoch = (select epoch from registry) and transaction_id = '10'"
        ),
        "changes_by_transaction",
    ),
    "purge of changes": (
        lambda: handle.database.execute_sql(
            "select seq from changes where time < clock_timestamp() - interval '400 days' order by time, seq limit 1000"
        ),
        "changes_by_time",
    ),
    "runs that wait": (lambda: processing_work.take(SYSTEM, 4), "processing_records_in_turn"),
    "runs that go on": (lambda: processing_work.take(SYSTEM, 4), "processing_records_by_try_time"),
    "the longest wait": (lambda: processing_work.longest_wait(SYSTEM), "processing_records_by_try_time"),
    "what is left at OpenAI": (lambda: processing_work.leftovers(SYSTEM), "openai_leftovers_by_try_time"),
    "what else has a file": (lambda: processing_work.leftovers(SYSTEM), "processing_records_by_openai_file_id"),
    "assistants to compare": (lambda: assistants.compare(SYSTEM), "assistants_by_check_time"),
    "assistants to write": (lambda: assistants.take(SYSTEM, 1), "assistants_by_try_time"),
    "ListTemplates, a state of assistants": (
        lambda: list_templates(assistant_state="pending")(after=None, size=50),
        "assistants_by_state",
    ),
    "whose an assistant is": (
        lambda: assistant_sweeps.note(SYSTEM, {"asst_10": "a"}, ["asst_10"]),
        "assistants_by_assistant_id",
    ),
    "whose an attempt is": (
        lambda: assistant_sweeps.note(SYSTEM, {"asst_10": "a"}, ["asst_10"]),
        "assistants_by_attempt_id",
    ),
    "the oldest pending assistant": (lambda: assistant_states.counts(SYSTEM), "assistants_by_pending_time"),
    "purge of processing records": (
        lambda: maintenance.purge_processing_records(SYSTEM, 90),
        "processing_records_by_create_time",
    ),
    "purge of API keys": (lambda: maintenance.purge_keys(SYSTEM), "api_keys_by_end"),
    "purge of invitations": (
        lambda: maintenance.purge_invitations(SYSTEM),
        "organization_invitations_by_expire_time",
    ),
    "purge": (lambda: maintenance.purge_batch(SYSTEM), "idempotency_keys_by_create_time"),
    "purge of the ids of usages": (lambda: usage_keeping.purge_events(SYSTEM), "usage_events_by_time"),
    "usage of a template": (
        lambda: usage_sums.query(SYSTEM, start=MOMENT, end=None, by="day", template_id="p10", after=None, size=50),
        "usage_totals_by_template",
    ),
    "usage of a user": (
        lambda: usage_sums.query(SYSTEM, start=MOMENT, end=None, by="day", user_id="u10", after=None, size=50),
        "usage_totals_by_user",
    ),
}
"""What finds rows without walking them in pages."""

REFERENCES: dict[str, tuple[Callable[[], object], str]] = {
    "the templates of an organization": (
        lambda: handle.database.execute_sql("select from templates where organization_id = 'g10'"),
        "templates_by_organization",
    ),
    "the selections of a member": (
        lambda: handle.database.execute_sql(
            "delete from user_template_selections where (organization_id, user_id) = ('g10', 'u10')"
        ),
        "user_template_selections_one_for_each_user_scope_and_type",
    ),
    "the invitations that a member made": (
        lambda: handle.database.execute_sql(
            "delete from organization_invitations where (organization_id, inviter_id) = ('g10', 'u10')"
        ),
        "organization_invitations_by_inviter",
    ),
    "the API keys of a member": (
        lambda: handle.database.execute_sql("delete from api_keys where (organization_id, user_id) = ('g10', 'u10')"),
        "api_keys_by_user",
    ),
    "the keys that were made with a key": (
        lambda: handle.database.execute_sql("delete from api_keys where parent_id = 'k10'"),
        "api_keys_by_parent",
    ),
    "the selections of a template": (
        lambda: handle.database.execute_sql(
            "delete from user_template_selections"
            " where (template_id, template_type_id, template_scope) = ('p10', 't10', '')"
        ),
        "user_template_selections_by_template",
    ),
}
"""What a foreign key asks when somebody deletes what it refers to, and what then goes with it."""


@pytest.fixture(scope="module")
def many_rows(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A database with so many rows that the planner has a reason to choose."""
    database = Database(new_database())
    with working_on(database.url, afterwards=url):
        migrate.up(migrate.load())
    for table, columns, values, count in (
        ("users", "id, clerk_id, create_time", "'u' || i, 'user_' || i, {time}", 500),
        ("template_types", "id, name", "'t' || i, 'type-' || i", 100),
        ("template_tools", "id, template_type_id, name, type", "'o' || i, 't' || i % 100, 'tool_' || i, {tool}", 3000),
        (
            "openai_models",
            "id, openai_id, name, shutdown_date",
            "'m' || i, 'model-' || i, 'Model ' || i, case when i % 100 = 0 then date '2027-01-01' + i end",
            3000,
        ),
        ("organizations", "id, name", "'g' || i, 'Organization ' || i", 99),
        (
            "organization_members",
            "id, organization_id, user_id, role, create_time",
            "'a' || i, 'g' || i % 20, 'u' || i / 20, {role}, {time}",
            9999,
        ),
        (
            "organization_invitations",
            "id, organization_id, user_id, role, inviter_id, create_time, expire_time",
            "'i' || i, 'g' || i % 100, 'u' || i / 100, 'viewer', {inviter}, {time}, now() + {life}",
            9999,
        ),
        (
            "api_keys",
            "id, user_id, name, scope, digest, create_time, parent_id, revoke_time",
            "'k' || i, 'u' || i % 500, 'A key', 'read', '', {time}, {parent}, case when i > 4990 then {time} end",
            5000,
        ),
        (
            "templates",
            (
                "id, organization_id, user_id, template_type_id, model_id, is_default, create_time, title,"
                " instructions, tags"
            ),
            (
                "'p' || i, {place}, 'u' || i % 500, 't' || i % 100, 'm' || i % 97, {default}, {time}, {title},"
                " 'Do it.', {tags}"
            ),
            9999,
        ),
        (
            "user_template_selections",
            "id, user_id, template_type_id, template_id",
            "'s' || i, 'u' || i / 20 + 1, 't' || i % 100, 'p' || i",
            4000,
        ),
        (
            "processing_records",
            "id, organization_id, user_id, filename, status, template_id, runner, create_time",
            "'r' || i, {place}, 'u' || i % 500, 'a.pdf', 'failed', 'p' || i, 'caller', {time}",
            9999,
        ),
        (
            "assistants",
            "template_id, epoch, state, assistant_id, check_time, try_time",
            "'p' || i, (select epoch from registry), {state}, 'asst_' || i, {sometimes}, {sometimes}",
            9999,
        ),
        (
            "idempotency_keys",
            "caller, method, request_id, fingerprint, create_time",
            "'anonymous', 'm', i, 'f', {time}",
            5000,
        ),
        ("usage_events", "caller, event_id, receive_time", "''::bytea, i, {time}", 5000),
        (
            "usage_totals",
            (
                "level, period, time, template_id, user_id, template_revision, template_type, model, organization_id,"
                " count, success_count, input_tokens, cached_tokens, output_tokens, reasoning_tokens, token_count,"
                " duration, buckets, bucket_counts"
            ),
            (
                "{level}, 'day', {time}, case when i % 2 = 0 then 'p' || i % 100 else '' end,"
                " case when i % 2 = 1 then 'u' || i % 100 else '' end, 0, '', '', '', 1, 1, 1, 0, 1, 0, 2, 5,"
                " array[41], array[1]"
            ),
            5000,
        ),
    ):
        filled_in = values.format(
            time=f"'{MOMENT}'::timestamptz + make_interval(mins => i)",
            title="case when i % 1000 = 7 then 'rare' else 'common' end",
            tags="case when i % 1000 = 7 then array['rare', 'rare/er', 'common'] else array['common'] end",
            tool="'code_interpreter'",
            state="case when i % 1000 = 7 then 'pending' else 'synced' end::assistant_state",
            sometimes=f"case when i % 1000 = 7 then '{MOMENT}'::timestamptz end",
            level="case when i % 2 = 0 then 'template' else 'user' end::usage_level",
            parent="case when i % 7 = 0 then 'k' || i / 7 end",
            role="case when i % 50 in (10, 11) then 'admin' else 'member' end::organization_role",
            inviter="case when i % 100 < 20 then 'u' || i % 500 end",
            life="make_interval(days => case when i % 100 = 0 then -1 else 7 end)",
            place="case when i > 5000 and i < 9900 and i % 2 = 0 then 'g' || i % 100 end",
            default="i >= 9900 or i >= 9800 and i % 2 = 0",
        )
        database.query(f"insert into {table} ({columns}) select {filled_in} from generate_series(0, {count}) i")
    database.query("update idempotency_keys set create_time = now() where request_id::int > 100")
    database.query("update usage_events set receive_time = now() where event_id::int > 100")
    database.query(
        f"update changes set time = '{MOMENT}'::timestamptz + make_interval(mins => seq::integer),"
        " actor = 'user:u' || seq % 500, method = 'method-' || seq % 20"
    )
    database.query("analyze")
    yield database
    database.close()


@pytest.fixture
def plans(many_rows: Database, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explain]:
    """Answers all nodes of the plans of what an operation executes."""
    executed: list[str] = []
    execute = handle.Database.execute_sql

    def note(database: handle.Database, sql: str, params: Any = None) -> Any:
        cursor = execute(database, sql, params)
        executed.append(cursor.mogrify(sql, params or None).decode())
        return cursor

    def nodes(plan: Node) -> Iterator[Node]:
        yield plan
        for below in plan.get("Plans", ()):
            yield from nodes(below)

    def explain(operation: Callable[[], object]) -> list[Node]:
        transaction(lambda _: operation())(SYSTEM)
        found: list[Node] = []
        for sql in executed:
            if sql.split()[0] in {"select", "delete", "update", "with"}:
                (((plan,),),) = many_rows.query(f"explain (format json) {sql}")
                found += nodes(plan["Plan"])
        return found

    monkeypatch.setattr(handle.Database, "execute_sql", note)
    # As in a process whose server has them; otherwise nobody asks for their states.
    monkeypatch.setattr(Copies, "are_shown", True)
    many_rows.query("set enable_seqscan = off")
    with working_on(many_rows.url, afterwards=url):
        # A text of its own for each query, which can be explained.
        monkeypatch.setattr(handle.database, "prepares", False)
        yield explain


def using(index: str, nodes: list[Node]) -> list[Node]:
    return [node for node in nodes if node.get("Index Name") == index]


def first_column(database: Database, index: str) -> str:
    sql = "select attname from pg_attribute where attrelid = %s::regclass and attnum = 1"
    return str(database.query(sql, (index,))[0][0])


@pytest.mark.parametrize(("list_", "key", "index"), LISTS.values(), ids=LISTS)
def test_a_list_finds_its_rows_by_an_index(
    many_rows: Database, plans: Explain, list_: List, key: tuple[object, ...], index: str
) -> None:
    del key
    nodes = using(index, plans(lambda: list_(after=None, size=50)))
    assert nodes
    # In all of the index, or where it begins with what is asked for: what stands further back only spares reading rows.
    conditions = [node["Index Cond"] for node in nodes if "Index Cond" in node]
    assert [condition for condition in conditions if first_column(many_rows, index) not in condition] == []


@pytest.mark.parametrize(("list_", "key", "index"), KEYED.values(), ids=KEYED)
def test_a_later_page_begins_at_its_key_and_reads_nothing_before(
    plans: Explain, list_: List, key: tuple[object, ...], index: str
) -> None:
    conditions = " ".join(node.get("Index Cond", "") for node in using(index, plans(lambda: list_(after=key, size=50))))
    assert str(key[-1]) in conditions


@pytest.mark.parametrize(("operation", "index"), FILTERS.values(), ids=FILTERS)
def test_a_filter_finds_its_rows_by_an_index(plans: Explain, operation: Callable[[], object], index: str) -> None:
    assert using(index, plans(operation))


@pytest.mark.parametrize(("operation", "index"), REFERENCES.values(), ids=REFERENCES)
def test_what_a_foreign_key_asks_is_where_an_index_begins(
    many_rows: Database, plans: Explain, operation: Callable[[], object], index: str
) -> None:
    conditions = [node.get("Index Cond", "") for node in using(index, plans(operation))]
    assert conditions
    assert [condition for condition in conditions if first_column(many_rows, index) not in condition] == []


def test_every_index_is_one_that_these_tests_see_used(many_rows: Database) -> None:
    # The index of a constraint is there for the constraint, and those of the engine of jobs are its own.
    indexes = many_rows.query(
        """
        select relname from pg_index join pg_class on pg_class.oid = indexrelid
        where relnamespace = 'public'::regnamespace and indrelid::regclass::text not like 'procrastinate%'
          -- Those of partitions: test_usage.py sees them.
          and relkind = 'i' and not relispartition
          and not exists (select 1 from pg_constraint where conindid = indexrelid and contype in ('p', 'u'))
        """
    )
    used = {index for _, _, index in LISTS.values()} | {index for _, index in (FILTERS | REFERENCES).values()}
    assert [index for (index,) in indexes if index not in used] == []
