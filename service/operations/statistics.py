"""What is kept of the database's performance: how long statements took, and samples of what PostgreSQL says."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service.actor import Actor
from service.database import vitals
from service.database.handle import database
from service.database.transactions import read, transaction
from service.statements import Sum, statements

KEEP_DAYS = 14
BATCH = 1000
SLOT_SECONDS = 600


class Times(NamedTuple):
    """The statements of an operation within some time."""

    name: str
    calls: int
    seconds: float
    """Of all together."""
    slowest: float
    """Seconds."""

    @property
    def mean(self) -> float:
        return self.seconds / self.calls


class Sample(NamedTuple):
    time: datetime
    figures: Mapping[str, int]
    tables: Mapping[str, Mapping[str, int]] | None
    """The bytes and the rows of each; None where they were not looked at."""


def note_statements(actor: Actor) -> None:
    """Write down how long the statements of this process took since this was last done."""
    taken = statements.take()
    if not taken:
        return
    try:
        _write(actor, taken)
    except BaseException:
        statements.give_back(taken)
        raise


@transaction
def _write(actor: Actor, taken: Mapping[str, Sum]) -> None:
    # In one order, so that processes do not wait for each other in a circle.
    columns = zip(*((name, *taken[name]) for name in sorted(taken)), strict=True)
    database.execute_sql(
        """
        insert into statement_times as s (slot, name, calls, seconds, slowest)
        select to_timestamp(floor(extract(epoch from now()) / %s) * %s), name, calls, seconds, slowest
        from unnest(%s::text[], %s::bigint[], %s::double precision[], %s::double precision[])
          as t (name, calls, seconds, slowest)
        on conflict (slot, name) do update set calls = s.calls + excluded.calls,
          seconds = s.seconds + excluded.seconds, slowest = greatest(s.slowest, excluded.slowest)
        """,
        (SLOT_SECONDS, SLOT_SECONDS, *map(list, columns)),
    )


@transaction
def sample(actor: Actor) -> None:
    """Keep what PostgreSQL says now; of each table in the first sample of an hour."""
    database.execute_sql(
        f"""
        insert into statistics_samples (time, figures, tables)
        select now(), ({vitals.FIGURES}), case
          when not exists (
            select from statistics_samples where time >= date_trunc('hour', now()) and tables is not null
          )
          then (
            select jsonb_object_agg(name, jsonb_build_object('bytes', bytes, 'rows', rows, 'dead', dead))
            from ({vitals.TABLES}) t (name, is_partitioned, bytes, rows, dead)
          )
        end
        on conflict do nothing
        """
    )


@transaction
def purge(actor: Actor) -> int:
    """Delete up to 1,000 samples and as many times of statements that are older than 14 days; return how many."""
    ((count,),) = database.execute_sql(
        """
        with samples as (
            delete from statistics_samples where time in (
                select time from statistics_samples where time < now() - make_interval(days => %s)
                order by time limit %s
            )
            returning 1
        ),
        times as (
            delete from statement_times where (slot, name) in (
                select slot, name from statement_times where slot < now() - make_interval(days => %s)
                order by slot limit %s
            )
            returning 1
        )
        select (select count(*) from samples) + (select count(*) from times)
        """,
        (KEEP_DAYS, BATCH) * 2,
    ).fetchall()
    return int(count)


@read
def times(actor: Actor, hours: int) -> Sequence[Times]:
    """Return how long statements took within so many hours, and within the ten minutes before; the slowest first."""
    rows = database.execute_sql(
        """
        select name, sum(calls)::bigint, sum(seconds), max(slowest) from statement_times
        where slot > now() - make_interval(hours => %s, secs => %s)
        group by name order by sum(seconds) / sum(calls) desc, name
        """,
        (hours, SLOT_SECONDS),
    )
    return [Times(*row) for row in rows.fetchall()]


@read
def sample_before(actor: Actor, hours: int, *, with_tables: bool) -> Sample | None:
    """Return the newest sample that is older than so many hours, or the oldest one of the last day."""
    found: Sequence[Any] | None = database.execute_sql(
        """
        select time, figures, tables from statistics_samples
        where time > now() - make_interval(hours => %s) - interval '1 day' and (tables is not null or not %s)
        order by time > now() - make_interval(hours => %s), abs(extract(epoch from time - now()) + 3600 * %s) limit 1
        """,
        (hours, with_tables, hours, hours),
    ).fetchone()
    return None if found is None else Sample(*found)
