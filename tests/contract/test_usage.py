"""UsageService, through its stub: each usage counts once, and what they sum up to."""

import itertools
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from grpc import StatusCode

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.template_service_pb2 import DeleteTemplateRequest
from omniflo.templates.v1.usage_pb2 import Usage, UsageGranularity, UsageGroup
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest, QueryUsageResponse, RecordUsageRequest, UsageRow
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from tests.conftest import PLATFORM_ADMIN, ROOT, WRITER, Api, Callers, Database, Failure, fails

pytestmark = pytest.mark.modes

GROUPS: Mapping[str, Sequence[str]] = {
    "TEMPLATE": ["template_id"],
    "REVISION": ["template_id", "template_revision"],
    "TEMPLATE_TYPE": ["template_type"],
    "MODEL": ["model"],
    "USER": ["user_id"],
    "ORGANIZATION": ["organization_id"],
}
NOW = datetime.now(UTC)

_events = itertools.count(1)


def at(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def used(**fields: Any) -> Usage:
    time = fields.pop("time", None)
    made: dict[str, Any] = {"event_id": f"e{next(_events)}", "duration": Duration(seconds=1)} | fields
    return Usage(**made, time=None if time is None else at(time))


def record(api: Api, *usages: Usage) -> tuple[int, int]:
    answer = api.usage.RecordUsage(RecordUsageRequest(usages=usages))
    return answer.recorded_count, answer.duplicate_count


def request(*groups: str, days: float = 3, by: str = "NONE", **filters: Any) -> QueryUsageRequest:
    return QueryUsageRequest(
        start_time=at(NOW - timedelta(days=days)),
        granularity=UsageGranularity.Value(f"USAGE_GRANULARITY_{by}"),
        group_by=[UsageGroup.Value(f"USAGE_GROUP_{group}") for group in groups],
        **filters,
    )


def query(api: Api, *groups: str, **options: Any) -> Sequence[UsageRow]:
    answer: QueryUsageResponse = api.usage.QueryUsage(request(*groups, **options))
    return answer.rows


def counts(rows: Sequence[UsageRow], key: str) -> dict[str, int]:
    return {getattr(row, key): row.count for row in rows}


def count(api: Api, **options: Any) -> int:
    return sum(row.count for row in query(api, **options))


def roll_up(database: Database, most: int = 10_000) -> int:
    ((rolled,),) = database.query("select roll_up_usage(%s)", (most,))
    return int(rolled)


def test_an_event_counts_once_in_a_call_in_two_and_after_it_was_summed_up(api: Api, database: Database) -> None:
    first, second = used(event_id="a", input_tokens=1), used(event_id="b")
    assert record(api, first, used(event_id="a", input_tokens=9)) == (1, 1)
    assert record(api, first, second) == (1, 1)
    roll_up(database)
    assert record(api, second, first) == (0, 2)
    (row,) = query(api)
    assert (row.count, row.input_tokens) == (2, 1)


def test_events_of_calls_at_once_count_once(api: Api) -> None:
    events = [f"together-{number}" for number in range(100)]
    recorded = []

    def send(seed: int) -> None:
        shuffled = random.Random(seed).sample(events, len(events))
        recorded.append(record(api, *(used(event_id=event) for event in shuffled))[0])

    threads = [threading.Thread(target=send, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(recorded) == count(api) == 100


def test_each_caller_has_events_of_its_own(callers: Callers) -> None:
    writer, other = callers.service(WRITER), callers.user("user_a")
    assert record(writer, used(event_id="same")) == record(other, used(event_id="same")) == (1, 0)
    assert record(callers.service(WRITER), used(event_id="same")) == (0, 1)


def invalid(failure: Failure) -> set[str]:
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    return set(failure.violations)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"time": timedelta(minutes=30)}, "time"),
        ({"time": timedelta(days=1)}, "time"),
        ({"time": -timedelta(days=61)}, "time"),
        ({"event_id": ""}, "event_id"),
        ({"duration": None}, "duration"),
        ({"duration": Duration(seconds=-1)}, "duration"),
        ({"output_tokens": -1}, "output_tokens"),
    ],
    ids=str,
)
def test_one_that_breaks_a_rule_leaves_all_unrecorded(api: Api, wrong: dict[str, Any], field: str) -> None:
    if "time" in wrong:
        wrong = {"time": NOW + wrong["time"]}
    failure = fails(record, api, used(), used(**wrong))
    assert invalid(failure) == {f"usages[1].{field}"}
    assert count(api) == 0


def test_a_time_that_no_calendar_has_is_named(api: Api) -> None:
    usage = used()
    usage.time.seconds = -(10**12)
    assert invalid(fails(record, api, usage)) == {"usages[0].time"}


def test_what_arrives_late_is_of_the_day_on_which_it_was_used(api: Api, database: Database) -> None:
    record(api, used())
    roll_up(database)
    record(api, used(time=NOW - timedelta(days=1)), used(time=NOW + timedelta(minutes=5)))
    for _ in range(2):
        assert count(api, by="DAY", end_time=at(NOW - timedelta(days=1))) == 1
        assert count(api, end_time=at(NOW + timedelta(hours=1))) == 3
        roll_up(database)


def test_what_is_gone_or_never_was_counts_as_well(api: Api) -> None:
    template = api.template()
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    record(api, used(template_id=template.id, template_revision=1, model="gone"), used(template_id="never"))
    assert counts(query(api, "TEMPLATE"), "template_id") == {template.id: 1, "never": 1}
    # Its revisions know what type it was of.
    assert counts(query(api, "TEMPLATE_TYPE"), "template_type") == {template.template_type: 1, "": 1}
    assert counts(query(api, "MODEL"), "model") == {"gone": 1, "": 1}


def test_what_is_not_said_is_what_it_means(api: Api, database: Database) -> None:
    record(api, used(input_tokens=3, output_tokens=4), used(error_code="server_error"), used(success=False))
    (row,) = query(api)
    assert (row.count, row.success_count, row.token_count) == (3, 1, 7)
    ((age, ids),) = database.query(
        "select max(clock_timestamp() - time) < interval '1 minute', count(distinct id) from usage_arrivals"
    )
    assert (age, ids) == (True, 3)


def usages_of(api: Api, number: int) -> list[Usage]:
    """Answer usages of all kinds in the last 40 days."""
    chance = random.Random(4711)
    templates = [api.template() for _ in range(3)]
    users = [api.user().id, api.user().id, ""]
    return [
        used(
            template_id=(template := chance.choice(templates)).id,
            template_revision=chance.randint(0, 2),
            model=chance.choice(["gpt-a", "gpt-b", ""]),
            user_id=chance.choice(users),
            organization_id=chance.choice(["house", "annex", ""]),
            time=NOW - timedelta(days=40) * chance.random() ** 3,
            duration=Duration(seconds=chance.randint(0, 9), nanos=1000 * chance.randint(0, 999_999)),
            input_tokens=chance.randint(0, 1000),
            cached_tokens=chance.randint(0, 10),
            output_tokens=chance.randint(0, 500),
            reasoning_tokens=chance.randint(0, 100),
            success=chance.random() < 0.9,
            # In these tests it says of which type the template is.
            error_code=template.template_type,
        )
        for _ in range(number)
    ]


def expected(usages: Sequence[Usage], wanted: QueryUsageRequest, answer: QueryUsageResponse) -> list[Any]:
    """Answer what the rows must say, without the percentiles."""
    keys = sorted({key for group in wanted.group_by for key in GROUPS[UsageGroup.Name(group)[12:]]})
    sums: dict[Any, list[Usage]] = defaultdict(list)
    for usage in usages:
        values = {key: getattr(usage, "error_code" if key == "template_type" else key) for key in _KEYS}
        time = usage.time.ToDatetime(UTC)
        is_wanted = all(getattr(wanted, key) in {values[key], "", 0} for key in _KEYS)
        if is_wanted and answer.start_time.ToDatetime(UTC) <= time < answer.end_time.ToDatetime(UTC):
            hour = time.replace(minute=0, second=0, microsecond=0)
            when = {0: None, 1: None, 2: hour, 3: hour.replace(hour=0)}[wanted.granularity]
            sums[(when, *(values[key] for key in _KEYS if key in keys))].append(usage)
    return [
        (
            *key,
            len(found),
            sum(usage.success for usage in found),
            *(sum(getattr(usage, name) for usage in found) for name in _TOKENS),
            round(sum(usage.duration.ToMicroseconds() for usage in found) / len(found)),
        )
        for key, found in sorted(sums.items())
    ]


_KEYS = [*dict.fromkeys(key for keys in GROUPS.values() for key in keys)]
_TOKENS = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]

QUERIES: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    ((), {}),
    ((), {"days": 40}),
    (("MODEL",), {"days": 40, "by": "DAY"}),
    (("MODEL", "ORGANIZATION"), {"days": 33.5}),
    (("ORGANIZATION",), {"by": "HOUR", "organization_id": "house"}),
    (("TEMPLATE_TYPE",), {"days": 40, "model": "gpt-a"}),
    (("REVISION", "MODEL"), {"days": 40, "organization_id": "annex"}),
    (("TEMPLATE",), {"days": 20, "by": "DAY", "template_revision": 1}),
    (("USER",), {"days": 40}),
    (("USER", "ORGANIZATION", "MODEL"), {"days": 7, "by": "DAY"}),
    (("USER", "TEMPLATE"), {"days": 39}),
    (("USER",), {"days": 5, "by": "HOUR", "model": "gpt-b"}),
    (("MODEL",), {"days": 40, "end_time": at(NOW - timedelta(days=9, hours=5))}),
]


def test_sums_are_those_of_all_usages_however_many_are_summed_up(api: Api, database: Database) -> None:
    usages = usages_of(api, 400)
    assert record(api, *usages) == (400, 0)
    for rolled in (0, 150, 250):
        assert not rolled or roll_up(database, rolled) == rolled
        for groups, options in QUERIES:
            wanted = request(*groups, **options, page_size=1000)
            answer: QueryUsageResponse = api.usage.QueryUsage(wanted)
            keys = [key for key in _KEYS if any(key in GROUPS[group] for group in groups)]
            assert [
                (
                    row.time.ToDatetime(UTC) if row.HasField("time") else None,
                    *(getattr(row, key) for key in keys),
                    row.count,
                    row.success_count,
                    *(getattr(row, name) for name in _TOKENS),
                    row.duration_mean.ToMicroseconds(),
                )
                for row in answer.rows
            ] == expected(usages, wanted, answer), (groups, options)


@pytest.mark.parametrize(("groups", "options"), [(("TEMPLATE", "MODEL"), {}), (("MODEL",), {"days": 40, "by": "DAY"})])
def test_pages_have_all_rows_once(api: Api, database: Database, groups: Sequence[str], options: dict[str, Any]) -> None:
    record(api, *usages_of(api, 60))
    roll_up(database, 30)
    every = query(api, *groups, **options, page_size=1000)
    for size in (1, 4, len(every)):
        rows: list[UsageRow] = []
        token = ""
        for _ in range(len(every)):
            answer = api.usage.QueryUsage(request(*groups, **options, page_size=size, page_token=token))
            rows += answer.rows
            token = answer.next_page_token
            assert len(answer.rows) == size or not token
            if not token:
                break
        assert rows == list(every)
        assert not token


def usd(amount: str) -> Money:
    units, nanos = divmod(int(Decimal(amount).scaleb(9)), 10**9)
    return Money(currency_code="USD", units=units, nanos=nanos)


def test_a_cost_is_of_the_models_with_prices_and_says_of_how_much(api: Api, database: Database) -> None:
    for name, prices in {
        "all": {"input_price": usd("1.25"), "cached_input_price": usd("0.125"), "output_price": usd("10")},
        "uncached": {"input_price": usd("2"), "output_price": usd("8")},
        "half": {"input_price": usd("1")},
    }.items():
        api.models.CreateModel(CreateModelRequest(model=Model(openai_id=name, name=name, **prices)))
    tokens = {"input_tokens": 1000, "cached_tokens": 400, "output_tokens": 100}
    record(api, *(used(model=model, **tokens) for model in ("all", "uncached", "half", "unknown", "all")))
    for _ in range(2):
        rows = {row.model: (row.cost, row.priced_count) for row in query(api, "MODEL")}
        assert rows == {
            "all": (usd("0.0036"), 2),
            "uncached": (usd("0.0028"), 1),
            "half": (Money(), 0),
            "unknown": (Money(), 0),
        }
        (row,) = query(api)
        assert (row.cost, row.priced_count, row.count) == (usd("0.0064"), 3, 5)
        assert not query(api, model="half")[0].HasField("cost")
        roll_up(database)


@pytest.mark.parametrize(
    ("groups", "options"),
    [((), {"by": "HOUR"}), (("USER", "TEMPLATE"), {}), (("MODEL",), {"user_id": "u", "template_type": "t"})],
)
def test_what_is_not_kept_for_so_long_is_named(api: Api, groups: Sequence[str], options: dict[str, Any]) -> None:
    query(api, *groups, **options, days=59)
    assert invalid(fails(query, api, *groups, **options, days=62)) == {"start_time"}


def test_an_end_is_later_than_the_start(api: Api) -> None:
    assert invalid(fails(query, api, end_time=at(NOW - timedelta(days=4)))) == {"end_time"}


def test_times_are_rounded_and_the_response_says_to_what(api: Api) -> None:
    start, end = datetime(2020, 5, 5, 10, 30, tzinfo=UTC), datetime(2020, 5, 6, 10, 30, tzinfo=UTC)
    answer = api.usage.QueryUsage(QueryUsageRequest(start_time=at(start), end_time=at(end)))
    assert answer.start_time.ToDatetime(UTC) == datetime(2020, 5, 5, tzinfo=UTC)
    assert answer.end_time.ToDatetime(UTC) == datetime(2020, 5, 7, tzinfo=UTC)
    answer = api.usage.QueryUsage(request(days=1))
    assert answer.start_time.ToDatetime(UTC) == (NOW - timedelta(days=1)).replace(minute=0, second=0, microsecond=0)


@pytest.mark.parametrize("rolled", [0, 2, 4])
@pytest.mark.parametrize("way", ["DeleteUser", "delete from users", "truncate users cascade"])
def test_whoever_is_deleted_is_in_no_usage_any_more(api: Api, database: Database, rolled: int, way: str) -> None:
    users = [api.user().id for _ in range(3)]
    record(api, *(used(user_id=user) for user in [*users[:2], *users[:2], users[2], ""]))
    roll_up(database, rolled)
    if way == "DeleteUser":
        for user in users[:2]:
            api.users.DeleteUser(DeleteUserRequest(id=user))
    else:
        database.query(f"{way} where id in {tuple(users[:2])}" if way.startswith("delete") else way)
    left = {"": 6} if way.startswith("truncate") else {users[2]: 1, "": 5}
    for _ in range(2):
        assert counts(query(api, "USER"), "user_id") == left
        assert counts(query(api, "USER", "TEMPLATE"), "user_id") == left
        roll_up(database)
    for table in ("usages", "usage_arrivals", "usage_totals", "usage_events"):
        kept = str(database.query(f"select t::text from {table} t"))
        assert not any(user in kept for user in users[:2]), table
    # What still arrives is nobody's.
    record(api, used(user_id=users[0]))
    assert counts(query(api, "USER"), "user_id") == left | {"": left[""] + 1}


def test_the_many_sums_of_users_who_are_deleted_become_those_of_nobody(api: Api, database: Database) -> None:
    users = [api.user().id for _ in range(2)]
    for user in users:
        database.query(
            "insert into usage_totals select 'user', 'day', '2026-01-01', '', 0, '', 'gpt-' || n, %s, '',"
            " n, n, 0, 0, 0, 0, 0, 0, '{0}', array[n] from generate_series(1, 2500) n",
            (user,),
        )
    forgotten = [database.query("select forget_usage_of(%s, 1000)", (users[0],)) for _ in range(4)]
    assert forgotten == [[(1000,)], [(1000,)], [(500,)], [(0,)]]
    database.query("delete from users where id = any(%s)", (users,))
    sums = "select count(*), sum(count), bool_and(bucket_counts = array[count]) from usage_totals where user_id = ''"
    assert database.query(sums) == [(2500, 2500 * 2501, True)]
    assert database.query("select count(*) from usage_totals") == [(2500,)]


@pytest.fixture
def people(callers: Callers) -> tuple[dict[str, Api], str]:
    """An ADMIN and a member of an organization, a stranger and the platform's administrator, with usage; and its id."""
    apis = {name: callers.user(f"user_{name}") for name in ("admin", "member", "stranger")}
    ids = {name: api.users.GetUser(GetUserRequest(clerk_id=f"user_{name}")).id for name, api in apis.items()}
    house = apis["admin"].organization(apis["admin"].users.GetUser(GetUserRequest(id=ids["admin"])))
    platform = callers.user(PLATFORM_ADMIN)
    platform.member(house, apis["member"].users.GetUser(GetUserRequest(id=ids["member"])))
    for name, api in apis.items():
        record(api, used(model=name), *([] if name == "stranger" else [used(model=name, organization_id=house.id)]))
    record(callers.service(WRITER), used(user_id=ids["member"], organization_id=house.id, model="of a service"))
    return apis | {"platform": platform}, house.id


@pytest.mark.parametrize(
    ("caller", "alone", "in_house"),
    [
        ("admin", {"admin": 2}, {"admin": 1, "member": 1, "of a service": 1}),
        ("member", {"member": 2, "of a service": 1}, {"member": 1, "of a service": 1}),
        ("stranger", {"stranger": 1}, None),
        (
            "platform",
            {"admin": 2, "member": 2, "stranger": 1, "of a service": 1},
            {"admin": 1, "member": 1, "of a service": 1},
        ),
    ],
)
def test_callers_sum_up_what_they_may_read(
    people: tuple[dict[str, Api], str],
    database: Database,
    caller: str,
    alone: dict[str, int],
    in_house: dict[str, int] | None,
) -> None:
    apis, house = people
    api = apis[caller]
    for _ in range(2):
        assert counts(query(api, "MODEL"), "model") == alone
        if in_house is None:
            assert fails(query, api, organization_id=house).reason == "ORGANIZATION_NOT_FOUND"
        else:
            assert counts(query(api, "MODEL", organization_id=house), "model") == in_house
        roll_up(database)


def types_told(api: Api, database: Database, *templates: str, **fields: Any) -> set[str]:
    """Record a use of each of the templates alone, and answer the types that the caller then sees."""
    told = set()
    for template in templates:
        database.query("truncate usage_arrivals")
        record(api, used(template_id=template, **fields))
        told |= set(counts(query(api, "TEMPLATE", "TEMPLATE_TYPE"), "template_type"))
    return told


@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
def test_a_template_that_the_caller_does_not_read_tells_no_type(
    people: tuple[dict[str, Api], str], callers: Callers, database: Database, is_deleted: bool
) -> None:
    apis, house = people
    platform, admin, member = (apis[name] for name in ("platform", "admin", "member"))
    users = {
        name: callers.user(name).users.GetUser(GetUserRequest(clerk_id=name))
        for name in (PLATFORM_ADMIN, "user_admin", "user_member")
    }
    fields: dict[str, Any] = {"template_type": platform.type().name, "model": platform.model().openai_id}
    kind: str = fields["template_type"]
    common = platform.template(user_id=users[PLATFORM_ADMIN].id, **fields).id
    inside = admin.template(user_id=users["user_admin"].id, organization_id=house, **fields).id
    elsewhere = member.organization(users["user_member"]).id
    here, there = (
        callers.bearing(member.key(user_id=users["user_member"].id, organization_id=organization).secret)
        for organization in (house, elsewhere)
    )
    if is_deleted:
        for owner, template in ((platform, common), (admin, inside)):
            owner.templates.DeleteTemplate(DeleteTemplateRequest(id=template))
    assert types_told(apis["stranger"], database, inside, "never") == {""}
    assert types_told(there, database, inside, organization_id=elsewhere) == {""}
    assert types_told(apis["stranger"], database, common) == {kind}
    assert types_told(member, database, inside, common) == {kind}
    assert types_told(here, database, inside, common, organization_id=house) == {kind}
    # It records for anybody.
    record(callers.service(WRITER), used(template_id=inside, model="of a service, again"))
    told = {row.template_type for row in query(platform, "TEMPLATE_TYPE", model="of a service, again")}
    assert told == {kind}


@pytest.mark.once
def test_the_example_draws_what_was_used(api: Api, address: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is absent, which `make bench` installs")
    templates = [api.template(title=f"Template {number}") for number in range(10)]
    for number, template in enumerate(templates):
        fields: dict[str, Any] = {"template_id": template.id, "model": f"model-{number % 3}", "input_tokens": 100}
        record(api, *(used(time=NOW - timedelta(days=number % 2), **fields) for _ in range(number + 1)))
    picture = tmp_path / "usage.png"
    done = subprocess.run(
        [sys.executable, ROOT / "examples/python/plot_usage.py", picture, "3"],
        env={"TEMPLATES_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"55 usages: {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
