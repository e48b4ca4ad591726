"""The triggers of the log: what they record of which table, and who can neither forge nor change it."""

import json
from typing import Any

import pytest

from service.operations.changes import KINDS
from tests.conftest import Database, tables_of
from tests.migrations.conftest import IN_ORGANIZATIONS, ROWS, fill

UNRECORDED = {
    "processing_inputs": "what is sent to OpenAI",
    "processing_output": "the texts of runs that go on",
    "assistant_copying": "how far changes have been followed",
    "assistant_strays": "what is to be deleted at a server",
    "assistants": "copies of templates, of which callers see the state as that of the template",
    "openai_leftovers": "what is to be deleted at OpenAI",
    "idempotency_keys": "responses that are kept for retries",
    "revision_texts": "the texts of revisions",
    "template_revisions": "what templates said",
    "template_type_revisions": "what types and tools were",
    "usages": "data, and no resources",
    "usage_arrivals": "usages that are not summed up yet",
    "usage_events": "which usages are recorded",
    "usage_totals": "sums of usages",
    "statement_times": "how long statements took",
    "statistics_samples": "what the database said of itself",
    "changes": "the log itself",
    "registry": "which database this is",
    "schema_migrations": "the runner's own",
    "job_reports": "what tasks did",
    "job_schedule": "what was queued when",
    "procrastinate_events": "what became of jobs",
    "procrastinate_jobs": "the queue of jobs",
    "procrastinate_periodic_defers": "the engine's schedule, which is not used",
    "procrastinate_workers": "who runs jobs now",
}
"""The tables whose changes are no changes of resources, with what they have instead."""

TEXTS = {"title", "description", "instructions", "variables", "response_format"}
"""Of a template, of which it is only recorded that they differ."""

HIDDEN = {
    "api_keys": {"digest", "previous_digest", "last_used_time"},
    "processing_records": {
        *("filename", "error_reason", "error_message", "results", "output_text"),
        *("try_time", "holder", "sent_time", "next_event", "tries"),
    },
    "templates": {"words"},
    "users": {"clerk_id"},
}
"""What the log does not have of each table once its rows are gone, beside `update_time` and what is computed."""


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database)
    database.query(IN_ORGANIZATIONS)
    database.query("delete from changes")
    return database


def recorded(database: Database) -> list[tuple[Any, ...]]:
    """Answer what the log has since it was last asked, and empty it."""
    found = database.query("select kind, resource_id, action, before, after from changes order by seq")
    database.query("delete from changes")
    return found


def kinds(database: Database) -> dict[str, str]:
    """Answer the kind of each table whose changes are recorded."""
    found = database.query(
        "select tgrelid::regclass::text, pg_get_triggerdef(oid), tgname from pg_trigger where tgname like 'record_%%'"
    )
    by_trigger = {
        name: {table: sql.split("record_change('")[1].split("'")[0] for table, sql, trigger in found if trigger == name}
        for name in ("record_changes", "record_truncation")
    }
    assert by_trigger["record_changes"] == by_trigger["record_truncation"]
    return by_trigger["record_changes"]


def test_every_table_is_recorded_or_holds_no_resources(database: Database) -> None:
    tables = tables_of(database)
    assert kinds(database).keys() == tables - UNRECORDED.keys()
    assert sorted(kinds(database).values()) == sorted(KINDS)


def columns(database: Database, table: str) -> set[str]:
    computed = "select attname, attgenerated from pg_attribute where attrelid = %s::regclass and attnum > 0"
    found = database.query(f"{computed} and not attisdropped", (table,))
    return {name for name, generated in found if not generated} - {"update_time"}


@pytest.mark.parametrize("table", sorted(ROWS.keys() - UNRECORDED.keys()))
def test_all_that_may_be_known_is_recorded_of_a_row_that_comes_or_goes(database: Database, table: str) -> None:
    database.query("delete from changes")
    fill(database)
    ((count,),) = database.query(f"select count(*) from {table}")
    for other in reversed(ROWS):
        database.query(f"delete from {other}")
    wanted = columns(database, table) - HIDDEN.get(table, set())
    # Of a text that can be null, only that it is there.
    made = wanted - {"response_format"}
    found = database.query("select action, before, after from changes where kind = %s", (kinds(database)[table],))
    assert [(before, after.keys()) for action, before, after in found if action == "create"] == [(None, made)] * count
    gone = [(before.keys(), after) for action, before, after in found if action == "delete"]
    assert gone == [(wanted - TEXTS if table == "templates" else wanted, None)] * count


def test_what_differs_is_recorded_and_nothing_else(filled: Database) -> None:
    filled.query("update template_tools set description = 'After.', version = 2 where id = 'o1'")
    assert recorded(filled) == [
        (
            "template_tool",
            "o1",
            "update",
            {"description": "", "version": 1},
            {"description": "After.", "version": 2},
        ),
        ("template_type", "t1", "update", {"version": 2, "revision": 2}, {"version": 3, "revision": 3}),
    ]
    filled.query("update organization_members set role = 'member' where id = 'a1'")
    assert recorded(filled) == [("member", "a1", "update", {"role": "admin"}, {"role": "member"})]


def test_of_a_template_s_texts_it_is_recorded_which_differ(filled: Database) -> None:
    filled.query("update templates set instructions = 'Do not.', is_default = false where id = 'p1'")
    assert recorded(filled) == [
        (
            "template",
            "p1",
            "update",
            {"is_default": True, "instructions": "…", "revision": 1},
            {"is_default": False, "instructions": "…", "revision": 2},
        )
    ]
    filled.query(
        "update templates set response_format = '{}', tags = '{a}', variables = jsonb_build_array("
        "jsonb_build_object('name', 'a', 'description', '', 'required', true, 'default_value', '')) where id = 'p1'"
    )
    before: dict[str, Any] = {"tags": [], "revision": 2}
    after: dict[str, Any] = {"tags": ["a"], "revision": 3}
    texts = {"response_format": "…", "variables": "…"}
    assert recorded(filled) == [("template", "p1", "update", before | texts, after | texts)]


@pytest.mark.parametrize(
    "sql",
    [
        "update templates set update_time = now()",
        "update templates set title = title",
        "update api_keys set last_used_time = now(), update_time = now()",
        (
            "insert into user_template_selections (id, user_id, template_type_id, template_id)"
            " values ('s9', 'u1', 't1', 'p2')"
            " on conflict on constraint user_template_selections_one_for_each_user_scope_and_type"
            " do update set template_id = excluded.template_id, update_time = now()"
        ),
        "update idempotency_keys set response = 'other'",
        "delete from users where id = 'nobody'",
        "begin; delete from api_keys; rollback",
    ],
)
def test_what_changes_nothing_is_not_recorded(filled: Database, sql: str) -> None:
    filled.query(sql)
    assert recorded(filled) == []


def test_what_had_ended_before_it_is_deleted_changes_nothing(filled: Database) -> None:
    filled.query("update api_keys set expire_time = now() where id = 'k1'")
    filled.query("update api_keys set revoke_time = now() where id = 'k2'")
    filled.query("update organization_invitations set expire_time = now()")
    assert [row[:3] for row in recorded(filled)] == [
        ("api_key", "k1", "update"),
        ("api_key", "k2", "update"),
        ("invitation", "i1", "update"),
    ]
    filled.query("delete from api_keys; delete from organization_invitations")
    assert recorded(filled) == []


def test_a_truncation_is_one_change_of_everything(filled: Database) -> None:
    filled.query("truncate templates cascade")
    tags = filled.query("select kind, resource_id, action, tags, before, after from changes order by seq")
    assert tags == [(kind, "*", "delete", ["*"], None, None) for kind in ("template", "selection")]


def test_it_is_recorded_where_a_resource_belongs_and_whom_it_is_about(filled: Database) -> None:
    filled.query(
        "update templates set is_default = not is_default where id in ('p1', 'p4');"
        "update user_template_selections set version = 2 where id = 's4';"
        "update organizations set name = 'Other' where id = 'g1';"
        "update organization_members set version = 2 where id = 'a1';"
        "update users set clerk_id = 'other' where id = 'u2';"
        "update template_types set description = 'Other' where id = 't1';"
        "update template_tools set version = 2 where id = 'o3';"
        "update openai_models set name = 'Other' where id = 'm1';"
        "update api_keys set name = 'Other' where id = 'k2'"
    )
    assert filled.query("select resource_id, organization_id, user_id, template_type_id from changes order by seq") == [
        ("p1", None, "u1", "t1"),
        ("p4", "g1", "u1", "t1"),
        ("s4", "g1", "u2", "t1"),
        ("g1", "g1", None, None),
        ("a1", "g1", "u1", None),
        ("u2", None, "u2", None),
        ("t1", None, None, "t1"),
        ("o3", None, None, "t2"),
        ("m1", None, None, None),
        ("k2", "g1", "u2", None),
    ]


def test_changes_by_hand_are_recorded_with_who_made_them(filled: Database) -> None:
    filled.query("update users set clerk_id = 'other' where id = 'u1'")
    who = "select actor, api_key_id, method, request_id from changes order by seq desc limit 1"
    assert filled.query(who) == [("sql:omniflo", None, "", "")]
    # A setting that was local once reads as an empty text afterwards.
    filled.query("begin; select set_config('omniflo.actor', 'user:u1', true); commit")
    filled.query("update users set clerk_id = 'another' where id = 'u1'")
    assert filled.query(who) == [("sql:omniflo", None, "", "")]


def test_nothing_tells_who_a_deleted_user_was(filled: Database) -> None:
    filled.query("update users set clerk_id = 'clerk-canary' where id = 'u2'")
    filled.query("update users set clerk_id = 'another-canary' where id = 'u2'")
    assert "canary" in json.dumps(filled.query("select before, after from changes"))
    filled.query(
        "delete from user_template_selections where user_id = 'u2';"
        "delete from templates where user_id = 'u2';"
        "delete from users where id = 'u2'"
    )
    found = recorded(filled)
    assert ("user", "u2", "delete") in [row[:3] for row in found]
    assert "canary" not in json.dumps([row[3:] for row in found])


def test_the_oldest_are_purged_first_and_nothing_of_the_last_day(filled: Database) -> None:
    filled.query("insert into users (id, clerk_id) select 'x' || n, 'x' || n from generate_series(1, 10) n")
    filled.query(
        "update changes set time = clock_timestamp() - make_interval(hours => 22 + right(resource_id, -1)::integer)"
    )
    left = "select resource_id from changes order by time desc"
    assert filled.query("select purge_changes(2, 100)") == [(0,)]
    filled.query("update changes set time = time - interval '3 days' where resource_id in ('x8', 'x9', 'x10')")
    assert filled.query("select purge_changes(2, 2)") == [(2,)]
    assert filled.query(left) == [(f"x{number}",) for number in range(1, 9)]
    for days in (0, -1):
        filled.query("select purge_changes(%s, 100)", (days,))
        assert filled.query(left) == [("x1",)]
