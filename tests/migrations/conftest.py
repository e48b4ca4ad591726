"""Databases that the tests migrate themselves, and what they hold."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from service.database import handle, migrate
from tests.conftest import ROOT, Database, as_service

Schema = Mapping[str, list[tuple[Any, ...]]]

USAGE = """
    values (gen_random_uuid(), now(), 'p1', 1, 'data-export', 'gpt-5.5', 'u1', '', 9, 5, 0, 2, 0, 7, true, '')
"""

ROWS = {
    "users": "insert into users (id, clerk_id) values ('u1', 'user_1'), ('u2', 'user_2')",
    "template_types": "insert into template_types (id, name) values ('t1', 'data-export'), ('t2', 'data-processing')",
    "template_tools": """
        insert into template_tools (id, template_type_id, name, type, schema, config) values
          ('o1', 't1', 'search', 'file_search', null, '{"file_search": {"vector_store_ids": ["v"]}}'),
          ('o2', 't1', 'write', 'function', '{"type": "object"}', null),
          ('o3', 't2', 'run', 'code_interpreter', null, null)
    """,
    "openai_models": """
        insert into openai_models (id, openai_id, name, shutdown_date) values
          ('m1', 'gpt-5.5', 'GPT-5.5', null), ('m2', 'gpt-4.1', 'GPT-4.1', '2027-01-14')
    """,
    "templates": """
        insert into templates
          (id, title, instructions, user_id, template_type_id, is_default, model_id, temperature, reasoning_effort)
        values
          ('p1', 'One', 'Do it.', 'u1', 't1', true, 'm1', null, 'high'),
          ('p2', 'Two', 'Do it well.', 'u1', 't1', false, 'm2', 0.5, null),
          ('p3', 'Three', 'Do it now.', 'u2', 't2', true, 'm2', 2, 'none')
    """,
    "user_template_selections": """
        insert into user_template_selections (id, user_id, template_type_id, template_id) values
          ('s1', 'u1', 't1', 'p2'), ('s2', 'u2', 't2', 'p3')
    """,
    "organizations": "insert into organizations (id, name) values ('g1', 'Sales'), ('g2', 'Support')",
    "organization_members": """
        insert into organization_members (id, organization_id, user_id, role) values
          ('a1', 'g1', 'u1', 'admin'), ('a2', 'g1', 'u2', 'viewer'), ('a3', 'g2', 'u2', 'admin')
    """,
    "organization_invitations": """
        insert into organization_invitations (id, organization_id, user_id, role, inviter_id, expire_time) values
          ('i1', 'g1', 'u2', 'viewer', 'u1', '2030-01-01Z')
    """,
    "processing_records": """
        insert into processing_records (id, filename, user_id, organization_id, status, template_id, runner) values
          ('r1', 'a.pdf', 'u1', null, 'uploading', 'p1', 'caller'),
          ('r2', 'b.pdf', 'u1', 'g1', 'processing', 'p4', 'caller'),
          ('r3', 'c.pdf', 'u2', null, 'completed', 'p3', 'caller')
    """,
    "processing_inputs": """
        insert into processing_inputs (record_id, body, input_text, response_format) values ('r1', '{}', '', null)
    """,
    "processing_output": "insert into processing_output (record_id, seq, text) values ('r1', 3, 'Seventeen')",
    "assistants": """
        insert into assistants (template_id, epoch, state, assistant_id, desired, observed)
        select 'p1', epoch, 'synced'::assistant_state, 'asst_1', 'a', 'a' from registry
    """,
    "assistant_copying": "insert into assistant_copying (is_on, position) values (true, 'a')",
    "assistant_strays": "insert into assistant_strays (assistant_id) values ('asst_2')",
    "openai_leftovers": "insert into openai_leftovers (kind, id) values ('file', 'file-1')",
    "api_keys": """
        insert into api_keys (id, user_id, organization_id, name, scope, digest, expire_time) values
          ('k1', 'u1', null, 'Everywhere', 'read', 'abc', null),
          ('k2', 'u2', 'g1', 'In one place', 'write', 'def', '2030-01-01Z')
    """,
    "idempotency_keys": """
        insert into idempotency_keys (caller, method, request_id, fingerprint, response)
        values ('anonymous', 'CreateModel', 'order-17', 'abc', 'def')
    """,
    "usage_events": r"insert into usage_events (caller, event_id) values ('\x01', 'e1')",
    "usages": f"insert into usages {USAGE}",
    "usage_arrivals": f"insert into usage_arrivals {USAGE}",
    "usage_totals": """
        insert into usage_totals values
          ('user', 'day', current_date, '', 0, '', 'gpt-5.5', 'u1', '', 1, 1, 5, 0, 2, 0, 7, 9, '{56}', '{1}')
    """,
    "statement_times": "insert into statement_times values ('2026-01-01Z', 'templates.get', 2, 0.1, 0.09)",
    "statistics_samples": "insert into statistics_samples values ('2026-01-01Z', '{}', '{}')",
    "job_reports": """insert into job_reports (task_name, report) values ('purge_changes', '{"purged": 0}')""",
    "job_schedule": "insert into job_schedule (task_name, due_time) values ('purge_changes', '2026-01-01Z')",
    "procrastinate_workers": "insert into procrastinate_workers default values",
    "procrastinate_jobs": """
        insert into procrastinate_jobs (queue_name, task_name, worker_id)
        select 'purge_changes', 'purge_changes', id from procrastinate_workers
    """,
    # The first is written by a trigger.
    "procrastinate_events": """
        insert into procrastinate_events (job_id, type) select id, 'started' from procrastinate_jobs
    """,
    "procrastinate_periodic_defers": """
        insert into procrastinate_periodic_defers (task_name, job_id) select task_name, id from procrastinate_jobs
    """,
}
"""Some rows for each table, in an order in which what they refer to is there."""

IN_ORGANIZATIONS = """
    insert into templates (id, title, instructions, user_id, template_type_id, is_default, model_id, organization_id)
    values
      ('p4', 'Four', 'Do it here.', 'u1', 't1', true, 'm1', 'g1'),
      ('p5', 'Five', 'Do it there.', 'u2', 't1', false, 'm1', 'g2');
    insert into user_template_selections
      (id, user_id, template_type_id, template_id, organization_id, template_scope)
    values
      ('s3', 'u1', 't1', 'p4', 'g1', 'g1'), ('s4', 'u2', 't1', 'p1', 'g1', '')
"""
"""Templates and selections of organizations."""


def fill(database: Database) -> None:
    """Put rows into every table that is there."""
    tables = [table for (table,) in database.query("select relname from pg_stat_user_tables")]
    for table, sql in ROWS.items():
        if table in tables:
            database.query(sql)


def schema(database: Database) -> Schema:
    """Answer all that the database has but rows; the runner's own table aside."""
    ours = "nspname = 'public' and relname <> 'schema_migrations'"
    return {
        "columns": database.query(
            # The order of columns, not their positions: one that is dropped and added again leaves a gap.
            "select table_name, column_name, data_type, udt_name, collation_name, is_nullable, column_default,"
            " generation_expression from information_schema.columns"
            " where table_schema = 'public' and table_name <> 'schema_migrations' order by 1, ordinal_position"
        ),
        "indexes": database.query(
            "select indexname, indexdef from pg_indexes"
            " where schemaname = 'public' and tablename <> 'schema_migrations' order by 1"
        ),
        "constraints": database.query(
            # PostgreSQL names what is not null, and otherwise where partitions are restored.
            "select relname, case contype when 'n' then '' else conname end, pg_get_constraintdef(c.oid)"
            " from pg_constraint c"
            f" join pg_class on conrelid = pg_class.oid join pg_namespace n on relnamespace = n.oid where {ours}"
            " order by 1, 2, 3"
        ),
        "functions": database.query(
            "select proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace order by 1"
        ),
        "triggers": database.query(
            "select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) from pg_trigger"
            " where not tgisinternal order by 1, 2"
        ),
        "enums": database.query(
            "select typname, enumlabel from pg_enum join pg_type on enumtypid = pg_type.oid order by 1, enumsortorder"
        ),
    }


@contextmanager
def working_on(there: str, *, afterwards: str) -> Iterator[None]:
    """Point what this thread does at another database for the time of the block, as its owner."""
    handle.database.drop()
    handle.database.configure(there)
    try:
        yield
    finally:
        handle.database.drop()
        handle.database.configure(as_service(afterwards))


@pytest.fixture
def empty(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A database without a table, which this thread works on."""
    database = Database(new_database())
    with working_on(database.url, afterwards=url):
        yield database
    database.close()


@pytest.fixture
def migrated(empty: Database) -> Database:
    """A database with every table and some rows, which this thread works on."""
    migrate.up(migrate.load())
    fill(empty)
    return empty


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of migrations/ to spoil."""
    return copytree(ROOT / "migrations", tmp_path / "migrations")


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Mapping[str, str]], list[migrate.Migration]]:
    """Loads migrations of these files and no others."""

    def files(texts: Mapping[str, str]) -> list[migrate.Migration]:
        for old in tmp_path.iterdir():
            old.unlink()
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        return migrate.load(tmp_path)

    return files
