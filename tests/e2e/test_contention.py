"""Sixteen clients that want the same rows at the same time."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import RpcError, StatusCode

from omniflo.templates.v1.organization_pb2 import Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import ListMembersRequest, RemoveMemberRequest, UpdateMemberRequest
from omniflo.templates.v1.selection_service_pb2 import (
    ResolutionReason,
    ResolveTemplateRequest,
    SetSelectionRequest,
)
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, UpdateTemplateRequest
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest
from tests.conftest import Api, Callers, Database, Failure
from tests.e2e.clients import at_once, beside, say
from tests.scale import EDITS, ROLES, SWITCHES

pytestmark = pytest.mark.timed

CLIENTS = 16


def at_once_in(address: str, work: Callable[[int, Api], None]) -> float:
    """Do the work in all clients and answer how many seconds it took."""
    start = time.monotonic()
    at_once(address, CLIENTS, work)
    return time.monotonic() - start


@pytest.mark.soak
def test_switches_of_a_default_at_once_all_succeed_and_every_reader_sees_exactly_one(
    api: Api, address: str, url: str
) -> None:
    user, type_, model = api.user(), api.type(), api.model()
    ids = [
        api.template(user_id=user.id, template_type=type_.name, model=model.openai_id, is_default=number == 0).id
        for number in range(CLIENTS)
    ]
    looker = Database(url)

    def switch(number: int, client: Api) -> None:
        turns = random.Random(number)
        for _ in range(SWITCHES):
            body = Template(id=turns.choice(ids), is_default=True)
            answer = client.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
            assert (answer.id, answer.is_default) == (body.id, True)

    def count(_: Api) -> int:
        ((defaults,),) = looker.query("select count(*) from templates where is_default")
        return int(defaults)

    def resolve(client: Api) -> str:
        # Without a default this is refused, and the test fails.
        answer = client.selections.ResolveTemplate(
            ResolveTemplateRequest(user_id=user.id, template_type=type_.name), timeout=10
        )
        assert answer.reason == ResolutionReason.RESOLUTION_REASON_DEFAULT
        assert answer.template.is_default
        return answer.template.id

    with beside(address, count) as counts, beside(address, resolve) as resolved:
        seconds = at_once_in(address, switch)
    looker.close()
    say(f"{CLIENTS * SWITCHES / seconds:.0f} switches/s beside {len(counts)} and {len(resolved)} reads")
    assert set(counts) == {1}
    assert len(counts) > SWITCHES
    assert len(set(resolved)) > CLIENTS / 2, "the reader saw the default move"


@pytest.mark.soak
def test_selections_at_once_all_succeed_and_leave_one_row_for_each_user_and_type(
    api: Api, address: str, database: Database
) -> None:
    users, types, model = [api.user() for _ in range(4)], [api.type() for _ in range(2)], api.model()
    templates = [
        api.template(user_id=users[0].id, template_type=type_.name, model=model.openai_id)
        for type_ in types
        for _ in range(4)
    ]
    lock = threading.Lock()
    written: Counter[tuple[str, str]] = Counter()

    def select(number: int, client: Api) -> None:
        turns = random.Random(number)
        for _ in range(SWITCHES):
            user, template = turns.choice(users), turns.choice(templates)
            answer = client.selections.SetSelection(
                SetSelectionRequest(user_id=user.id, template_type=template.template_type, template_id=template.id)
            )
            assert answer.template_id == answer.template.id == template.id
            with lock:
                written[user.id, template.template_type] += 1

    seconds = at_once_in(address, select)
    say(f"{CLIENTS * SWITCHES / seconds:.0f} selections/s")
    assert written.total() == CLIENTS * SWITCHES
    rows = database.query("""
        select s.user_id, tt.name, count(*)
        from user_template_selections s join template_types tt on tt.id = s.template_type_id
        group by 1, 2
    """)
    assert {(user, name): count for user, name, count in rows} == dict.fromkeys(written, 1)
    assert len(written) == len(users) * len(types)


@pytest.mark.soak
def test_of_16_editors_with_etags_every_loser_is_told_and_no_edit_is_lost(api: Api, address: str) -> None:
    id = api.template(description="0").id

    def edit(_: int, client: Api) -> int:
        losses = wins = 0
        while wins < EDITS:
            read = client.templates.GetTemplate(GetTemplateRequest(id=id))
            body = Template(id=id, etag=read.etag, description=str(int(read.description) + 1))
            mask = FieldMask(paths=["description"])
            try:
                client.templates.UpdateTemplate(UpdateTemplateRequest(template=body, update_mask=mask))
            except RpcError as error:
                failure = Failure(error)
                assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
                assert failure.metadata["etag"] != read.etag
                losses += 1
            else:
                wins += 1
        return losses

    losses = at_once(address, CLIENTS, edit)
    say(f"{CLIENTS * EDITS} edits, {sum(losses)} refused")
    assert sum(losses) > 0, "the editors met"
    assert api.templates.GetTemplate(GetTemplateRequest(id=id)).description == str(CLIENTS * EDITS)


@pytest.mark.soak
def test_switches_in_organizations_and_platform_wide_at_once_all_succeed_and_leave_one_default_each(
    api: Api, address: str, url: str
) -> None:
    user, type_, model = api.user(), api.type(), api.model()
    here, there = (api.organization(user).id for _ in range(2))
    ids = [
        api.template(
            user_id=user.id,
            organization_id=place,
            template_type=type_.name,
            model=model.openai_id,
            is_default=number == 0,
        ).id
        for place in ("", here, there)
        for number in range(4)
    ]
    looker = Database(url)

    def switch(number: int, client: Api) -> None:
        turns = random.Random(number)
        for _ in range(SWITCHES):
            body = Template(id=turns.choice(ids), is_default=True)
            answer = client.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
            assert (answer.id, answer.is_default) == (body.id, True)

    def count(_: Api) -> dict[str, int]:
        rows = looker.query("select scope, count(*) from templates where is_default group by scope")
        return {str(scope): int(number) for scope, number in rows}

    def resolve(client: Api) -> str:
        request = ResolveTemplateRequest(user_id=user.id, organization_id=here, template_type=type_.name)
        answer = client.selections.ResolveTemplate(request, timeout=10)
        assert answer.reason == ResolutionReason.RESOLUTION_REASON_ORGANIZATION_DEFAULT
        assert answer.template.organization_id == here
        return answer.template.id

    with beside(address, count) as counts, beside(address, resolve) as resolved:
        seconds = at_once_in(address, switch)
    looker.close()
    say(f"{CLIENTS * SWITCHES / seconds:.0f} switches/s beside {len(counts)} and {len(resolved)} reads")
    assert all(seen == {"": 1, here: 1, there: 1} for seen in counts)
    assert len(counts) > SWITCHES
    assert len(set(resolved)) == 4, "the reader saw the default move"


ADMIN = OrganizationRole.ORGANIZATION_ROLE_ADMIN
MEMBER = OrganizationRole.ORGANIZATION_ROLE_MEMBER
ROUNDS = 12
WAYS = 3
"""Of an ADMIN to be none any more."""
DELETED = 0
"""The one in which the last may go."""


Refusal = tuple[StatusCode, str]


def refusal(change: Callable[..., object], *arguments: object) -> Refusal | None:
    """Make a change and answer why it was refused; None when it was made."""
    try:
        change(*arguments)
    except RpcError as error:
        failure = Failure(error)
        return failure.code, failure.reason
    return None


LAST_ADMIN = (StatusCode.FAILED_PRECONDITION, "LAST_ADMIN")
DENIED = (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


def set_role(client: Api, id: str, role: OrganizationRole.ValueType) -> Member:
    return client.organizations.UpdateMember(UpdateMemberRequest(member=Member(id=id, role=role)))


def leave(client: Api, member: Member, way: int) -> object:
    """End that a member is an ADMIN in one of three ways."""
    match way:
        case 0:
            return client.users.DeleteUser(DeleteUserRequest(id=member.user_id))
        case 1:
            return client.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
        case _:
            return set_role(client, member.id, MEMBER)


def admins(database: Database, organization: Organization) -> int:
    sql = "select count(*) from organization_members where organization_id = %s and role = 'admin'"
    return int(database.query(sql, (organization.id,))[0][0])


@pytest.mark.soak
@pytest.mark.parametrize("is_known", [False, True], ids=["anonymous", "by their keys"])
def test_16_admins_who_change_each_other_never_leave_an_organization_without_one(
    api: Api, callers: Callers, address: str, url: str, is_known: bool
) -> None:
    users = [api.user() for _ in range(CLIENTS)]
    organization = api.organization(users[0])
    for user in users[1:]:
        api.member(organization, user, "ADMIN")
    secrets = [api.key(user_id=user.id).secret for user in users]
    everybody = ListMembersRequest(organization_id=organization.id)
    looker = Database(url)

    def change(number: int, client: Api) -> Counter[Refusal | None]:
        turns = random.Random(number)
        caller = callers.bearing(secrets[number]) if is_known else client
        outcomes: Counter[Refusal | None] = Counter()
        for _ in range(ROLES):
            members = caller.organizations.ListMembers(everybody).members
            # Mostly those who are ADMINs are demoted, so that there is one left again and again.
            role = turns.choices([ADMIN, MEMBER], [1, 15])[0]
            id = turns.choice([member.id for member in members if ADMIN in {member.role, role}])
            outcomes[refusal(set_role, caller, id, role)] += 1
        return outcomes

    def read(client: Api) -> int:
        members = client.organizations.ListMembers(everybody, timeout=10).members
        assert len(members) == CLIENTS
        return sum(member.role == ADMIN for member in members)

    with beside(address, lambda _: admins(looker, organization)) as counts, beside(address, read) as seen:
        outcomes = sum(at_once(address, CLIENTS, change), Counter[Refusal | None]())
    say(f"{outcomes} beside {len(counts)} and {len(seen)} reads, with {min(counts)} to {max(counts)} ADMINs")
    assert outcomes.total() == CLIENTS * ROLES
    # Of those who are known, the last one alone may still be told.
    assert outcomes.keys() - {LAST_ADMIN} == {None, *([DENIED] if is_known else [])}
    assert is_known or outcomes[LAST_ADMIN], "it came down to the last one"
    assert min(counts) >= 1
    assert min(seen) >= 1
    assert admins(looker, organization) >= 1
    looker.close()


def test_of_16_admins_who_all_leave_at_once_one_has_to_stay_unless_it_is_deleted(
    api: Api, address: str, url: str
) -> None:
    looker = Database(url)
    rounds: list[tuple[Organization, list[Member]]] = []
    for _ in range(ROUNDS):
        users = [api.user() for _ in range(CLIENTS)]
        organization, other = api.organization(users[0]), api.organization()
        first = api.organizations.ListMembers(ListMembersRequest(organization_id=organization.id)).members[0]
        rounds.append((organization, [first, *(api.member(organization, user, "ADMIN") for user in users[1:])]))
        # Who is deleted may have more than one organization to lock.
        for user in users[::2]:
            api.member(other, user, "ADMIN")

    def way(number: int, turn: int) -> int:
        # In the first rounds all do the same, and then each something else.
        return turn if turn < WAYS else (turn + number) % WAYS

    def leave_all(number: int, client: Api) -> list[Refusal | None]:
        return [refusal(leave, client, members[number], way(number, turn)) for turn, (_, members) in enumerate(rounds)]

    def count(_: Api) -> int:
        return min(admins(looker, organization) for organization, _ in rounds[1:WAYS])

    with beside(address, count) as counts:
        outcomes = at_once(address, CLIENTS, leave_all)
    assert min(counts) >= 1
    for turn, (organization, _) in enumerate(rounds):
        by_way = {(way(number, turn), outcome[turn]) for number, outcome in enumerate(outcomes)}
        assert {outcome for how, outcome in by_way if how == DELETED} <= {None}
        assert {outcome for _, outcome in by_way} <= {None, LAST_ADMIN}
        if turn == DELETED:
            assert looker.query("select from organizations where id = %s", (organization.id,)) == []
        elif turn < WAYS:
            assert Counter(outcome[turn] for outcome in outcomes) == {None: CLIENTS - 1, LAST_ADMIN: 1}
            assert admins(looker, organization) == 1
    looker.close()
