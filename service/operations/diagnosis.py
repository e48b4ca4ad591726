"""What is wrong with the performance of the database, and what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from service.database.vitals import Index, Table, Vitals
from service.operations.statistics import Times

LONG_SECONDS = 300.0
"""Longer than any call or job may have a transaction open."""
SLOW_SECONDS = 1.0
SLOWER = 3.0
SLOWER_SECONDS = 0.05
"""A statement that takes so many times as long as over the day is told of, if it takes so long at all."""
FEW_CALLS = 20
"""So many calls within an hour say little."""
DEAD_ROWS = 1000
DEAD_PART = 0.5
"""Autovacuum begins at a fifth."""
SLOT_BYTES = 2**30
LARGE_BYTES = 2**30
"""A database that is larger than what PostgreSQL caches by default."""
DEFAULT_BUFFERS = 2**27
HIT_RATIO = 0.95
MANY_READS = 100_000
OLD_TRANSACTIONS = 1_000_000_000
"""Of the two thousand million after which PostgreSQL refuses writes."""
CONNECTIONS_PART = 0.9

_SAFE = {
    "fsync": "a crash of the machine can destroy the database",
    "full_page_writes": "so can a crash of the machine",
}


class Finding(NamedTuple):
    what: str
    do: str


def hit_ratio(now: Mapping[str, int], before: Mapping[str, int] | None) -> float | None:
    """Return which part of the pages was in PostgreSQL's cache since then; None where few were read."""
    hits, reads = (now[name] - (before or {}).get(name, 0) for name in ("hits", "reads"))
    if hits < 0 or reads < 0:
        # The statistics were reset since.
        return hit_ratio(now, None)
    return hits / (hits + reads) if hits + reads >= MANY_READS else None


def findings(
    vitals: Vitals,
    expected: Mapping[str, str],
    hour: Sequence[Times],
    day: Sequence[Times],
    yesterday: Mapping[str, int] | None,
) -> list[Finding]:
    """Return what is wrong, the worst first.

    `expected` has the statements that make the indexes of the migrations, `hour` and `day` how long statements took,
    and `yesterday` the figures of then.
    """
    return [
        *_settings(vitals),
        *_transactions(vitals),
        *_indexes(vitals, expected),
        *_tables(vitals.tables),
        *_statements(hour, day),
        *_cache(vitals, yesterday),
    ]


def _settings(vitals: Vitals) -> Iterator[Finding]:
    settings = vitals.settings
    for name, danger in _SAFE.items():
        if settings.get(name) == "off":
            yield Finding(f"{name} is off: {danger}", f"alter system set {name} = on; select pg_reload_conf()")
    if settings.get("synchronous_commit") == "off":
        yield Finding(
            "synchronous_commit is off: a crash loses writes that were acknowledged",
            "alter system set synchronous_commit = on; select pg_reload_conf()",
        )
    for name in ("autovacuum", "track_counts"):
        if settings.get(name) == "off":
            yield Finding(
                f"{name} is off: dead rows are never cleared away, and plans get worse",
                f"alter system set {name} = on; select pg_reload_conf()",
            )
    most = int(settings.get("max_connections", "0"))
    if most and vitals.figures["connections"] > CONNECTIONS_PART * most:
        yield Finding(
            f"{vitals.figures['connections']} of {most} connections are taken by this database alone",
            "lower OMNIFLO_WORKERS or OMNIFLO_THREADS, or raise max_connections and restart PostgreSQL",
        )
    if vitals.figures["transaction_age"] > OLD_TRANSACTIONS:
        yield Finding(
            f"the oldest row is {vitals.figures['transaction_age']:,} transactions old; at 2,000,000,000 PostgreSQL"
            " refuses writes",
            "vacuum (freeze), after ending what is open for long and dropping slots that nobody reads",
        )


def _transactions(vitals: Vitals) -> Iterator[Finding]:
    oldest, slot = vitals.transaction, vitals.slot
    if oldest is not None and oldest.seconds > LONG_SECONDS:
        yield Finding(
            f"a transaction of {oldest.role} ({oldest.application or 'unnamed'}, {oldest.state}) has been open for"
            f" {oldest.seconds:,.0f} s: no row that was deleted since can be cleared away, and caches fall behind",
            f"select pg_terminate_backend({oldest.pid}), unless it is a backup",
        )
    if slot is not None and (slot.bytes > SLOT_BYTES or (not slot.is_active and slot.bytes > SLOT_BYTES // 64)):
        yield Finding(
            f"the replication slot {slot.name} holds {slot.bytes / 2**20:,.0f} MB of the log"
            f"{'' if slot.is_active else ', and nobody reads it'}: the disk may fill up",
            f"start what reads it, or select pg_drop_replication_slot('{slot.name}')",
        )


def _indexes(vitals: Vitals, expected: Mapping[str, str]) -> Iterator[Finding]:
    found = {index.name for index in vitals.indexes}
    partitioned = {table.name for table in vitals.tables if table.is_partitioned}
    for name, statement in expected.items():
        if name not in found:
            yield Finding(f"the index {name} is missing, which a migration makes", _made_again(statement, partitioned))
    for index in vitals.indexes:
        if not index.is_valid and not index.is_partitioned:
            yield Finding(
                f"the index {index.name} on {index.table} is invalid: its build was interrupted, and writes pay for it",
                f"reindex index concurrently {index.name}",
            )
        elif is_unused(index) and index.name not in expected:
            yield Finding(
                f"the index {index.name} on {index.table} ({index.bytes / 2**20:,.1f} MB) is not of the migrations, and"
                f" nothing has used it since {vitals.since:%Y-%m-%d %H:%M}",
                f"drop index concurrently {index.name}",
            )


def is_unused(index: Index) -> bool:
    """Whether no statement has used an index that is there for statements alone."""
    return index.scans == 0 and not index.is_unique and not index.is_partitioned


def _made_again(statement: str, partitioned: set[str]) -> str:
    begin, _, rest = statement.partition(" index ")
    table = rest.partition(" on ")[2].partition(" ")[0]
    if rest.startswith("concurrently ") or table in partitioned:
        return statement
    # Without it, writes wait until it is built.
    return f"{begin} index concurrently {rest}"


def _tables(tables: Sequence[Table]) -> Iterator[Finding]:
    for table in tables:
        if table.dead > max(DEAD_ROWS, DEAD_PART * table.rows):
            yield Finding(
                f"{table.name} has {table.dead:,} dead rows beside {table.rows:,} live ones: it takes more room and"
                " time than it has to",
                f"vacuum (verbose, analyze) {table.name}; if they stay, something has a transaction open; if they come"
                " again, autovacuum is off for the table or too slow",
            )


def _statements(hour: Sequence[Times], day: Sequence[Times]) -> Iterator[Finding]:
    usual = {times.name: times for times in day}
    for times in hour:
        before = usual.get(times.name)
        if times.calls < FEW_CALLS:
            continue
        if times.mean > SLOW_SECONDS:
            yield Finding(
                f"statements of {times.name} took {times.mean * 1000:,.0f} ms on average within the last hour",
                "look above for a missing index or dead rows, and at what the processor and the disk of PostgreSQL do",
            )
        elif before is not None and times.mean > max(SLOWER_SECONDS, SLOWER * before.mean):
            yield Finding(
                f"statements of {times.name} took {times.mean * 1000:,.0f} ms on average within the last hour, and"
                f" {before.mean * 1000:,.0f} ms within the day",
                "look for what has changed: a migration, an import, a missing index, another load on PostgreSQL",
            )


def _cache(vitals: Vitals, yesterday: Mapping[str, int] | None) -> Iterator[Finding]:
    ratio, size = hit_ratio(vitals.figures, yesterday), vitals.figures["bytes"]
    number, _, unit = vitals.settings.get("shared_buffers", "0").partition(" x ")
    buffers = int(number) * (8192 if unit == "8kB" else 1)
    if ratio is not None and ratio < HIT_RATIO:
        yield Finding(
            f"only {ratio:.1%} of the pages were in PostgreSQL's cache of {buffers / 2**20:,.0f} MB",
            "raise shared_buffers, to a quarter of the memory of the machine, and restart PostgreSQL",
        )
    elif size > LARGE_BYTES and buffers <= DEFAULT_BUFFERS:
        yield Finding(
            f"shared_buffers is {buffers / 2**20:,.0f} MB, and the database has {size / 2**30:,.1f} GB",
            "raise shared_buffers, to a quarter of the memory of the machine, and restart PostgreSQL",
        )
