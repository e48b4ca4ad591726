"""What usage costs: recording it, beside a bare INSERT in the same run; and summing up a day, a month and a year."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bench import content, machine
from bench.compare import migrate, postgres, say
from bench.content import Database, id_of
from bench.figures import percentile, verdict
from bench.programs import ProgramError, Running
from bench.report import rows
from bench.targets import serve
from omniflo.templates.v1.usage_pb2 import Usage, UsageGranularity, UsageGroup
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest, RecordUsageRequest
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceStub

BATCH = 1_000
FLOOR, TARGET = 0.3, 0.5
"""Of the rows that a bare INSERT adds in a second of processor time."""
DEADLINE_SECONDS = 30.0

MODELS, ORGANIZATIONS = 10, 20
TARGETS = {"day": 20, "month": 60, "year": 400}
"""Milliseconds that a query of such a time may take; twice as many are its floor."""

_COLUMNS = (
    "time, template_id, template_revision, template_type, model, user_id, organization_id, duration, input_tokens,"
    " cached_tokens, output_tokens, reasoning_tokens, token_count, success, error_code"
)

# The sketches of 1,000 kinds of rows, each with so many buckets as log-normal durations of so many usages fill.
_SKETCHES = """
create temporary table bench_sketches as
select number, array_agg(bucket order by bucket) as buckets, array_agg(count order by bucket) as counts
from (
    select
      n % 1000 as number, count(*) as count,
      usage_bucket(exp(14 + n % 7 * 0.1 + sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()))::bigint) as bucket
    from generate_series(0, 1000 * 40 - 1) n group by n % 1000, bucket
) spread group by number
"""

# Three combinations of a model and an organization for each template; 3 in 10 users a day. The sums of a period are of
# no others, which no query notices.
_FILL = """
insert into usage_totals
select '{level}', '{period}', moment, {template}, {revision}, {type}, {model}, {user}, {organization}, 40, 39, 40000,
  10000, 9000, 3000, 49000, 40 * 1500000, buckets, counts
from generate_series(%(start)s::timestamptz, now(), '1 {period}') moment
cross join generate_series(1, {rows}) n
join bench_sketches on number = (n * 7 + extract(doy from moment)::integer) %% 1000
where {where}
order by moment
"""


class Options(NamedTuple):
    templates: int
    users: int
    days: int
    hours_days: int
    """For how many days there are sums by the hour."""
    batches: int
    """How many calls, and INSERTs, of a round."""
    rounds: int
    calls: int
    is_quick: bool


class Recording(NamedTuple):
    rows_a_second: float
    """Of processor time."""
    service_ms: float
    """That the service takes of it for 1,000 rows."""
    postgres_ms: float


class Asked(NamedTuple):
    milliseconds: list[float]
    """Of each call, sorted."""
    processor_ms: float
    """That the service and PostgreSQL take for a call."""


class Result(NamedTuple):
    about: dict[str, str]
    options: Options
    recorded: list[Recording]
    inserted: list[Recording]
    rolled_up: float
    """Usages that are summed up in a second of processor time."""
    totals: int
    megabytes: float
    asked: dict[tuple[str, str], Asked]


def run(options: Options) -> Result:
    cores = machine.cores()
    about = {**machine.describe(), "cores are shared out": str(cores)}
    machine.stay_on(cores.others)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        server, admin = stack.enter_context(postgres(folder, cores, "-c", "max_wal_size=4GB"))
        about["postgresql"] = admin.query("show server_version")[0][0]
        database = admin.new("usage")
        stack.callback(database.close)
        migrate(database)
        content.fill(database, templates=max(options.templates, 400), users=options.users)
        running = stack.enter_context(serve(database, {}, log=folder / "service.log", cores=cores.server))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{running.port}"))
        usage = UsageServiceStub(channel)
        try:
            recorded, inserted = _record(usage, running, server.pid, database, options)
            rolled_up = _roll_up(database, server.pid)
            fill(database, options)

            def used() -> float:
                return machine.processor_seconds(running.pid) + machine.processor_seconds(server.pid)

            ((totals, size),) = database.query(
                "select count(*), pg_total_relation_size('usage_totals') / 1048576.0 from usage_totals"
            )
            return Result(
                about, options, recorded, inserted, rolled_up, totals, float(size), measured(usage, options, used)
            )
        except grpc.RpcError as error:
            raise ProgramError(str(error)) from None


def write(result: Result, folder: Path) -> list[Path]:
    """Write the table into the folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "usage.md"
    table.write_text("\n".join(_text(result)) + "\n")
    return [table]


def _usages(round: int, batch: int, options: Options) -> list[Usage]:
    now = Timestamp()
    now.GetCurrentTime()
    return [
        Usage(
            event_id=f"resp_{round}_{batch}_{n}",
            template_id=id_of("template", 1 + n % options.templates),
            template_revision=1,
            user_id=id_of("user", 1 + (batch * BATCH + n) % options.users),
            model=f"model-{n % MODELS}",
            time=now,
            duration=Duration(seconds=1, nanos=n * 1000),
            input_tokens=1_000,
            cached_tokens=100,
            output_tokens=200,
            reasoning_tokens=50,
            success=True,
        )
        for n in range(BATCH)
    ]


def _record(
    usage: UsageServiceStub, running: Running, postgres: int, database: Database, options: Options
) -> tuple[list[Recording], list[Recording]]:
    """Record by turns with the service and with an INSERT of as many rows into a table like the one of arrivals."""
    database.query("create table bench_usages (like usage_arrivals including defaults)")

    def record(round: int) -> Recording:
        requests = [RecordUsageRequest(usages=_usages(round, batch, options)) for batch in range(options.batches)]
        machine.settle(postgres, running.pid)
        before = machine.processor_seconds(running.pid), machine.processor_seconds(postgres)
        for request in requests:
            answer = usage.RecordUsage(request, timeout=DEADLINE_SECONDS)
            if answer.recorded_count != BATCH:
                raise ProgramError(f"{answer.recorded_count} of {BATCH} usages were recorded")
        return _recording(
            options,
            machine.processor_seconds(running.pid) - before[0],
            machine.processor_seconds(postgres) - before[1],
        )

    def insert(round: int) -> Recording:
        batches = [
            [
                (
                    one.time.ToDatetime(UTC), one.template_id, one.template_revision, "type", one.model, one.user_id,
                    "", one.duration.ToMicroseconds(), one.input_tokens, one.cached_tokens, one.output_tokens,
                    one.reasoning_tokens, 1_200, one.success, "",
                )
                for one in _usages(round, batch, options)
            ]
            for batch in range(options.batches)
        ]  # fmt: skip
        machine.settle(postgres)
        before = time.process_time(), machine.processor_seconds(postgres)
        for batch in batches:
            database.insert(f"insert into bench_usages ({_COLUMNS}) values %s", batch)
        return _recording(options, time.process_time() - before[0], machine.processor_seconds(postgres) - before[1])

    recorded, inserted = [], []
    # The first round warms up.
    for round in range(options.rounds + 1):
        say(f"records, round {round} of {options.rounds}")
        found = record(round), insert(round)
        if round:
            recorded.append(found[0])
            inserted.append(found[1])
    return recorded, inserted


def _recording(options: Options, service: float, postgres: float) -> Recording:
    thousands = options.batches * BATCH / 1000
    return Recording(
        options.batches * BATCH / (service + postgres), 1000 * service / thousands, 1000 * postgres / thousands
    )


def _roll_up(database: Database, postgres: int) -> float:
    say("sums up")
    before, count = machine.processor_seconds(postgres), 0
    while rolled := database.query("select roll_up_usage(10000)")[0][0]:
        count += rolled
    return count / (machine.processor_seconds(postgres) - before)


def fill(database: Database, options: Options) -> None:
    """Fill the sums of all levels and periods."""
    database.query(f"truncate usage_totals; {_SKETCHES}")
    now = datetime.now(UTC)
    year = (now - timedelta(days=options.days)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    hours = (now - timedelta(days=options.hours_days)).replace(hour=0, minute=0, second=0, microsecond=0)
    template = f"substr(md5('template' || 1 + n % {options.templates}), 1, 24)".replace("%", "%%")
    named = {
        "template": "''", "revision": "0", "type": "''", "user": "''", "organization": "''",
        "model": f"'model-' || n %% {MODELS}",
    }  # fmt: skip
    organization = f"'organization-' || n / {MODELS} %% {ORGANIZATIONS}"
    # Of another organization each time that the templates come round.
    several_organizations = f"'organization-' || (n / {MODELS} + n / {options.templates}) %% {ORGANIZATIONS}"
    several = {"rows": 3 * options.templates, "template": template, "revision": "1", "type": "'type-' || n %% 20"}
    levels: dict[str, dict[str, Any]] = {
        "model": {"rows": MODELS},
        "organization": {"rows": MODELS * ORGANIZATIONS, "organization": organization},
        "template_type": {
            "rows": 3 * MODELS * ORGANIZATIONS,
            "organization": organization,
            "type": "'type-' || n / 200",
        },
        "template": several | {"organization": several_organizations},
        "user": {
            "rows": options.users,
            "user": "substr(md5('user' || n), 1, 24)",
            "organization": f"'organization-' || n %% {ORGANIZATIONS}",
        },
    }
    for level, of in levels.items():
        for period, start in (("month", year), ("day", year), ("hour", hours)):
            if (level, period) == ("user", "hour"):
                continue
            say(f"fills the sums of each {period} by {level}")
            where = "true"
            if level == "user" and period == "day":
                where = "(n + extract(doy from moment)::integer) %% 10 < 3"
            if level == "template" and period == "hour":
                where = "(n + extract(hour from moment)::integer) %% 3 = 0"
            sql = _FILL.format(level=level, period=period, where=where, **named | of)
            database.query(sql, {"start": start})
    database.settle()


Ask = Callable[[], Any]


def _questions(usage: UsageServiceStub, options: Options) -> Iterator[tuple[tuple[str, str], Ask]]:
    """Yield what is asked of a day, a month and a year, with its name."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    spans = {
        "day": (today - timedelta(days=1), today),
        "month": (today - timedelta(days=30), None),
        "year": (today - timedelta(days=options.days - 20), None),
    }
    # One who used something yesterday.
    template, user = id_of("template", 7), id_of("user", 10 - spans["day"][0].timetuple().tm_yday % 10)
    day, hour = UsageGranularity.USAGE_GRANULARITY_DAY, UsageGranularity.USAGE_GRANULARITY_HOUR
    for span, (start, end) in spans.items():
        by = hour if span == "day" else day

        def ask(start: datetime = start, end: datetime | None = end, **fields: Any) -> Ask:
            request = QueryUsageRequest(
                start_time=_timestamp(start), end_time=None if end is None else _timestamp(end), **fields
            )
            return lambda: usage.QueryUsage(request, timeout=DEADLINE_SECONDS)

        groups = UsageGroup.USAGE_GROUP_TEMPLATE, UsageGroup.USAGE_GROUP_MODEL, UsageGroup.USAGE_GROUP_USER
        yield (span, "all together"), ask()
        yield (span, "by template"), ask(group_by=groups[:1])
        yield (span, "by template, 1,000 rows"), ask(group_by=groups[:1], page_size=1_000)
        yield (span, "by model"), ask(group_by=groups[1:2])
        yield (span, f"by model and {'hour' if span == 'day' else 'day'}"), ask(group_by=groups[1:2], granularity=by)
        yield (span, "by user"), ask(group_by=groups[2:])
        yield (span, "by template, of an organization"), ask(group_by=groups[:1], organization_id="organization-3")
        yield (span, "of a template, by day"), ask(template_id=template, granularity=day)
        yield (span, "of a user, by day"), ask(user_id=user, granularity=day)


def _timestamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def measured(usage: UsageServiceStub, options: Options, used: Callable[[], float]) -> dict[tuple[str, str], Asked]:
    """Return what each question takes; `used` returns the processor time in seconds that was taken so far."""
    found: dict[tuple[str, str], Asked] = {}
    for name, ask in _questions(usage, options):
        say(f"asks for a {name[0]} {name[1]}")
        if not ask().rows:
            raise ProgramError(f"there is no usage of a {name[0]} {name[1]}")
        times = []
        before = used()
        for _ in range(options.calls):
            began = time.perf_counter()
            ask()
            times.append(1000 * (time.perf_counter() - began))
        found[name] = Asked(sorted(times), 1000 * (used() - before) / options.calls)
    return found


def _text(result: Result) -> Iterator[str]:
    options = result.options
    yield "# Usage\n"
    yield from (f"- {name}: {value}" for name, value in result.about.items())
    yield ""
    if options.is_quick:
        yield "**This is a smoke run: nothing follows from its figures.**\n"
    yield "## Recording\n"
    yield (
        f"Calls with {BATCH:,} usages, by turns with INSERTs of as many rows into a table like that of arrivals, but"
        f" without the ids of events. {options.rounds} rounds of {options.batches * BATCH:,} rows. Processor time is"
        " that of PostgreSQL and of the service, or of the program that inserts.\n"
    )
    yield rows(
        ["", "rows a second of processor time", "service or program, ms for 1,000", "PostgreSQL, ms for 1,000"],
        [
            [
                name,
                *(
                    f"{statistics.median(column):,.{digits}f}"
                    for column, digits in zip(zip(*found, strict=True), (0, 1, 1), strict=True)
                ),
            ]
            for name, found in (("RecordUsage", result.recorded), ("bare INSERT", result.inserted))
        ],
    )
    ratios = sorted(
        one.rows_a_second / bare.rows_a_second for one, bare in zip(result.recorded, result.inserted, strict=True)
    )
    ratio = statistics.median(ratios)
    judgement = verdict(ratio, floor=FLOOR, target=TARGET, is_conclusive=not options.is_quick)
    yield f"- ratio: {ratio:.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f}), at least {TARGET}: {judgement}"
    yield f"- summed up afterwards: {result.rolled_up:,.0f} usages a second of processor time\n"
    yield "## Asking\n"
    yield (
        f"{options.calls} calls, one at a time. {options.templates:,} templates, each with three combinations of"
        f" {MODELS} models and {ORGANIZATIONS} organizations a day; {options.users:,} users, 3 in 10 of them a day;"
        f" {options.days} days: {result.totals:,} sums, {result.megabytes:,.0f} MB. Pages of 50 rows. A day is"
        f" yesterday, a month the last 30 days, a year the last {options.days - 20}.\n"
    )
    yield rows(
        ["time", "usage", "p50, ms", "p95, ms", "processor time, ms", "target, ms", "verdict"],
        [
            [
                span,
                what,
                f"{(p50 := percentile(asked.milliseconds, 50)):.1f}",
                f"{percentile(asked.milliseconds, 95):.1f}",
                f"{asked.processor_ms:.0f}",
                str(TARGETS[span]),
                str(
                    verdict(
                        p50,
                        floor=2 * TARGETS[span],
                        target=TARGETS[span],
                        lower_is_better=True,
                        is_conclusive=not options.is_quick,
                    )
                ),
            ]
            for (span, what), asked in result.asked.items()
        ],
    )
