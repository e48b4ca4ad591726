"""Rows whose parents are gone: what the task removes, and what it cannot remove."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from service.database import embedded
from tests.conftest import REVISIONS, STATISTICS, TABLES, Database, tables_of
from tests.jobs.test_tasks import run
from tests.migrations.conftest import IN_ORGANIZATIONS, USAGE, fill

Rows = dict[str, list[dict[str, Any]]]

KEYS = """
    select conname::text, conrelid::regclass::text, confrelid::regclass::text,
      array(select attname::text from unnest(conkey) n join pg_attribute on attrelid = conrelid and attnum = n),
      array(select attname::text from unnest(confkey) n join pg_attribute on attrelid = confrelid and attnum = n)
    from pg_constraint where contype = 'f' and conrelid::regclass::text not like 'procrastinate%'
"""

MORE = f"""
    insert into templates (id, title, instructions, user_id, template_type_id, model_id) values
      ('p6', 'Six', 'Do it.', 'u1', 't1', 'm1');
    insert into api_keys (id, user_id, name, scope, digest, parent_id) values
      ('k8', 'u1', 'Parent', 'read', 'k8', null), ('k9', 'u1', 'Child', 'read', 'k9', 'k8');
    insert into organization_invitations (id, organization_id, user_id, role, inviter_id, expire_time) values
      ('i2', 'g2', 'u1', 'viewer', 'u2', '2030-01-01Z');
    insert into processing_records
      (id, filename, user_id, organization_id, status, template_id, runner, openai_file_id, owns_file, response_id)
    values ('r8', 'd.pdf', 'u1', 'g2', 'processing', 'p1', 'registry', 'file-8', true, 'resp-8');
    insert into idempotency_keys (caller, method, request_id, fingerprint, response) values
      ('user:u1', 'CreateModel', '1', 'a', 'b'), ('user:u2', 'CreateModel', '1', 'a', 'b'),
      ('service:web for user:u2', 'CreateModel', '1', 'a', 'b'), ('service:web', 'CreateModel', '1', 'a', 'b');
    insert into usages {USAGE.replace("'u1'", "'u2'")};
    insert into usage_arrivals {USAGE.replace("'u1'", "'u3'")};
    insert into usage_totals select level, period, time, template_id, 0, '', model, 'u2', '', 1, 1, 5, 0, 2, 0, 7, 9,
      buckets, bucket_counts from usage_totals;
    insert into assistants (template_id, epoch, assistant_id) select 'p4', epoch, 'asst_4' from registry;
"""

GONE = """
    delete from users where id = 'u2';
    delete from template_types where id = 't2';
    delete from openai_models where id = 'm2';
    delete from organizations where id = 'g2';
    delete from templates where id = 'p4';
    delete from organization_members where id in ('a1', 'a2');
    delete from processing_records where id = 'r1';
    delete from api_keys where id = 'k8';
"""


@pytest.fixture
def filled(queue: Database) -> Iterator[Database]:
    """A database with rows in every table."""
    fill(queue)
    queue.query(IN_ORGANIZATIONS + ";" + MORE)
    yield queue
    queue.query(f"truncate {TABLES}, {', '.join((*REVISIONS, *STATISTICS))}")


@pytest.fixture
def by_hand(postgres: embedded.Server, filled: Database) -> Iterator[Callable[[str], object]]:
    """Changes the database past all triggers and foreign keys."""
    name = filled.url.partition("?")[0].rpartition("/")[2]
    with closing(Database(postgres.admin_url.replace("/postgres?", f"/{name}?"))) as superuser:
        superuser.query("set session_replication_role = replica")
        yield superuser.query


def rows(database: Database) -> Rows:
    """Answer the rows of all tables of which somebody might miss one."""
    tables = [table for table in tables_of(database) if not table.startswith(("procrastinate", "job_", "changes"))]
    return {table: [row for (row,) in database.query(f"select to_jsonb(t) from {table} t")] for table in tables}


def orphaned(rows: Rows, table: str, parent: str, columns: list[str], names: list[str]) -> list[dict[str, Any]]:
    """Answer the rows of a table whose parent is not there."""
    there = [[row[name] for name in names] for row in rows[parent]]
    keys = [([row[column] for column in columns], row) for row in rows[table]]
    return [row for key, row in keys if None not in key and key not in there]


def test_nothing_that_has_a_parent_can_be_removed(filled: Database) -> None:
    filled.query("delete from usage_arrivals where user_id = 'u3'")
    before = rows(filled)
    assert run(filled, "remove_orphans") == {"removed": 0}, "it says that there was nothing to do"
    assert rows(filled) == before


def test_what_has_no_parent_is_removed_and_nothing_else(filled: Database, by_hand: Callable[[str], object]) -> None:
    ((usage,),) = filled.query("select sum(count) from usage_totals")
    filled.query("delete from templates where id = 'p6'")
    by_hand(GONE)
    keys = filled.query(KEYS)
    left = rows(filled)
    assert not [name for name, *key in keys if not orphaned(left, *key)], "there is an orphan for each foreign key"
    while found := [(key[0], row) for _, *key in keys for row in orphaned(left, *key)]:
        for table, row in found:
            if row in left[table]:
                left[table].remove(row)
    done = run(filled, "remove_orphans")
    assert {"request_ids_of_users": 2, "users_of_usage": 2, "assistants": 1}.items() <= done.items()
    assert done["removed"] == sum(done.values()) - done["removed"]
    after = rows(filled)
    tables = {table for _, table, *_ in keys} | {parent for _, _, parent, *_ in keys}
    assert {table: after[table] for table in tables} == {table: left[table] for table in tables}
    assert all(left[table] for table in ("users", "templates", "template_types", "organizations"))
    assert sorted(row["caller"] for row in after["idempotency_keys"]) == ["anonymous", "service:web", "user:u1"]
    used = "select distinct user_id from (select user_id from usages union all select user_id from usage_arrivals"
    assert filled.query(f"{used} union all select user_id from usage_totals) u order by 1") == [("",), ("u1",)]
    assert filled.query("select sum(count) from usage_totals") == [(usage,)]
    # What is in the log can be brought back; of what went by hand, nobody can know.
    ids = {row["template_id"] for row in after["template_revisions"]}
    assert ids == {"p1", "p2", "p3", "p5", "p6"}
    assert {row["owner_id"] for row in after["revision_texts"]} & {"p4", "t2"} == set()
    assert {row["id"] for row in after["openai_leftovers"]} >= {"file-8", "resp-8"}
    checked = {row["template_id"]: row["check_time"] is not None for row in after["assistants"]}
    assert checked == {"p1": False, "p4": True}
    assert run(filled, "remove_orphans") == {"removed": 0}


def test_batches_go_on_until_nothing_is_left(filled: Database) -> None:
    filled.query(
        "insert into idempotency_keys (caller, method, request_id, fingerprint, response)"
        " select 'user:gone', 'CreateModel', n::text, 'a', 'b' from generate_series(0, 1000) n"
    )
    assert run(filled, "remove_orphans", stopped=True) == {"removed": 0}
    assert run(filled, "remove_orphans")["request_ids_of_users"] == 1001
