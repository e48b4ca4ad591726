"""Usage is summed up once, whatever happens meanwhile, and kept for as long as the settings say."""

import itertools
import math
import random
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from service import errors
from service.actor import SYSTEM, Actor
from service.database import embedded
from service.database.handle import database
from service.database.transactions import transaction
from service.operations import usage_keeping, usage_sums, usages, users
from service.operations.usage_sums import Sum
from service.operations.usages import Usage
from tests.conftest import Database, as_service
from tests.e2e.proxy import After, Proxy
from tests.jobs.test_tasks import run
from tests.migrations.conftest import working_on
from tests.scale import DURATIONS, KILLED_ROLL_UPS

WRITER = Actor("service:writer", role="writer")
SECOND = timedelta(seconds=1)

_events = itertools.count(1)


@pytest.fixture
def empty(queue: Database) -> Database:
    """The database without usage."""
    queue.query("delete from usage_arrivals; delete from usages; delete from usage_totals; delete from usage_events")
    return queue


def used(**fields: Any) -> Usage:
    made: dict[str, Any] = {"event_id": f"e{next(_events)}", "duration": SECOND} | fields
    return Usage(**made)


def now() -> datetime:
    return datetime.now(UTC)


def summed(*group_by: str, days: int = 50, **options: Any) -> Sequence[Sum]:
    return usage_sums.query(
        SYSTEM, start=now() - timedelta(days=days), end=None, group_by=set(group_by), after=None, size=1000, **options
    ).page.rows


def count(**options: Any) -> int:
    return sum(row.count for row in summed(**options))


def assert_counted(number: int) -> None:
    """See that usages are counted once at each level and of each period."""
    totals = {
        (): number,
        ("organization_id",): number,
        ("template_type",): number,
        ("template_id",): number,
        ("user_id",): number,
        ("user_id", "template_id"): number,
    }
    assert {keys: sum(row.count for row in summed(*keys)) for keys in totals} == totals
    assert count(by="hour") == count(by="day") == number


def test_a_run_is_recorded_once_and_with_what_it_did_or_not_at_all(empty: Database) -> None:
    @transaction
    def attempt(actor: Actor, *, fails: bool) -> bool:
        database.execute_sql("insert into organizations (id, name) values (gen_random_uuid(), 'A run')")
        is_new = usages.record_run(actor, Usage(event_id="run-1:1", duration=SECOND, model="gpt"))
        if fails:
            raise RuntimeError
        return is_new

    with pytest.raises(RuntimeError):
        attempt(SYSTEM, fails=True)
    assert (count(), empty.query("select count(*) from organizations")) == (0, [(0,)])
    assert attempt(SYSTEM, fails=False) is True
    assert attempt(SYSTEM, fails=False) is False
    assert count() == 1
    empty.query("delete from organizations")


def test_usage_counts_once_wherever_its_recording_is_cut_off(empty: Database, postgres: embedded.Server) -> None:
    user = users.provision(SYSTEM, f"user_{next(_events)}").id
    caller = Actor(f"user:{user}", user_id=user)
    name = empty.url.partition("@/")[2].partition("?")[0]
    refusals, again = [], 0
    with Proxy(postgres.socket_dir) as proxy:
        through = f"postgresql://omniflo_service@127.0.0.1:{proxy.port}/{name}?sslmode=disable&gssencmode=disable"
        with working_on(through, afterwards=as_service(empty.url)):
            usages.record(caller, [used()])
            for messages in itertools.count():
                sent = [used(time=now()) for _ in range(3)]
                proxy.cuts, recorded = After(messages), None
                while recorded is None:
                    try:
                        recorded = usages.record(caller, sent)
                    except errors.Unavailable as failure:
                        refusals.append(failure.reason)
                assert sum(recorded) == 3
                again += recorded.duplicates
                if proxy.cut == messages:
                    break
    assert messages > 8
    # Only a COMMIT is not tried again without the caller: before it is done, and when it is.
    assert (refusals, again) == (["COMMIT_UNKNOWN"] * 2, 3)
    assert_counted(1 + 3 * (messages + 1))


STATEMENTS = [
    ("delete", "usage_arrivals"),
    ("insert", "usages"),
    ("insert", "usage_totals"),
    ("update", "usage_totals"),
]


@pytest.mark.parametrize(("what", "table"), STATEMENTS)
def test_a_roll_up_that_fails_at_any_statement_counts_nothing_twice(empty: Database, what: str, table: str) -> None:
    usages.record(WRITER, [used(), used()])
    usage_keeping.roll_up(SYSTEM)
    usages.record(WRITER, [used(model=model) for model in ("", "other", "third")])
    empty.query(
        "create function fail() returns trigger language plpgsql as $$ begin raise 'killed'; end $$;"
        f"create trigger fail after {what} on {table} for each row execute function fail()"
    )
    with pytest.raises(psycopg2.Error) as error:
        empty.query("select roll_up_usage(10)")
    assert "killed" in str(error.value)
    empty.query(f"drop trigger fail on {table}; drop function fail()")
    assert_counted(5)
    assert usage_keeping.roll_up(SYSTEM) == 3
    assert usage_keeping.roll_up(SYSTEM) == 0
    assert_counted(5)


@pytest.mark.soak
def test_a_roll_up_that_is_killed_at_any_moment_counts_nothing_twice(empty: Database) -> None:
    chance = random.Random(7)
    recorded = 0
    for _ in range(KILLED_ROLL_UPS):
        recorded += usages.record(WRITER, [used(template_id=f"t{n % 7}", model=f"m{n % 3}") for n in range(300)])[0]
        with closing(psycopg2.connect(empty.url)) as victim, victim.cursor() as cursor:
            pid = victim.info.backend_pid
            killer = threading.Timer(
                chance.random() * 0.03, closing_query, (empty.url, f"select pg_terminate_backend({pid})")
            )
            killer.start()
            try:
                while True:
                    cursor.execute("select roll_up_usage(100)")
                    victim.commit()
                    time.sleep(chance.random() * 0.005)
            except psycopg2.Error:
                pass
            killer.join()
        assert_counted(recorded)
    assert run(empty, "roll_up_usage")["rolled_up"] <= recorded
    assert_counted(recorded)
    assert empty.query("select count(*) from usages") == [(recorded,)]


def closing_query(url: str, sql: str) -> None:
    with closing(Database(url)) as other:
        other.query(sql)


INSERT = """
insert into usage_arrivals (
  time, template_id, template_revision, template_type, model, user_id, organization_id, duration,
  input_tokens, cached_tokens, output_tokens, reasoning_tokens, token_count, success, error_code
)
"""


def test_what_is_committed_late_is_summed_up_late(empty: Database) -> None:
    with closing(psycopg2.connect(empty.url)) as slow, slow.cursor() as cursor:
        cursor.execute(f"{INSERT} values (now(), '', 0, '', '', '', '', 1, 1, 0, 0, 0, 1, true, '')")
        usages.record(WRITER, [used()])
        assert usage_keeping.roll_up(SYSTEM) == 1
        usages.record(WRITER, [used()])
        slow.commit()
    assert_counted(3)
    assert usage_keeping.roll_up(SYSTEM) == 2
    assert_counted(3)


def test_two_roll_ups_at_once_divide_what_there_is(empty: Database) -> None:
    usages.record(WRITER, [used(template_id=f"t{n % 9}") for n in range(400)])
    threads = [threading.Thread(target=closing_query, args=(empty.url, "select roll_up_usage(150)")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_counted(400)


def test_who_is_deleted_while_usage_is_recorded_is_forgotten(empty: Database) -> None:
    user = users.provision(SYSTEM, f"user_{next(_events)}").id
    deleting = threading.Thread(target=closing_query, args=(empty.url, f"delete from users where id = '{user}'"))

    @transaction
    def record(actor: Actor) -> None:
        usages.record(actor, [used(user_id=user)])
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive(), "it waits for this"

    record(WRITER)
    deleting.join()
    usages.record(WRITER, [used(user_id=user)])
    assert {row.user_id: row.count for row in summed("user_id")} == {"": 2}


LOG_NORMAL = f"""
{INSERT}
select now() - random() * interval '20 days', 't' || n %% 5, 0, '', 'gpt', '', '',
  least(exp(14 + 1.2 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())), 86400000000)::bigint,
  0, 0, 0, 0, 0, true, ''
from generate_series(1, %(durations)s) n
"""


@pytest.mark.soak
def test_percentiles_are_within_two_percent_of_the_exact_ones(empty: Database) -> None:
    empty.query("select setseed(0.5)")
    empty.query(LOG_NORMAL, {"durations": DURATIONS})  # type: ignore[arg-type]
    run(empty, "roll_up_usage")
    assert empty.query("select count(*) from usage_arrivals") == [(0,)]
    for key, of in (("''", ()), ("template_id", ("template_id",))):
        exact = empty.query(
            f"select {key}, percentile_disc(array[0.5, 0.95, 0.99]) within group (order by duration), avg(duration)"
            " from usages group by 1 order by 1"
        )
        rows = summed(*of)
        assert len(rows) == len(exact)
        for row, (_, percentiles, mean) in zip(rows, exact, strict=True):
            errors = [
                abs(found / timedelta(microseconds=1) - wanted) / wanted
                for found, wanted in zip(row.percentiles(), percentiles, strict=True)
            ]
            assert max(errors) <= 0.02
            assert math.isclose(row.mean() / timedelta(microseconds=1), mean, rel_tol=1e-6)


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("microseconds", [0, 1, 2, 3, 1000, 86_400_000_000])
def test_the_smallest_and_the_largest_durations_are_within_two_percent(microseconds: int) -> None:
    duration = timedelta(microseconds=microseconds)
    usages.record(WRITER, [used(duration=duration)])
    for _ in range(2):
        (row,) = summed()
        assert all(abs(found - duration) <= 0.02 * duration for found in row.percentiles())
        usage_keeping.roll_up(SYSTEM)


def partitions(database: Database) -> list[str]:
    sql = "select inhrelid::regclass::text from pg_inherits where inhparent = 'usages'::regclass order by 1"
    return [name for (name,) in database.query(sql)]


def test_partitions_are_there_ahead_of_time_and_go_when_all_in_them_is_old(empty: Database) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usages._Now, "days", 400)
        usages.record(WRITER, [used(time=now() - timedelta(days=days)) for days in (0, 40, 200, 300)])
        assert run(empty, "roll_up_usage") == {"rolled_up": 4}
        before = partitions(empty)
        purged = run(empty, "purge_usage", usage_days=100)["purged"]
        assert count(days=390, by="day") == 4
    dropped = {*before} - {*partitions(empty)}
    oldest = (now() - timedelta(days=100)).strftime("usages_%Y_%m")
    assert dropped == {name for name in before if name < oldest}
    # And the hours of two usages, at all levels that have them.
    assert purged == len(dropped) + 2 * 4
    newest = (now().replace(day=1) + timedelta(days=62)).strftime("usages_%Y_%m")
    assert newest in partitions(empty)
    assert empty.query("select count(*) from usages") == [(2,)]
    # What is gone by itself is still summed up.
    assert empty.query("select sum(count)::int from usage_totals where (level, period) = ('template', 'day')") == [(4,)]


def test_the_ids_of_usages_are_kept_for_48_hours(empty: Database) -> None:
    usages.record(WRITER, [used(event_id="old"), used(event_id="young")])
    empty.query(
        "update usage_events"
        " set receive_time = now() - case event_id when 'old' then 49 else 47 end * interval '1 hour'"
    )
    assert run(empty, "purge_usage_events") == {"purged": 1}
    assert usages.record(WRITER, [used(event_id="old"), used(event_id="young")]) == (1, 1)
