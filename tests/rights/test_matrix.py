"""That every method does for every caller what the table says, whatever its fields name."""

from itertools import cycle, islice

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.contract.methods import METHODS
from tests.rights.cells import METHOD, naming, request, thing
from tests.rights.requests import PREPARATIONS, REQUESTS
from tests.rights.table import KINDS, LISTS, NAMES_NOTHING, OF_ANYBODY, OF_THE_PLATFORM, PLACES, ROWS, Row
from tests.rights.world import ADMINISTRATORS, CALLERS, STRANGERS, Answer, Caller, World
from tests.scale import IS_SOAK

MISSING = [row for row in ROWS if row.thing == "missing"]
FIRST = list({row.method: row for row in reversed(ROWS)}.values())
"""One row of each method."""

callers = pytest.mark.parametrize("caller", CALLERS.values(), ids=lambda caller: caller.name)


def foreign(caller: Caller, row: Row) -> list[str]:
    """Answer things that are there, and that are not for the caller to read; there are none of what everybody reads."""
    others = [name for name in ("house", "foreign", "annex") if name not in caller.organizations]
    reads_users = caller.service and not caller.user
    match row.kind:
        case "user":
            return [] if reads_users and row.field == "id" else ["recluse", "deputy"]
        case "clerk_id":
            return [] if reads_users else ["clerk-recluse", "clerk-deputy"]
        case "organization":
            may_ask = caller.name in ADMINISTRATORS and row.method in {"AddMember", "ListChanges", "WatchChanges"}
            return [] if may_ask or (row.method == "WatchChanges" and reads_users) else others
        case "template":
            return [f"{name}-selected" for name in others]
        case "member":
            return [f"{name}-deputy" for name in others]
        case "record":
            return ["wide-of-recluse", *(f"{name}-of-deputy" for name in others)]
        case "invitation":
            return ["guild-recluse", *(f"{name}-guest" for name in others)]
        case "key":
            return ["keyrecluse", *(["keyadminannex", "keyadmin"] if caller.is_limited else [])]
        case "":
            return []
    raise AssertionError(f"say here which things of the kind {row.kind} are foreign")


def attempt(world: World, caller: Caller, row: Row, named: str) -> Answer:
    """Make the call of a row in the world as it is at first, and answer what came of it.

    It tells nobody what is hidden. What is refused or only reads changes nothing; what reads is looked at once a row.
    """
    world.renew()
    if row.method in PREPARATIONS:
        world.prepare(PREPARATIONS[row.method])
    made, method = request(caller, row, named), METHOD[row.method]
    answer = world.call(caller, method, made)
    if answer.code == "OK" and not method.is_read:
        world.has_changed()
    elif not method.is_read:
        assert world.is_unchanged()
    told = str(made).lower()
    # Who may audit something reads all that has changed of it: see test_watch.py.
    hidden = [] if row.method == "ListChanges" else caller.hidden()
    leaked = [word for word in hidden if word in answer.text and word not in told]
    assert not leaked, answer
    return answer


def test_every_method_and_every_field_that_names_a_thing_has_a_row() -> None:
    fields = {(method.name, field) for method in METHODS for field in naming(method)}
    rows = {(row.method, row.field) for row in ROWS if row.field != "-"} | set(NAMES_NOTHING)
    assert rows == fields, "on the left: what tests/rights/table.py has rows of"
    assert {row.method for row in ROWS} == set(METHOD), "on the left: what tests/rights/table.py has rows of"
    assert set(REQUESTS) == set(METHOD), "on the left: what tests/rights/requests.py has"


def test_no_row_is_about_a_field_that_names_nothing() -> None:
    assert not {(row.method, row.field) for row in ROWS} & set(NAMES_NOTHING)


def test_every_field_that_names_a_thing_has_a_row_for_a_missing_one() -> None:
    untried = {(row.method, row.field) for row in ROWS if row.field != "-"} - {
        (row.method, row.field) for row in MISSING
    }
    assert not untried, "tests/rights/table.py has no row with `missing` of these"


def test_what_is_not_found_is_of_a_kind() -> None:
    reasons = {reason for row in ROWS for code, reason in row.outcomes.values() if code == "NOT_FOUND"}
    assert reasons - KINDS.keys() == OF_THE_PLATFORM, "add it to KINDS in tests/rights/table.py if some are foreign"
    assert {*KINDS.values()} == {*PLACES, "user", "clerk_id"}, "add it to PLACES in tests/rights/table.py"


def test_every_field_that_names_a_thing_has_a_row_for_each_place_of_the_thing() -> None:
    things: dict[tuple[str, str], list[str]] = {}
    for row in ROWS:
        things.setdefault((row.method, row.field), []).append(row.thing)
    untried = [
        f"{row.method}({row.field}): no row names a thing with `{place}` in its id"
        for row in MISSING
        for place in PLACES.get(row.kind, ())
        if not any(place in thing for thing in things[row.method, row.field])
    ]
    assert not untried, "\n".join(untried)


def test_no_row_stands_twice() -> None:
    names = [str(row) for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_caller_may_do_what_the_table_says(world: World, row: Row) -> None:
    answers = {name: attempt(world, caller, row, thing(caller, row)) for name, caller in CALLERS.items()}
    assert {name: (answer.code, answer.reason) for name, answer in answers.items()} == row.outcomes
    assert world.is_unchanged() or not METHOD[row.method].is_read


@pytest.mark.soak
@pytest.mark.parametrize("row", [row for row in MISSING if (row.method, row.field) not in OF_ANYBODY], ids=str)
def test_what_is_foreign_is_answered_as_what_is_missing(world: World, row: Row) -> None:
    for number, caller in enumerate(CALLERS.values()):
        expected = attempt(world, caller, row, "missing").about("missing")
        things = foreign(caller, row)
        # Each of them by some of the callers, and by all in `make soak`.
        for named in things if IS_SOAK else islice(cycle(things), number, number + 1):
            assert attempt(world, caller, row, named).about(named) == expected, caller
    assert world.is_unchanged()


@pytest.mark.parametrize("caller", STRANGERS, ids=lambda caller: caller.name)
@pytest.mark.parametrize("row", FIRST, ids=lambda row: row.method)
def test_whoever_has_no_identity_is_let_into_nothing(world: World, caller: Caller, row: Row) -> None:
    answer = attempt(world, caller, row, thing(caller, row))
    assert (answer.code, answer.reason, answer.metadata) == ("UNAUTHENTICATED", "UNAUTHENTICATED", ())
    assert world.is_unchanged()


@callers
@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_what_the_caller_may_read_and_nothing_else(world: World, caller: Caller, name: str) -> None:
    answer = world.call(caller, METHOD[name], METHOD[name].request())
    if answer.code == "OK":
        (rows, _) = METHOD[name].response.DESCRIPTOR.fields
        ids = [row.id for row in getattr(answer.response, rows.name)]
        assert sorted(ids) == sorted(LISTS[name](caller))
    else:
        assert caller.service
        assert not caller.user


@pytest.mark.parametrize(
    ("method", "field"),
    [names for names, why in NAMES_NOTHING.items() if why.endswith("ignored")],
    ids=str,
)
def test_a_field_that_is_ignored_names_nothing(world: World, method: str, field: str) -> None:
    row = next(row for row in ROWS if row.method == method)
    callers_of_it = (caller for name, caller in CALLERS.items() if row.outcomes[name][0] == "OK")
    caller = next(caller for caller in callers_of_it if "foreign" not in caller.organizations)
    made = request(caller, row, thing(caller, row))
    naming(METHOD[method])[field].put(made, "foreign")
    answer = world.call(caller, METHOD[method], made)
    world.has_changed()
    assert answer.code == "OK"
    assert '"foreign"' not in answer.text


def test_health_is_told_to_everybody(world: World) -> None:
    stub = health_pb2_grpc.HealthStub(world.api(STRANGERS[0]).channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
