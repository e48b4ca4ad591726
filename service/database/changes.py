"""The log of changes, which migrations/0024_change_log.up.sql writes: a row for each, and how one reads on and on."""

import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service import errors
from service.deadline import time_limit
from service.positions import Position, Snapshot

BATCH = 1_000
"""The most changes that are read at a time."""
MOST_OF_ONE = 10_000
"""Of a transaction that changes more than so many things of a kind, one change is told for that kind."""
ANSWER_SECONDS = 2.0
"""How long the server may take for a statement that reads few."""
LONGEST_SECONDS = 60.0
"""How long it may take to read many."""


class Change(NamedTuple):
    """What happened to a resource, and who did it."""

    seq: int
    """Of two changes of one resource, the later one has the greater."""
    transaction_id: int
    time: datetime
    kind: str
    resource_id: str
    """`*` for all of the kind."""
    action: str
    """`create`, `update` or `delete`."""
    organization_id: str | None
    """Where the resource belongs; None for the platform."""
    user_id: str | None
    """The user whom it is about, if it is about one."""
    template_type: str | None
    """The name that the type has now, or had when it was deleted."""
    revision: int
    """That the template or the type has by it, or had when it was deleted; 0 where it made none."""
    tags: Sequence[str]
    """What it changes for caches, as `service.tags` names it."""
    actor: str
    api_key_id: str | None
    method: str
    request_id: str
    before: str | None
    """The columns that differ, as JSON; all of them of a resource that is deleted."""
    after: str | None


class Reading(NamedTuple):
    """Where somebody is who has read."""

    position: Position
    written: int
    """How much of the write-ahead log there was then, or a little later."""
    flushed: int
    """How much of it a crash could not undo."""


class GapError(Exception):
    """What has changed since a position cannot be read: it is of another log, or it is too much."""


Hear = Callable[[Sequence[Change]], None]

_EXPRESSIONS = {name: f"{{0}}.{name}" for name in Change._fields} | {
    "transaction_id": "{0}.transaction_id::text::bigint",
    "template_type": "coalesce((select name from template_types where id = {0}.template_type_id),"
    " case when {0}.kind = 'template_type' then {0}.before ->> 'name' end)",
    "revision": "case when {0}.kind in ('template', 'template_type')"
    " then coalesce({0}.after ->> 'revision', {0}.before ->> 'revision', '0')::bigint else 0 end",
    "before": "{0}.before::text",
    "after": "{0}.after::text",
}


def columns(alias: str) -> str:
    """Return the select list of a Change, of the table `changes` under an alias."""
    return ", ".join(expression.format(alias) for expression in _EXPRESSIONS.values())


# The snapshot of a statement is there before it calls a function.
_HERE = """
    select pg_current_snapshot()::text, epoch::text, left(pg_walfile_name(pg_current_wal_lsn()), 8),
      statement_timestamp(),
      (pg_current_wal_insert_lsn() - '0/0')::bigint, (pg_current_wal_flush_lsn() - '0/0')::bigint
    from registry
"""

FRESH = """(
    (select {select} from changes c where c.epoch = %(epoch)s and c.transaction_id >= %(end)s::text::xid8 {limit})
    union all
    (select {select} from changes c where c.epoch = %(epoch)s and c.transaction_id = any(%(running)s::text[]::xid8[])
     {limit})
)"""
"""What became visible since a snapshot: of transactions that had not begun then, or ran. The index finds both."""

_FEW = f"""
    with here (snapshot, epoch, timeline, time, written, flushed) as materialized ({_HERE}),
    fresh as materialized {FRESH.format(select="c.*", limit=f"limit {BATCH + 1}")}
    select here.*, {columns("fresh")} from here left join fresh on true order by fresh.seq
"""

PREPARE = "prepare omniflo_feed (uuid, text, text[]) as " + functools.reduce(
    lambda sql, number: sql.replace(*number), (("%(epoch)s", "$1"), ("%(end)s", "$2"), ("%(running)s", "$3")), _FEW
)
"""Has the statement planned that PREPARED executes: planning takes longer than reading a few changes."""
PREPARED = "execute omniflo_feed (%(epoch)s, %(end)s, %(running)s)"

_HUGE = f"""
    select transaction_id::text from {FRESH.format(select="c.transaction_id", limit="")} fresh
    group by transaction_id having count(*) > {MOST_OF_ONE}
"""

KINDS = f"""
    select transaction_id::text, kind::text from changes
    where epoch = %(epoch)s and transaction_id = any(%(huge)s::text[]::xid8[])
    group by transaction_id, kind having count(*) > {MOST_OF_ONE}
"""
"""Of huge transactions, the kinds of which they have changed so much."""

WHOLE = "{0}.transaction_id::text || ' ' || {0}.kind::text <> all(%(summed)s::text[])"
"""Whether a change is told by itself."""

SUMS = f"""
    select max(seq) as seq, transaction_id::text::bigint, max(time), kind, '*',
      case when min(action) = max(action) then min(action) else 'update' end,
      null, null, null, 0, case when bool_or(cardinality(tags) > 0) then array['*'] else '{{}}' end,
      min(actor), null, min(method), min(request_id), null, null
    from changes c where epoch = %(epoch)s and transaction_id = any(%(huge)s::text[]::xid8[])
      and not {WHOLE.format("c")}
    group by transaction_id, kind
"""
"""A Change for each of those kinds. Whatever differs between its changes is left out."""

_ALL = f"""
    declare fresh no scroll cursor for
    select * from (
        select {columns("c")} from {FRESH.format(select="c.*", limit="")} c where {WHOLE.format("c")}
        union all {SUMS}
    ) every order by seq
"""


def summed(kinds: Iterable[tuple[str, str]]) -> list[str]:
    """Return the parameter of WHOLE, of what KINDS has found."""
    return [f"{transaction} {kind}" for transaction, kind in kinds]


def here(connection: Any) -> Reading:
    """Return where the log is now."""
    with time_limit(ANSWER_SECONDS), connection.cursor() as cursor:
        cursor.execute(_HERE)
        return _reading(cursor.fetchone())


def read(connection: Any, since: Position, hear: Hear, statement: str = _FEW) -> Reading:
    """Tell what became visible since a position, in order of `seq`, and return how far that was.

    The connection is in autocommit. What is told may be told again when this raises. A `statement` reads few changes as
    PREPARED does, perhaps after others.
    """
    with time_limit(ANSWER_SECONDS), connection.cursor() as cursor:
        cursor.execute(statement, parameters(since))
        rows = cursor.fetchall()
    width = len(Position._fields) + len(Reading._fields) - 1
    reading = _checked(rows[0][:width] if rows else None, since)
    changes = [Change._make(row[width:]) for row in rows if row[width] is not None]
    if len(changes) > BATCH:
        return _read_all(connection, since, hear)
    if changes:
        hear(changes)
    return reading


def _read_all(connection: Any, since: Position, hear: Hear) -> Reading:
    """Read in batches, all of one snapshot."""
    values = parameters(since)
    try:
        with time_limit(LONGEST_SECONDS), connection.cursor() as cursor:
            cursor.execute(f"begin isolation level repeatable read read only;{_HERE}")
            reading = _checked(cursor.fetchone(), since)
            cursor.execute(_HUGE, values)
            values["huge"] = [transaction for (transaction,) in cursor.fetchall()]
            cursor.execute(KINDS, values)
            values["summed"] = summed(cursor.fetchall())
            cursor.execute(_ALL, values)
            while True:
                cursor.execute(f"fetch {BATCH} from fresh")
                if not (rows := cursor.fetchall()):
                    break
                hear([Change._make(row) for row in rows])
            cursor.execute("commit")
            return reading
    except errors.DeadlineExceeded:
        raise GapError from None


def parameters(since: Position) -> dict[str, Any]:
    """Return those of FRESH."""
    snapshot = since.snapshot
    running = [str(transaction) for transaction in snapshot.running]
    return {"epoch": since.epoch, "end": str(snapshot.end), "running": running}


def _checked(row: Sequence[Any] | None, since: Position) -> Reading:
    reading = _reading(row)
    if not reading.position.is_comparable(since):
        raise GapError
    return reading


def _reading(row: Sequence[Any] | None) -> Reading:
    if row is None:
        # Somebody restores the database: the table is a new one, whose row is newer than the snapshot.
        raise GapError
    snapshot, epoch, timeline, time, written, flushed = row
    return Reading(Position(epoch, timeline, Snapshot.of(snapshot), time), written, flushed)
