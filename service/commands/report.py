"""`report`: what an operator asks about performance, in words and numbers."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from service.actor import SYSTEM
from service.commands import database
from service.config import Settings
from service.database import handle, indexes, migrate, vitals
from service.database.vitals import Vitals
from service.operations import diagnosis, statistics
from service.operations.diagnosis import Finding
from service.operations.statistics import Sample, Times

MOST = 10
"""Lines of each table."""
DAY_HOURS = 24
_MB = 2**20


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "report", help="say what is slow, large, unused or wrong in the database", description=run.__doc__
    )
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Say how the database performs, what has changed since yesterday, and what to do about it."""
    del options
    migrations = migrate.load()
    with database.configured(settings) as urls:
        # It sees what both roles do.
        handle.database.configure(urls.owner)
        database.require_schema()
        for line in lines(indexes.made_by(migration.up for migration in migrations)):
            print(line)


def lines(expected: Mapping[str, str]) -> Iterator[str]:
    """Yield the report on the database; `expected` are the indexes that there should be."""
    now = vitals.take()
    hour, day = statistics.times(SYSTEM, 1), statistics.times(SYSTEM, DAY_HOURS)
    before = statistics.sample_before(SYSTEM, DAY_HOURS, with_tables=False)
    found = diagnosis.findings(now, expected, hour, day, None if before is None else before.figures)
    yield from _findings(found)
    yield from _database(now, before)
    yield from _changes(now, before, statistics.sample_before(SYSTEM, DAY_HOURS, with_tables=True))
    for hours, times in (("hour", hour), ("day", day)):
        yield from _times(f"Slowest statements of the last {hours}, by operation", times)
    yield from _server_statements(now)
    yield from _sizes(now)


def _findings(found: Sequence[Finding]) -> Iterator[str]:
    if not found:
        yield "Nothing to do."
    for number, finding in enumerate(found, start=1):
        yield f"{number}. {finding.what}."
        yield f"   Do: {finding.do}"


def _database(now: Vitals, before: Sample | None) -> Iterator[str]:
    figures = now.figures
    ratio = diagnosis.hit_ratio(figures, None if before is None else before.figures)
    oldest, slot = now.transaction, now.slot
    yield ""
    yield f"Database {now.database}: {figures['bytes'] / _MB:,.0f} MB, {figures['connections']} connections"
    yield f"  pages found in PostgreSQL's cache: {'too few were read to say' if ratio is None else f'{ratio:.2%}'}"
    yield f"  longest open transaction: {'none' if oldest is None else f'{oldest.seconds:,.1f} s, of {oldest.role}'}"
    yield f"  oldest replication slot: {'none' if slot is None else f'{slot.name}, {slot.bytes / _MB:,.0f} MB'}"
    if now.hidden:
        yield (
            f"  {now.hidden} sessions of other roles are not seen; `grant pg_read_all_stats` to this role shows them"
        )
    yield "  settings: " + ", ".join(f"{name} = {value}" for name, value in sorted(now.settings.items()))


def _changes(now: Vitals, before: Sample | None, tables: Sample | None) -> Iterator[str]:
    yield ""
    if before is None:
        yield "Changes: there is no sample yet; the task sample_statistics takes one a minute."
        return
    yield f"Changes since {before.time:%Y-%m-%d %H:%M}"
    for name, label in (("bytes", "MB"), ("connections", "connections"), ("dead_rows", "dead rows")):
        scale = _MB if name == "bytes" else 1
        old, new = before.figures.get(name, 0) / scale, now.figures[name] / scale
        yield f"  {label}: {old:,.0f} -> {new:,.0f} ({new - old:+,.0f})"
    for name in ("commits", "rollbacks", "deadlocks"):
        yield f"  {name}: {now.figures[name] - before.figures.get(name, 0):+,}"
    old_tables = (tables.tables if tables is not None else None) or {}
    grown = [(table.bytes - old_tables.get(table.name, {}).get("bytes", 0), table.name) for table in now.tables]
    for bytes, name in sorted(grown, reverse=True)[: MOST // 2] if old_tables else ():
        if bytes >= _MB:
            yield f"  table {name}: {bytes / _MB:+,.0f} MB"


def _times(title: str, times: Sequence[Times]) -> Iterator[str]:
    yield from _table(
        title,
        ("statement", "calls", "mean ms", "slowest ms", "total s"),
        [(one.name, f"{one.calls:,}", _ms(one.mean), _ms(one.slowest), f"{one.seconds:,.1f}") for one in times[:MOST]],
    )


def _server_statements(now: Vitals) -> Iterator[str]:
    if now.statements is None:
        yield ""
        yield "pg_stat_statements is not installed; with it, this lists the slowest statements by their text too."
        return
    yield from _table(
        "Slowest statements since pg_stat_statements was reset, whoever executed them",
        ("statement", "calls", "mean ms", "total s"),
        [(one.text, f"{one.calls:,}", f"{one.mean:,.2f}", f"{one.total / 1000:,.1f}") for one in now.statements],
    )


def _sizes(now: Vitals) -> Iterator[str]:
    yield from _table(
        "Largest tables, with their indexes",
        ("table", "MB", "rows", "dead rows"),
        [(one.name, f"{one.bytes / _MB:,.1f}", f"{one.rows:,}", f"{one.dead:,}") for one in now.tables[:MOST]],
    )
    yield from _table(
        "Largest indexes",
        ("index", "table", "MB", "scans"),
        [(one.name, one.table, f"{one.bytes / _MB:,.1f}", f"{one.scans:,}") for one in now.indexes[:MOST]],
    )
    unused = [index for index in now.indexes if diagnosis.is_unused(index)]
    yield from _table(
        f"Indexes that nothing has used since {now.since:%Y-%m-%d %H:%M}; those of the migrations are to stay",
        ("index", "table", "MB"),
        [(one.name, one.table, f"{one.bytes / _MB:,.1f}") for one in unused[:MOST]],
    )


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table whose first column, and others that are text, begin at the left."""
    yield ""
    yield title if rows else f"{title}: none"
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (
            f"{cell:<{width}}" if number == 0 or head[number] == "table" else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells)}".rstrip()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.2f}"
