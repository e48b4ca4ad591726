"""What is in the tables, to see what a call did to them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import TABLES, Database

RESOURCES = [table for table in TABLES.split(", ") if table != "idempotency_keys"]
UNVERSIONED = {
    "assistant_copying",
    "assistant_strays",
    "assistants",
    "openai_leftovers",
    "organization_invitations",
    "processing_inputs",
    "processing_output",
    "users",
}
VERSIONED = [table for table in RESOURCES if table not in UNVERSIONED and not table.startswith("usage")]


# A row, without when a key was used: a thread notes that later, and it is no write of a caller's.
ROW = "(to_jsonb(t) - 'last_used_time')::text"


def contents(database: Database) -> dict[str, list[str]]:
    """Answer every row of every table but the saved answers."""
    return {
        table: [text for (text,) in database.query(f"select {ROW} as text from {table} t order by text")]
        for table in RESOURCES
    }


def totals(database: Database) -> Counter[str]:
    """Answer how many rows each table has, and how often they were changed."""
    rows = {table: database.query(f"select count(*) from {table}")[0][0] for table in RESOURCES}
    changes = {
        f"{table}.version": database.query(f"select coalesce(sum(version), 0)::bigint from {table}")[0][0]
        for table in VERSIONED
    }
    return Counter(rows | changes)


def saved(database: Database) -> int:
    """Answer how many answers are kept for retries."""
    sql = "select count(*) from idempotency_keys where not starts_with(caller, 'deleted:')"
    return int(database.query(sql)[0][0])


@contextmanager
def taken_for_small(superuser: Database, *tables: str, rows: int = 1) -> Iterator[None]:
    """Let PostgreSQL take these tables for ones with a row or none; then a join begins with them."""
    for table in tables:
        superuser.query("update pg_class set reltuples = %s, relpages = 1 where oid = %s::regclass", (rows, table))
    try:
        yield
    finally:
        for table in tables:
            superuser.query(f"analyze {table}")
