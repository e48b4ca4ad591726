"""Usage is summed up, and what need not be kept any more is deleted."""

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import transaction
from service.operations.usages import KEEP_EVENT_HOURS

BATCH = 10_000


@transaction
def roll_up(actor: Actor) -> int:
    """Sum up to 10,000 recorded usages up; return how many."""
    ((rolled,),) = database.execute_sql("select roll_up_usage(%s)", [BATCH]).fetchall()
    return int(rolled)


@transaction
def purge(actor: Actor, days: int) -> int:
    """Delete a month of usages that are older than so many days, or up to 10,000 sums by the hour; return how many.

    Also make room for those of the next two months.
    """
    database.execute_sql("select make_usage_partitions(now(), now() + interval '2 months')")
    ((dropped,),) = database.execute_sql("select drop_usage_partition(%s)", [days]).fetchall()
    return int(dropped) or _delete(
        "usage_totals",
        "period = 'hour' and level = any(enum_range(null::usage_level))"
        " and time < date_trunc('day', now() - make_interval(days => %s), 'UTC')",
        days,
    )


@transaction
def purge_events(actor: Actor) -> int:
    """Delete up to 10,000 names of usages that were recorded 48 hours ago; return how many."""
    return _delete("usage_events", "receive_time < now() - make_interval(hours => %s)", KEEP_EVENT_HOURS)


def _delete(table: str, condition: str, value: int) -> int:
    deleted = database.execute_sql(
        f"delete from {table} where ctid = any(array("
        f"select ctid from {table} where {condition} limit %s for update skip locked))",
        [value, BATCH],
    )
    return int(deleted.rowcount)
