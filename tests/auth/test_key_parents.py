"""A key makes and extends nothing that outlives it: what it made ends with it."""

import itertools
import time
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    GetApiKeyRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.organization_service_pb2 import CreateOrganizationRequest
from service.identity.identities import Identities
from service.models import api_keys as model
from tests.auth.answers import REFUSED, SECONDS, is_let_in, knock
from tests.conftest import WRITER, Api, Callers, Database, fails
from tests.contract.tables import contents
from tests.e2e.serving import eventually

DENIED = ("PERMISSION_DENIED", "PERMISSION_DENIED")
UNAUTHENTICATED = ("UNAUTHENTICATED", "UNAUTHENTICATED")
READ = ApiKeyScope.API_KEY_SCOPE_READ

numbers = itertools.count(1)


@pytest.fixture
def owner(callers: Callers) -> Api:
    """A user with a session."""
    return callers.user(f"user_with_parents_{next(numbers)}")


@pytest.fixture
def quick(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered of callers."""
    monkeypatch.setattr(identities, "trust_seconds", 0.0)


def in_seconds(seconds: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(int((time.time() + seconds) * 1e6))
    return moment


def create(api: Api, **fields: Any) -> CreateApiKeyResponse:
    body = ApiKey(**{"name": "A key", "scope": ApiKeyScope.API_KEY_SCOPE_WRITE, **fields})
    return api.keys.CreateApiKey(CreateApiKeyRequest(api_key=body))


def get(api: Api, made: CreateApiKeyResponse) -> ApiKey:
    return api.keys.GetApiKey(GetApiKeyRequest(id=made.api_key.id))


def revoke(api: Api, made: CreateApiKeyResponse) -> ApiKey:
    return api.keys.RevokeApiKey(RevokeApiKeyRequest(id=made.api_key.id)).api_key


def expire(api: Api, made: CreateApiKeyResponse, moment: Timestamp | None) -> ApiKey:
    """Set when a key expires, or that it never does."""
    body = ApiKey(id=made.api_key.id, expire_time=moment)
    return api.keys.UpdateApiKey(UpdateApiKeyRequest(api_key=body, update_mask=FieldMask(paths=["expire_time"])))


def refused(call: Any, *arguments: Any) -> tuple[str, str]:
    failure = fails(call, *arguments)
    return failure.code.name, failure.reason


def chain(callers: Callers, owner: Api, length: int) -> list[CreateApiKeyResponse]:
    """Make a key, a key with it, a key with that one, and so on."""
    made = [create(owner)]
    while len(made) < length:
        made.append(create(callers.bearing(made[-1].secret)))
    return made


def test_a_key_names_the_key_that_it_was_made_with(callers: Callers, owner: Api) -> None:
    first, second, third = chain(callers, owner, 3)
    assert first.api_key.parent_id == ""
    assert second.api_key.parent_id == first.api_key.id
    assert third.api_key.parent_id == second.api_key.id
    assert get(owner, third) == third.api_key
    service = callers.service(WRITER, user=first.api_key.user_id)
    assert create(service).api_key.parent_id == ""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ended", [0, 1, 2])
@pytest.mark.parametrize("way", ["revoked", "expired"])
def test_a_key_ends_with_every_key_above_it_and_with_none_below(
    callers: Callers, owner: Api, ended: int, way: str
) -> None:
    made = chain(callers, owner, 4)
    beside = create(owner)
    if way == "revoked":
        revoke(owner, made[ended])
    else:
        expire(owner, made[ended], in_seconds(-1))
    open_ = [is_let_in(callers.bearing(key.secret)) for key in made]
    assert open_ == [number < ended for number in range(4)]
    assert knock(callers.bearing(made[3].secret)) == REFUSED
    assert is_let_in(callers.bearing(beside.secret))


def test_a_remembered_key_ends_with_its_parent(callers: Callers, owner: Api) -> None:
    parent, child = chain(callers, owner, 2)
    assert is_let_in(callers.bearing(child.secret))
    revoke(owner, parent)
    eventually(lambda: not is_let_in(callers.bearing(child.secret)), within=SECONDS)


def test_a_remembered_key_ends_when_its_parent_expires(
    callers: Callers, owner: Api, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = chain(callers, owner, 2)
    ends = in_seconds(1.5)
    expire(owner, parent, ends)
    monkeypatch.setattr(identities, "trust_seconds", 60.0)
    identities.forget()
    assert is_let_in(callers.bearing(child.secret))
    eventually(lambda: not is_let_in(callers.bearing(child.secret)), within=SECONDS)
    assert 0 <= time.time() - ends.ToNanoseconds() / 1e9 < 2


def test_a_key_expires_no_later_than_the_one_that_it_is_made_with(callers: Callers, owner: Api) -> None:
    ends = in_seconds(600)
    parent = create(owner, expire_time=ends)
    program = callers.bearing(parent.secret)
    assert create(program).api_key.expire_time == ends
    sooner = in_seconds(60)
    assert create(program, expire_time=sooner).api_key.expire_time == sooner
    failure = fails(create, program, expire_time=in_seconds(601))
    assert (failure.code.name, failure.reason) == DENIED
    assert get(owner, parent).expire_time == ends


@pytest.mark.usefixtures("quick")
def test_a_key_whose_parent_ends_sooner_than_itself_makes_none_that_lasts_longer(callers: Callers, owner: Api) -> None:
    parent, child = chain(callers, owner, 2)
    ends = in_seconds(600)
    expire(owner, parent, ends)
    program = callers.bearing(child.secret)
    assert create(program).api_key.expire_time == ends
    assert refused(expire, program, child, in_seconds(601)) == DENIED
    # It has no end of its own so far, and may get none that is later than its parent's.
    assert not expire(program, child, None).HasField("expire_time")
    assert expire(program, child, ends).expire_time == ends


def test_a_key_does_not_extend_itself(callers: Callers, owner: Api, database: Database) -> None:
    made = create(owner, expire_time=in_seconds(600))
    program = callers.bearing(made.secret)
    before = contents(database)["api_keys"]
    for moment in (None, in_seconds(601), in_seconds(999_999)):
        assert refused(expire, program, made, moment) == DENIED
    assert contents(database)["api_keys"] == before
    sooner = in_seconds(60)
    assert expire(program, made, sooner).expire_time == sooner
    assert refused(expire, program, made, in_seconds(600)) == DENIED
    everything = UpdateApiKeyRequest(api_key=ApiKey(id=made.api_key.id, name="New"), update_mask=FieldMask(paths=["*"]))
    assert refused(program.keys.UpdateApiKey, everything) == DENIED
    named = UpdateApiKeyRequest(api_key=ApiKey(id=made.api_key.id, name="New"))
    assert program.keys.UpdateApiKey(named).expire_time == sooner
    assert not expire(owner, made, None).HasField("expire_time")


@pytest.mark.usefixtures("quick")
def test_a_key_extends_those_that_it_made_up_to_its_own_end(callers: Callers, owner: Api) -> None:
    ends = in_seconds(600)
    parent = create(owner, expire_time=ends)
    program = callers.bearing(parent.secret)
    child = create(program, expire_time=in_seconds(60))
    grandchild = create(callers.bearing(child.secret))
    assert refused(expire, program, child, in_seconds(601)) == DENIED
    assert refused(expire, program, grandchild, None) == DENIED
    for made in (child, grandchild):
        assert expire(program, made, ends).expire_time == ends
    assert refused(expire, callers.bearing(child.secret), parent, None) == DENIED


@pytest.mark.usefixtures("quick")
def test_a_key_gives_no_longer_life_to_a_key_that_it_did_not_make(callers: Callers, owner: Api) -> None:
    """What it extended would live on after it is revoked."""
    parent, child = chain(callers, owner, 2)
    over = create(owner, expire_time=in_seconds(-60))
    ending = create(owner, expire_time=in_seconds(600))
    for program in (callers.bearing(parent.secret), callers.bearing(child.secret)):
        assert refused(expire, program, over, None) == DENIED
        assert refused(expire, program, over, in_seconds(1)) == DENIED
        assert refused(expire, program, ending, in_seconds(601)) == DENIED
    assert expire(callers.bearing(child.secret), over, in_seconds(-3600)).HasField("expire_time")
    # To end one sooner is no more than to revoke it.
    assert revoke(callers.bearing(child.secret), ending).HasField("revoke_time")


@pytest.mark.usefixtures("quick")
def test_a_key_gets_no_secret_but_of_itself_and_of_those_that_it_made(
    callers: Callers, owner: Api, database: Database
) -> None:
    """With the secret of another it would outlive its own end."""
    parent, child, grandchild = chain(callers, owner, 3)
    beside = create(owner, expire_time=in_seconds(60))
    program = callers.bearing(child.secret)
    before = contents(database)["api_keys"]
    for other in (parent, beside):
        assert refused(program.keys.RotateApiKey, RotateApiKeyRequest(id=other.api_key.id)) == DENIED
    assert contents(database)["api_keys"] == before
    for made in (grandchild, child):
        rotated = program.keys.RotateApiKey(RotateApiKeyRequest(id=made.api_key.id))
        assert rotated.secret
        assert rotated.api_key.parent_id == made.api_key.parent_id
        assert is_let_in(callers.bearing(rotated.secret))
    revoke(owner, parent)
    assert knock(callers.bearing(rotated.secret)) == REFUSED


@pytest.mark.usefixtures("quick")
def test_a_key_that_rotates_itself_keeps_its_end(callers: Callers, owner: Api) -> None:
    ends = in_seconds(600)
    made = create(owner, expire_time=ends)
    rotated = callers.bearing(made.secret).keys.RotateApiKey(RotateApiKeyRequest(id=made.api_key.id))
    assert rotated.api_key.expire_time == ends
    assert is_let_in(callers.bearing(rotated.secret))
    assert knock(callers.bearing(made.secret)) == REFUSED


@pytest.mark.usefixtures("quick")
def test_a_key_makes_none_that_is_wider(callers: Callers, owner: Api) -> None:
    request = CreateOrganizationRequest(organization=Organization(name="Here"))
    here, there = (owner.organizations.CreateOrganization(request).id for _ in range(2))
    limited = create(owner, organization_id=here)
    program = callers.bearing(limited.secret)
    child = create(program, organization_id=here)
    assert child.api_key.parent_id == limited.api_key.id
    assert refused(create, program) == DENIED
    assert fails(create, program, organization_id=there).reason == "ORGANIZATION_NOT_FOUND"
    assert refused(create, callers.bearing(create(owner, scope=READ).secret)) == DENIED


def test_a_key_that_has_ended_but_is_still_remembered_makes_none(
    callers: Callers, owner: Api, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = chain(callers, owner, 2)
    monkeypatch.setattr(identities, "trust_seconds", 60.0)
    program = callers.bearing(child.secret)
    assert is_let_in(program)
    revoke(owner, parent)
    assert refused(create, program) == UNAUTHENTICATED
    assert refused(program.keys.RotateApiKey, RotateApiKeyRequest(id=child.api_key.id)) == UNAUTHENTICATED
    assert refused(expire, program, child, in_seconds(60)) == UNAUTHENTICATED


def test_there_is_an_end_to_keys_of_keys(callers: Callers, owner: Api) -> None:
    made = chain(callers, owner, model.MAX_GENERATIONS)
    last = callers.bearing(made[-1].secret)
    assert is_let_in(last)
    assert refused(create, last) == DENIED


@pytest.mark.usefixtures("quick")
def test_a_retry_gets_its_answer_and_no_longer_life(callers: Callers, owner: Api) -> None:
    ends = in_seconds(600)
    parent = create(owner, expire_time=ends)
    program = callers.bearing(parent.secret)
    body = ApiKey(name="A key", scope=ApiKeyScope.API_KEY_SCOPE_WRITE)
    request = CreateApiKeyRequest(api_key=body, request_id="order-17")
    first = program.keys.CreateApiKey(request)
    assert program.keys.CreateApiKey(request).api_key == first.api_key
    # What its owner did with a session, a key may not repeat where it may not do it.
    longer = UpdateApiKeyRequest(
        api_key=ApiKey(id=parent.api_key.id, expire_time=in_seconds(900)), request_id="order-18"
    )
    beside = RotateApiKeyRequest(id=create(owner).api_key.id, request_id="order-19")
    owner.keys.UpdateApiKey(longer)
    owner.keys.RotateApiKey(beside)
    expire(owner, parent, ends)
    assert refused(program.keys.UpdateApiKey, longer) == DENIED
    assert refused(program.keys.RotateApiKey, beside) == DENIED
    assert owner.keys.UpdateApiKey(longer).expire_time == longer.api_key.expire_time
