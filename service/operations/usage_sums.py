"""What templates and models are used for, summed up."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read
from service.operations import usage_rights, usages
from service.operations.listing import Key, Page

Period = Literal["hour", "day", "month"]

KEYS = ("template_id", "template_revision", "template_type", "model", "user_id", "organization_id")
"""What tells sums apart, in the order in which they are sorted."""

_LEVELS: dict[str, AbstractSet[str]] = {
    "model": {"model"},
    "organization": {"organization_id", "model"},
    "template_type": {"template_type", "organization_id", "model"},
    "template": {"template_id", "template_revision", "template_type", "organization_id", "model"},
    "user": {"user_id", "organization_id", "model"},
}
"""What the sums of each level are told apart by, as roll_up_usage() in the migrations has them: the fewest first."""

_SUMS = (
    "count",
    "success_count",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "token_count",
    "duration",
)
_EMPTY = {key: "0" if key == "template_revision" else "''" for key in KEYS}
_GROWTH = 1.04
"""Of usage_bucket() in the migrations."""

# Of `total`, whose rows are each of a place on the page. Most of the time goes into the buckets, of which a place has
# hundreds: as doubles, which are exact up to 9e15, they take half as much of it as with numeric sums.
_SUMMED_UP = f"""
    of_models as (
        select place, model, {", ".join(f"sum({name}) as {name}" for name in _SUMS)}
        from total group by place, model
    ),
    summed as (
        select place, {", ".join(f"sum({name})::bigint as {name}" for name in _SUMS)},
          sum(
              (
                  greatest(input_tokens - cached_tokens, 0) * input_price
                  + cached_tokens * coalesce(cached_input_price, input_price) + output_tokens * output_price
              ) / 1000000
          ) as cost,
          coalesce(sum(count) filter (where input_price + output_price is not null), 0)::bigint as priced_count
        from of_models left join openai_models on openai_id = model group by place
    ),
    spread as (
        select place, bucket, sum(number) as number
        from (select place, unnest(buckets) as bucket, unnest(counts)::double precision as number from total) every
        group by place, bucket
    ),
    ranked as (
        select place, bucket, sum(number) over (partition by place order by bucket rows unbounded preceding) as upto
        from spread
    ),
    percentiles as (
        select place, min(bucket) filter (where 100 * upto >= 50 * count) as p50,
          min(bucket) filter (where 100 * upto >= 95 * count) as p95,
          min(bucket) filter (where 100 * upto >= 99 * count) as p99
        from ranked join summed using (place) group by place
    )
"""


@dataclass(frozen=True, slots=True)
class Sum:
    """Usages together. Keys that were not asked for are empty."""

    time: datetime
    template_id: str
    template_revision: int
    template_type: str
    model: str
    user_id: str
    organization_id: str
    count: int
    success_count: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    token_count: int
    duration: int
    """Of all together, in microseconds."""
    cost: Decimal | None
    """In USD, of those whose models have prices."""
    priced_count: int
    p50: int
    p95: int
    p99: int
    """The buckets of durations that 50, 95 and 99 percent do not exceed."""

    def percentiles(self) -> Sequence[timedelta]:
        """Return the durations that 50, 95 and 99 percent do not exceed, within 2 percent."""
        return [_middle(bucket) for bucket in (self.p50, self.p95, self.p99)]

    def mean(self) -> timedelta:
        return timedelta(microseconds=round(self.duration / self.count))


class Sums(NamedTuple):
    page: Page[Sum]
    start: datetime
    end: datetime
    """Between which times everything is summed up."""


class _Query(NamedTuple):
    """What is summed up, and where it is read."""

    level: str
    """None for usages by themselves."""
    unit: Period
    """What times are rounded to."""
    by_time: bool
    """Whether each unit of time has sums of its own."""
    keys: Sequence[str]
    filters: dict[str, str | int]


@read
def query(
    actor: Actor,
    *,
    start: datetime,
    end: datetime | None,
    by: Literal["hour", "day"] | None = None,
    group_by: AbstractSet[str] = frozenset(),
    after: Key | None,
    size: int,
    **filters: str | int,
) -> Sums:
    """Return the sums of all usages that meet all filters, by time and keys. Empty filters filter nothing."""
    user_id, organization_id = usage_rights.readable(
        actor, str(filters.get("user_id", "")), str(filters.get("organization_id", ""))
    )
    filters |= {"user_id": user_id, "organization_id": organization_id}
    ((now,),) = database.execute_sql("select clock_timestamp()").fetchall()
    query = _query(start, by, group_by, {name: value for name, value in filters.items() if value}, now)
    start, end = _floor(start, query.unit), _ceil(now if end is None else end, query.unit)
    if end <= start:
        raise errors.field_invalid(("end_time", "must be later than start_time"))
    rows: list[Sum] = []
    for window in _windows(query, start if after is None else after[0], end):
        rows += _read(query, window, now, after, size + 1 - len(rows))
        if len(rows) > size:
            break
    key = None
    if len(rows) > size:
        key = tuple(getattr(rows[size - 1], name) for name in ("time", *query.keys))
    return Sums(Page(rows[:size], key), start, end)


def _query(
    start: datetime, by: Period | None, group_by: AbstractSet[str], filters: dict[str, str | int], now: datetime
) -> _Query:
    names = filters.keys() | group_by
    of_users = "user_id" in names
    alone = of_users and (by == "hour" or not names <= _LEVELS["user"])
    is_kept = start >= _floor(now - timedelta(days=usages.days()), "day")
    if not is_kept and (alone or by == "hour"):
        what = f"must be within the last {usages.days()} days by the hour, and where users come together with templates"
        raise errors.field_invalid(("start_time", what))
    level = "" if alone else next(level for level, known in _LEVELS.items() if names <= known)
    unit: Period = "day" if by == "day" or level == "user" or not is_kept else "hour"
    return _Query(level, unit, by is not None, [name for name in KEYS if name in group_by], filters)


def _windows(query: _Query, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the times to read one after the other: more and more, since there may be any number of sums in each."""
    step = end - start if not query.by_time else timedelta(hours=1) if query.unit == "hour" else timedelta(days=1)
    while start < end:
        yield start, min(start + step, end)
        start, step = start + step, 4 * step


def _read(query: _Query, window: tuple[datetime, datetime], now: datetime, after: Key | None, size: int) -> list[Sum]:
    """Return the sums in a time, in one snapshot: each usage is either summed up or by itself.

    First the keys of the page are found, which indexes have, and then the rows of these alone are read.
    """
    keys, reads = [], []
    parameters: list[object] = []
    filters = "".join(f" and t.{name} = %s" for name in query.filters)
    for rows in _rows(query, window, now):
        parameters += [*rows.times, *query.filters.values()]
        # Without sums for each hour or day, all are of one time.
        time = rows.time if query.by_time else f"'{window[0].isoformat()}'::timestamptz"
        keys.append(
            f"select {', '.join([f'{time} as time', *(f't.{key}' for key in query.keys)])}"
            f" from {rows.table} t where {rows.condition}{filters}"
        )
        same = "".join(f" and t.{key} = page.{key}" for key in query.keys)
        if query.by_time:
            same += f" and {rows.time} = page.time"
        reads.append(
            f"select place, t.model, {rows.sums} from page join {rows.table} t on {rows.condition}{filters}{same}"
        )
    of_keys = [*parameters, *([] if after is None else [after])]
    listed = ", ".join(["time", *query.keys])
    sql = f"""
        with page as materialized (
            select row_number() over (order by {listed}) as place, {listed}
            from (
                select distinct {listed} from ({" union all ".join(keys)}) every
                {"" if after is None else f"where ({listed}) > %s"} order by {listed} limit %s
            ) first
        ),
        total (place, model, {", ".join(_SUMS)}, buckets, counts) as materialized ({" union all ".join(reads)}),
        {_SUMMED_UP}
        select time, {", ".join(key if key in query.keys else _EMPTY[key] for key in KEYS)}, {", ".join(_SUMS)},
          cost, priced_count, p50, p95, p99
        from page join summed using (place) join percentiles using (place) order by place
    """
    found = database.execute_sql(sql, [*of_keys, size, *parameters])
    return [Sum(*row) for row in found.fetchall()]


class _Rows(NamedTuple):
    """Where usages are counted: some rows `t`, and what is said of each."""

    table: str
    condition: str
    times: Sequence[datetime]
    """The parameters of the condition."""
    time: str
    sums: str


def _rows(query: _Query, window: tuple[datetime, datetime], now: datetime) -> Iterator[_Rows]:
    sums = ", ".join(f"t.{name}" for name in (*_SUMS, "buckets", "bucket_counts"))
    for period, start, end in _parts(query, *window, now) if query.level else ():
        condition = f"t.level = '{query.level}' and t.period = '{period}' and t.time >= %s and t.time < %s"
        yield _Rows("usage_totals", condition, [start, end], "t.time", sums)
    one = ", ".join(["1", "t.success::int", *(f"t.{name}" for name in _SUMS[2:])])
    for table in ("usage_arrivals",) if query.level else ("usage_arrivals", "usages"):
        yield _Rows(
            table,
            "t.time >= %s and t.time < %s",
            window,
            f"date_trunc('{query.unit}', t.time, 'UTC')",
            f"{one}, array[usage_bucket(t.duration)], array[1::bigint]",
        )


def _parts(query: _Query, start: datetime, end: datetime, now: datetime) -> Iterator[tuple[Period, datetime, datetime]]:
    """Yield the largest periods that the time is made of."""
    if query.by_time:
        yield query.unit, start, end
        return
    # Nothing is ahead: the periods that now is in need not be over.
    if end >= now + usages.MOST_AHEAD:
        end = _ceil(end, "month")
    yield from _cut(start, end, ("hour", "day", "month") if query.unit == "hour" else ("day", "month"))


def _cut(start: datetime, end: datetime, periods: Sequence[Period]) -> Iterator[tuple[Period, datetime, datetime]]:
    smallest, *larger = periods
    inner, until = (_ceil(start, larger[0]), _floor(end, larger[0])) if larger else (end, end)
    if inner >= until:
        if start < end:
            yield smallest, start, end
        return
    yield from _cut(start, inner, [smallest])
    yield from _cut(inner, until, larger)
    yield from _cut(until, end, [smallest])


def _floor(moment: datetime, period: Period) -> datetime:
    """Return when the period began that a moment is in."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    day = hour if period == "hour" else hour.replace(hour=0)
    return day.replace(day=1) if period == "month" else day


def _ceil(moment: datetime, period: Period) -> datetime:
    """Return when the next period begins, or the moment itself if one begins then."""
    begin = _floor(moment, period)
    if begin == moment:
        return begin
    return _floor(
        begin + {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=32)}[period], period
    )


def _middle(bucket: int) -> timedelta:
    """Return what is within 2 percent of all in a bucket."""
    return timedelta(microseconds=0 if bucket < 0 else round(2 * _GROWTH**bucket / (1 + _GROWTH)))
