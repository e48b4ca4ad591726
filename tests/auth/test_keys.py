"""API keys as credentials: which count, from when, until when, and for whom."""

import itertools
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
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
from omniflo.templates.v1.organization_pb2 import Member, Organization
from omniflo.templates.v1.organization_service_pb2 import (
    CreateOrganizationRequest,
    GetOrganizationRequest,
    RemoveMemberRequest,
)
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, ListUsersRequest, ProvisionUserRequest
from service.database.handle import LOCK_SECONDS
from service.database.handle import database as handle
from service.identity.identities import Identities
from tests.auth.answers import REFUSED, SECONDS, Refusal, is_let_in, knock, refusal, who
from tests.auth.servers import Served
from tests.clerk_stand_in import Clerk
from tests.conftest import WRITER, Api, Callers, Database, fails
from tests.e2e.serving import eventually

EVERYWHERE_SECONDS = 5.0
"""Within which a key that has ended is refused by every process."""

numbers = itertools.count(1)


def create(api: Api, **fields: Any) -> CreateApiKeyResponse:
    body = ApiKey(**{"name": "A key", "scope": ApiKeyScope.API_KEY_SCOPE_WRITE, **fields})
    return api.keys.CreateApiKey(CreateApiKeyRequest(api_key=body))


def user_id(api: Api) -> str:
    (user,) = api.users.ListUsers(ListUsersRequest()).users
    return str(user.id)


@pytest.fixture
def owner(callers: Callers) -> Api:
    """A user with a session."""
    return callers.user(f"user_with_keys_{next(numbers)}")


@pytest.fixture
def quick(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered of callers."""
    monkeypatch.setattr(identities, "trust_seconds", 0.0)


def in_seconds(seconds: float) -> Timestamp:
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return at


def checked(text: str) -> str:
    """Answer a made-up key with the checksum that it needs to be looked up."""
    body = text.removeprefix("omf_")
    return f"{text}{zlib.crc32(body.encode()):08x}"


def split(secret: str) -> tuple[str, str]:
    """Answer the id of a key and its secret, without the checksum."""
    _, id, rest = secret.split("_")
    return id, rest[:-8]


def test_a_key_is_its_user(callers: Callers, owner: Api) -> None:
    made = create(owner)
    key = callers.bearing(made.secret)
    assert user_id(key) == made.api_key.user_id == user_id(owner)
    assert fails(key.keys.GetApiKey, GetApiKeyRequest(id="nothing")).reason == "API_KEY_NOT_FOUND"


MALFORMED: dict[str, Callable[[str, str, str], str]] = {
    "a wrong checksum": lambda key, secret, sum_: f"omf_{key}_{secret}{int(sum_, 16) ^ 1:08x}",
    "one letter of the secret": lambda key, secret, sum_: (
        f"omf_{key}_{'0' if secret[0] != '0' else '1'}{secret[1:]}{sum_}"
    ),
    "one letter of the id": lambda key, secret, sum_: f"omf_{'0' if key[0] != '0' else '1'}{key[1:]}_{secret}{sum_}",
    "no checksum": lambda key, secret, _: f"omf_{key}_{secret}",
    "a checksum of the secret alone": lambda key, secret, _: f"omf_{key}_{secret}{zlib.crc32(secret.encode()):08x}",
    "upper case": lambda key, secret, sum_: f"omf_{key}_{secret.upper()}{sum_}",
    "a checksum in upper case": lambda key, secret, _: f"omf_{key}_{secret}ABCDEF01",
    "another prefix": lambda key, secret, sum_: f"OMF_{key}_{secret}{sum_}",
    "no id": lambda _, secret, __: checked(f"omf__{secret}"),
    "no secret": lambda key, _, __: checked(f"omf_{key}_"),
    "a secret that is too long": lambda key, secret, _: checked(f"omf_{key}_{secret}00"),
    "a space after it": lambda key, secret, sum_: f"omf_{key}_{secret}{sum_} ",
    "an id with a quote": lambda _, secret, __: checked(f"omf_'or'_{secret}"),
    "the prefix": lambda *_: "omf_",
}


@pytest.mark.parametrize("malformed", MALFORMED)
def test_what_cannot_be_a_key_is_refused_without_asking_the_database(
    callers: Callers, owner: Api, monkeypatch: pytest.MonkeyPatch, malformed: str
) -> None:
    secret = create(owner).secret
    id, text = split(secret)
    asked = []
    execute = handle.execute_sql

    def counting(*arguments: Any, **options: Any) -> Any:
        # Others ask as well: the thread that watches health.
        if threading.current_thread().name.startswith("call"):
            asked.append(arguments[0])
        return execute(*arguments, **options)

    monkeypatch.setattr(handle, "execute_sql", counting)
    bad = callers.sending(("authorization", f"Bearer {MALFORMED[malformed](id, text, secret[-8:])}"))
    assert knock(bad) == REFUSED
    assert asked == []
    # One that could be a key is looked up.
    assert knock(callers.bearing(checked(f"omf_{id}_{'0' * 64}"))) == REFUSED
    assert len(asked) > 0


@pytest.mark.usefixtures("quick")
def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(callers: Callers, owner: Api) -> None:
    answers = dict[str, Refusal]()
    first = create(owner)
    id, secret = split(first.secret)
    answers["a wrong secret"] = knock(callers.bearing(checked(f"omf_{id}_{'0' * 64}")))
    answers["an unknown id"] = knock(callers.bearing(checked(f"omf_nothing_{secret}")))
    answers["the secret of another"] = knock(callers.bearing(checked(f"omf_{id}_{split(create(owner).secret)[1]}")))

    assert is_let_in(callers.bearing(first.secret))
    owner.keys.RevokeApiKey(RevokeApiKeyRequest(id=id))
    answers["revoked"] = knock(callers.bearing(first.secret))

    expiring = create(owner, expire_time=in_seconds(0.5))
    assert is_let_in(callers.bearing(expiring.secret))
    eventually(lambda: not is_let_in(callers.bearing(expiring.secret)), within=SECONDS)
    assert time.time() >= expiring.api_key.expire_time.ToNanoseconds() / 1e9
    answers["expired"] = knock(callers.bearing(expiring.secret))

    rotated = create(owner)
    grace = Duration()
    grace.FromMilliseconds(500)
    after = owner.keys.RotateApiKey(RotateApiKeyRequest(id=rotated.api_key.id, grace=grace))
    assert is_let_in(callers.bearing(rotated.secret))
    eventually(lambda: not is_let_in(callers.bearing(rotated.secret)), within=SECONDS)
    answers["rotated away"] = knock(callers.bearing(rotated.secret))
    assert is_let_in(callers.bearing(after.secret))
    owner.keys.RotateApiKey(RotateApiKeyRequest(id=rotated.api_key.id))
    answers["rotated away at once"] = knock(callers.bearing(after.secret))

    leaver = callers.user(f"user_who_leaves_{next(numbers)}")
    left = create(leaver)
    leaver.users.DeleteUser(DeleteUserRequest(id=left.api_key.user_id))
    answers["of a deleted user"] = knock(callers.bearing(left.secret))

    organization, member, of_member = _member_with_key(callers, owner)
    assert is_let_in(callers.bearing(of_member.secret))
    owner.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
    assert organization.id == of_member.api_key.organization_id
    answers["of a removed member"] = knock(callers.bearing(of_member.secret))

    assert {what: answer for what, answer in answers.items() if answer != REFUSED} == {}
    assert len(answers) == 9


def _member_with_key(callers: Callers, admin: Api) -> tuple[Organization, Member, CreateApiKeyResponse]:
    """Answer an organization, a member who is no ADMIN, and a key of that member that is good there alone."""
    request = CreateOrganizationRequest(organization=Organization(name="An organization"))
    organization = admin.organizations.CreateOrganization(request)
    api = callers.user(f"user_who_is_removed_{next(numbers)}")
    member = api.accept(admin.invitation(organization, User(id=user_id(api))))
    return organization, member, create(api, organization_id=organization.id)


@pytest.mark.usefixtures("quick")
def test_only_the_last_two_secrets_of_a_key_are_good_and_the_older_for_its_grace(callers: Callers, owner: Api) -> None:
    made = create(owner)
    rotate = RotateApiKeyRequest(id=made.api_key.id, grace=Duration(seconds=60))
    secrets = [made.secret, owner.keys.RotateApiKey(rotate).secret, owner.keys.RotateApiKey(rotate).secret]
    assert [is_let_in(callers.bearing(secret)) for secret in secrets] == [False, True, True]
    owner.keys.RevokeApiKey(RevokeApiKeyRequest(id=made.api_key.id))
    assert [is_let_in(callers.bearing(secret)) for secret in secrets] == [False, False, False]


@pytest.mark.usefixtures("quick")
def test_a_grace_does_not_outlive_the_key(callers: Callers, owner: Api) -> None:
    made = create(owner, expire_time=in_seconds(0.5))
    after = owner.keys.RotateApiKey(RotateApiKeyRequest(id=made.api_key.id, grace=Duration(seconds=60)))
    for secret in (made.secret, after.secret):
        eventually(lambda text=secret: not is_let_in(callers.bearing(text)), within=SECONDS)  # type: ignore[misc]


def test_a_remembered_key_ends_when_it_expires(
    callers: Callers, owner: Api, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "trust_seconds", 60.0)
    made = create(owner, expire_time=in_seconds(0.7))
    assert is_let_in(callers.bearing(made.secret))
    eventually(lambda: not is_let_in(callers.bearing(made.secret)), within=SECONDS)
    late = time.time() - made.api_key.expire_time.ToNanoseconds() / 1e9
    assert 0 <= late < 1


def test_an_expiry_that_is_moved_counts_again(callers: Callers, owner: Api) -> None:
    made = create(owner, expire_time=in_seconds(-60))
    assert knock(callers.bearing(made.secret)) == REFUSED
    body = ApiKey(id=made.api_key.id)
    mask = FieldMask(paths=["expire_time"])
    owner.keys.UpdateApiKey(UpdateApiKeyRequest(api_key=body, update_mask=mask))
    assert is_let_in(callers.bearing(made.secret))


def test_the_use_of_a_key_is_noted_at_most_once_a_minute(callers: Callers, owner: Api, database: Database) -> None:
    made = create(owner)
    assert not made.api_key.HasField("last_used_time")
    key = callers.bearing(made.secret)
    get = GetApiKeyRequest(id=made.api_key.id)

    def used() -> float:
        """Answer the Unix time that was noted; 0 for none."""
        return owner.keys.GetApiKey(get).last_used_time.ToNanoseconds() / 1e9

    assert is_let_in(key)
    noted = eventually(used, within=SECONDS)
    assert abs(time.time() - noted) < 5
    assert owner.keys.GetApiKey(get).etag == made.api_key.etag
    # Long enough for another note, were there one.
    give_up = time.monotonic() + 1.3
    while time.monotonic() < give_up:
        assert is_let_in(key)
    assert used() == noted
    database.query("update api_keys set last_used_time = now() - interval '61 seconds'")
    assert is_let_in(key)
    eventually(lambda: used() > noted, within=SECONDS)


def test_a_call_does_not_wait_for_the_note_of_its_key(callers: Callers, owner: Api, database: Database) -> None:
    made = create(owner)
    database.query("begin")
    database.query("select from api_keys where id = %s for update", (made.api_key.id,))
    try:
        assert is_let_in(callers.bearing(made.secret), timeout=LOCK_SECONDS - 1)
        time.sleep(1.1)
        assert is_let_in(callers.bearing(made.secret), timeout=LOCK_SECONDS - 1)
    finally:
        database.query("rollback")


class Everywhere:
    """Connections to a service, so many that each of its processes has some."""

    def __init__(self, served: Served, connect: Callable[..., Callers]) -> None:
        self._callers = [connect(served["listen"]) for _ in range(16)]

    @property
    def first(self) -> Callers:
        return self._callers[0]

    def let_in(self, secret: str) -> set[bool]:
        """Answer whether the key is good, as each connection finds it."""
        return {is_let_in(callers.bearing(secret)) for callers in self._callers}


def test_a_key_that_ends_is_out_of_every_process_in_time(processes: Served, connect: Callable[..., Callers]) -> None:
    everywhere = Everywhere(processes, connect)
    callers = everywhere.first
    owner = callers.user("user_with_keys_everywhere")
    revoked, rotated = create(owner), create(owner)
    organization, member, of_member = _member_with_key(callers, owner)
    leaver = callers.user("user_who_leaves_everywhere")
    left = create(leaver)
    good = create(owner)
    ends = {"revoked": revoked, "rotated": rotated, "removed": of_member, "deleted": left}
    for made in (*ends.values(), good):
        assert everywhere.let_in(made.secret) == {True}
    assert callers.bearing(of_member.secret).organizations.GetOrganization(GetOrganizationRequest(id=organization.id))

    start = time.monotonic()
    owner.keys.RevokeApiKey(RevokeApiKeyRequest(id=revoked.api_key.id))
    owner.keys.RotateApiKey(RotateApiKeyRequest(id=rotated.api_key.id))
    owner.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
    leaver.users.DeleteUser(DeleteUserRequest(id=left.api_key.user_id))
    # Until it is forgotten, the removed member's key says who calls, but no longer opens the organization.
    failure = fails(
        callers.bearing(of_member.secret).organizations.GetOrganization, GetOrganizationRequest(id=organization.id)
    )
    assert failure.reason in {"ORGANIZATION_NOT_FOUND", "UNAUTHENTICATED"}
    for made in ends.values():
        eventually(lambda text=made.secret: everywhere.let_in(text) == {False}, within=EVERYWHERE_SECONDS)  # type: ignore[misc]
    assert time.monotonic() - start < EVERYWHERE_SECONDS
    assert everywhere.let_in(good.secret) == {True}


def test_a_user_of_a_key_is_who_a_service_made_it_for(callers: Callers) -> None:
    person = callers.service(WRITER).users.ProvisionUser(ProvisionUserRequest(clerk_id=f"user_served_{next(numbers)}"))
    made = create(callers.service(WRITER, user=person.id))
    assert who(callers.bearing(made.secret)) == person.clerk_id


def test_a_key_calls_for_nobody_else(callers: Callers, owner: Api) -> None:
    made = create(owner)
    bearer = ("authorization", f"Bearer {made.secret}")
    for name in (made.api_key.user_id, "clerk:user_somebody", ""):
        assert knock(callers.sending(bearer, ("x-omniflo-user", name))) == REFUSED


def test_a_key_is_no_session_and_not_part_of_one(callers: Callers, clerk: Clerk, owner: Api) -> None:
    secret = create(owner).secret
    for token in (f"{secret}.{clerk.session('user_x')}", f"{clerk.session('user_x')} {secret}", secret[4:]):
        assert knock(callers.bearing(token)) == REFUSED


def test_a_key_is_looked_up_in_a_database_that_is_there(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("service.operations.api_keys.owner", is_away)
    answer = refusal(callers.bearing(checked(f"omf_x_{'0' * 64}")).users.ListUsers, ListUsersRequest())
    # What is a fault is no reason to say that the key is bad.
    assert answer.code is grpc.StatusCode.INTERNAL
