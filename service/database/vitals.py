"""What PostgreSQL says of itself: sizes, use, transactions, slots and settings, as far as the role may see it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import peewee as pw

from service.database.handle import database
from service.database.transactions import read

MOST_STATEMENTS = 10
TEXT_LENGTH = 120

_WAL = "case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end - restart_lsn"

FIGURES = f"""
select jsonb_build_object(
  'bytes', pg_database_size(datname), 'connections', numbackends, 'commits', xact_commit, 'rollbacks', xact_rollback,
  'deadlocks', deadlocks, 'hits', blks_hit, 'reads', blks_read, 'temporary_bytes', temp_bytes,
  'dead_rows', (select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables),
  'transaction_age', age((select datfrozenxid from pg_database d where d.oid = s.datid)),
  'slot_bytes', (select coalesce(max({_WAL}), 0) from pg_replication_slots)
)
from pg_stat_database s where datname = current_database()
"""
"""Numbers of the whole database; those that count go on from the last reset of PostgreSQL's statistics."""

TABLES = """
select s.relname, relkind = 'p', pg_total_relation_size(relid), n_live_tup, n_dead_tup
from pg_stat_user_tables s join pg_class on pg_class.oid = relid
where schemaname = current_schema() order by 3 desc, 1
"""

_INDEXES = """
select i.relname, t.relname, pg_relation_size(indexrelid), coalesce(idx_scan, 0), indisvalid,
  indisunique, not exists (select from pg_stat_user_indexes u where u.indexrelid = x.indexrelid)
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_class t on t.oid = x.indrelid
left join pg_stat_user_indexes s using (indexrelid)
where t.relnamespace = current_schema()::regnamespace and not i.relispartition order by 3 desc, 1
"""

_TRANSACTION = """
select pid, usename, application_name, state, extract(epoch from clock_timestamp() - xact_start)::double precision
from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
order by xact_start limit 1
"""

_HIDDEN = """
select count(*) from pg_stat_activity where datname = current_database() and query = '<insufficient privilege>'
"""

_SLOT = (
    f"select slot_name, active, {_WAL} from pg_replication_slots where restart_lsn is not null order by 3 desc limit 1"
)

_SETTINGS = """
select name, setting, unit from pg_settings where name in (
  'autovacuum', 'fsync', 'full_page_writes', 'max_connections', 'shared_buffers', 'synchronous_commit', 'track_counts'
)
"""


class Table(NamedTuple):
    name: str
    is_partitioned: bool
    bytes: int
    """With indexes and what is stored apart."""
    rows: int
    dead: int
    """Rows that nobody sees any more, and that still take room."""


class Index(NamedTuple):
    name: str
    table: str
    bytes: int
    scans: int
    is_valid: bool
    is_unique: bool
    is_partitioned: bool


class Transaction(NamedTuple):
    pid: int
    role: str
    application: str
    state: str
    seconds: float


class Slot(NamedTuple):
    name: str
    is_active: bool
    bytes: int
    """Of the log that the server keeps for it."""


class Statement(NamedTuple):
    """A statement of pg_stat_statements. Its text has `$1` where there was a value."""

    text: str
    calls: int
    mean: float
    """Milliseconds."""
    total: float


class Vitals(NamedTuple):
    database: str
    figures: Mapping[str, int]
    since: datetime | None
    """When PostgreSQL began to count."""
    tables: Sequence[Table]
    indexes: Sequence[Index]
    transaction: Transaction | None
    """The one that has been open for the longest time."""
    hidden: int
    """Sessions of other roles, of which the role sees nothing."""
    slot: Slot | None
    """The one that holds most of the log."""
    settings: Mapping[str, str]
    statements: Sequence[Statement] | None
    """The slowest ones; None without pg_stat_statements."""


@read
def take() -> Vitals:
    """Read all of it now."""
    transactions = [Transaction(*row) for row in _rows(_TRANSACTION) if row[4] is not None]
    ((name, since),) = _rows(
        "select datname, coalesce(stats_reset, pg_postmaster_start_time()) from pg_stat_database"
        " where datname = current_database()"
    )
    return Vitals(
        database=name,
        figures=_rows(FIGURES)[0][0],
        since=since,
        tables=[Table(*row) for row in _rows(TABLES)],
        indexes=[Index(*row) for row in _rows(_INDEXES)],
        transaction=transactions[0] if transactions else None,
        hidden=_rows(_HIDDEN)[0][0],
        slot=next((Slot(name, active, int(bytes)) for name, active, bytes in _rows(_SLOT)), None),
        settings={name: f"{setting}{f' x {unit}' if unit else ''}" for name, setting, unit in _rows(_SETTINGS)},
        statements=_statements(),
    )


def _statements() -> Sequence[Statement] | None:
    found = _rows(
        "select quote_ident(nspname) from pg_extension e join pg_namespace n on n.oid = extnamespace"
        " where extname = 'pg_stat_statements'"
    )
    if not found:
        return None
    try:
        return [
            Statement(*row)
            for row in _rows(
                f"""
                select left(regexp_replace(query, '\\s+', ' ', 'g'), {TEXT_LENGTH}), calls, mean_exec_time,
                  total_exec_time
                from {found[0][0]}.pg_stat_statements s join pg_database d on d.oid = dbid
                where datname = current_database() and query ~* '^\\s*(select|insert|update|delete|with|execute)'
                order by mean_exec_time desc limit {MOST_STATEMENTS}
                """
            )
        ]
    except pw.OperationalError:
        # It is not in shared_preload_libraries.
        return None


def _rows(sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = database.execute_sql(sql).fetchall()
    return found
