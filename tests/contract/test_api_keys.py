"""ApiKeyService, through its stub, and what can be done with a key."""

import re
import time
import zlib
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import RpcError, StatusCode

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    RotateApiKeyResponse,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.organization_service_pb2 import (
    CreateOrganizationRequest,
    GetOrganizationRequest,
    ListMembersRequest,
    ListOrganizationsRequest,
    RemoveMemberRequest,
)
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, ListTemplatesRequest
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, ListUsersRequest, ProvisionUserRequest
from service.database import handle
from tests.conftest import Api, Callers, Database, fails
from tests.contract.tables import contents

pytestmark = pytest.mark.modes

READ = ApiKeyScope.API_KEY_SCOPE_READ
WRITE = ApiKeyScope.API_KEY_SCOPE_WRITE
REFUSED_SECONDS = 5.0
"""Within which a key that is over is refused by every process."""


def get(api: Api, id: str) -> ApiKey:
    return api.keys.GetApiKey(GetApiKeyRequest(id=id))


def listed(api: Api, user: User) -> list[ApiKey]:
    return list(api.keys.ListApiKeys(ListApiKeysRequest(user_id=user.id)).api_keys)


def update(api: Api, id: str, *paths: str, **fields: Any) -> ApiKey:
    request = UpdateApiKeyRequest(api_key=ApiKey(id=id, **fields), update_mask=FieldMask(paths=paths))
    return api.keys.UpdateApiKey(request)


def revoke(api: Api, id: str) -> ApiKey:
    return api.keys.RevokeApiKey(RevokeApiKeyRequest(id=id)).api_key


def rotate(api: Api, id: str, grace: float = 0.0) -> RotateApiKeyResponse:
    duration = Duration()
    duration.FromNanoseconds(int(grace * 1e9))
    return api.keys.RotateApiKey(RotateApiKeyRequest(id=id, grace=duration))


def after(seconds: float) -> Timestamp:
    """Answer the moment that is so many seconds away."""
    moment = Timestamp()
    moment.FromMicroseconds(int((time.time() + seconds) * 1e6))
    return moment


def opens(callers: Callers, secret: str) -> bool:
    """Whether somebody who calls with the secret is let in."""
    try:
        callers.bearing(secret).users.ListUsers(ListUsersRequest())
    except RpcError as error:
        if error.code() is not StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


def soon(what: Callable[[], bool], seconds: float = REFUSED_SECONDS) -> bool:
    """Whether it becomes true within the time."""
    give_up = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < give_up:
        time.sleep(0.02)
    return answer


def test_a_key_is_answered_as_it_was_asked_for(api: Api) -> None:
    user = api.user()
    organization = api.organization(user)
    body = ApiKey(
        name="Nightly export", user_id=user.id, organization_id=organization.id, scope=READ, expire_time=after(60)
    )
    created = api.keys.CreateApiKey(CreateApiKeyRequest(api_key=body)).api_key
    assert created.id
    assert created.etag
    assert not created.HasField("last_used_time")
    assert not created.HasField("revoke_time")
    body.id, body.etag = created.id, created.etag
    body.create_time.CopyFrom(created.create_time)
    body.update_time.CopyFrom(created.create_time)
    assert created == body
    assert get(api, created.id) == created


def test_a_secret_is_the_prefix_the_id_256_bits_and_a_checksum(api: Api) -> None:
    secrets = set()
    for _ in range(5):
        made = api.key()
        form = re.fullmatch(r"omf_([a-z0-9]+)_([0-9a-f]{64})([0-9a-f]{8})", made.secret)
        assert form is not None
        id, secret, checksum = form.groups()
        assert id == made.api_key.id
        assert int(checksum, 16) == zlib.crc32(f"{id}_{secret}".encode())
        secrets.add(secret)
    assert len(secrets) == 5


def test_the_database_holds_the_digest_of_a_secret_and_not_the_secret(api: Api, database: Database) -> None:
    body = ApiKey(name="A key", user_id=api.user().id, scope=WRITE)
    made = api.keys.CreateApiKey(CreateApiKeyRequest(api_key=body, request_id="order-17"))
    request = RotateApiKeyRequest(id=made.api_key.id, grace=Duration(seconds=60), request_id="order-17")
    rotated = api.keys.RotateApiKey(request)
    secrets = [bytes.fromhex(answer.secret.split("_")[2][:64]) for answer in (made, rotated)]
    ((old, new),) = database.query("select previous_digest, digest from api_keys")
    assert [bytes(old), bytes(new)] == [sha256(secret).digest() for secret in secrets]
    answers = [bytes(answer) for (answer,) in database.query("select response from idempotency_keys")]
    assert len(answers) == 2
    everything = repr([contents(database), answers])
    for secret in secrets:
        assert secret.hex() not in everything
        assert not any(secret in answer for answer in answers)


def test_a_secret_is_told_once(api: Api, callers: Callers) -> None:
    user = api.user()
    request = CreateApiKeyRequest(api_key=ApiKey(name="A key", user_id=user.id, scope=WRITE), request_id="order-17")
    first, again = api.keys.CreateApiKey(request), api.keys.CreateApiKey(request)
    assert first.secret
    assert again.secret == ""
    assert again.api_key == first.api_key
    assert listed(api, user) == [first.api_key]
    assert opens(callers, first.secret)
    renew = RotateApiKeyRequest(id=first.api_key.id, request_id="order-17")
    rotated, replayed = api.keys.RotateApiKey(renew), api.keys.RotateApiKey(renew)
    assert rotated.secret
    assert replayed.secret == ""
    assert replayed.api_key == rotated.api_key
    # The replay has not rotated it.
    assert opens(callers, rotated.secret)


def test_who_calls_with_a_key_is_its_owner(callers: Callers) -> None:
    owner = callers.user("user_owner")
    user = owner.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_owner"))
    body = ApiKey(name="A key", scope=WRITE)
    made = owner.keys.CreateApiKey(CreateApiKeyRequest(api_key=body))
    assert made.api_key.user_id == user.id
    program = callers.bearing(made.secret)
    assert list(program.users.ListUsers(ListUsersRequest()).users) == [user]
    mine = program.organizations.CreateOrganization(CreateOrganizationRequest(organization=Organization(name="Mine")))
    (member,) = program.organizations.ListMembers(ListMembersRequest(organization_id=mine.id)).members
    assert member.user_id == user.id
    assert [key.id for key in program.keys.ListApiKeys(ListApiKeysRequest()).api_keys] == [made.api_key.id]


def test_keys_are_listed_newest_first_also_those_that_are_over(api: Api) -> None:
    user = api.user()
    keys = [api.key(user_id=user.id, **fields).api_key for fields in ({}, {"expire_time": after(-60)}, {}, {})]
    api.key()
    keys[2] = revoke(api, keys[2].id)
    assert listed(api, user) == keys[::-1]


def test_list_tells_an_unknown_user_from_one_without_keys(api: Api) -> None:
    assert listed(api, api.user()) == []
    failure = fails(listed, api, User(id="nobody"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "nobody"}


@pytest.mark.parametrize("call", [get, update, revoke, rotate])
def test_every_method_names_an_unknown_id(api: Api, call: Callable[..., object]) -> None:
    failure = fails(call, api, "none")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "API_KEY_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


@pytest.mark.parametrize("call", [get, update, revoke, rotate])
def test_somebody_else_s_key_does_not_exist(
    api: Api, callers: Callers, database: Database, call: Callable[..., object]
) -> None:
    stranger = callers.user("user_stranger")
    assert listed(stranger, User()) == []
    made = api.key()
    before = contents(database)
    failure = fails(call, stranger, made.api_key.id)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "API_KEY_NOT_FOUND")
    assert failure.metadata == {"id": made.api_key.id}
    assert contents(database) == before
    failure = fails(listed, stranger, User(id=made.api_key.user_id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")


def test_create_wants_a_name_a_scope_and_where_calls_are_not_authenticated_a_user(api: Api) -> None:
    failure = fails(api.keys.CreateApiKey, CreateApiKeyRequest(api_key=ApiKey()))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(failure.violations) == {"api_key.name", "api_key.scope"}
    failure = fails(api.keys.CreateApiKey, CreateApiKeyRequest(api_key=ApiKey(name="A key", scope=READ)))
    assert list(failure.violations) == ["api_key.user_id"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_key_for_an_organization_is_of_a_member(api: Api, database: Database, exists: bool) -> None:
    user = api.user()
    id = api.organization().id if exists else "none"
    before = contents(database)
    failure = fails(api.key, user_id=user.id, organization_id=id)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "ORGANIZATION_NOT_FOUND")
    assert failure.metadata == {"id": id}
    assert contents(database) == before


def test_a_key_that_has_expired_is_refused(api: Api, callers: Callers) -> None:
    assert not opens(callers, api.key(expire_time=after(-0.001)).secret)


@pytest.mark.once
def test_a_key_is_good_until_it_expires_and_not_a_moment_longer(api: Api, callers: Callers) -> None:
    expire_time = after(1.5)
    secret = api.key(expire_time=expire_time).secret
    seen = []

    def is_over() -> bool:
        # The moment is one before the call, so that a slow call proves nothing.
        moment = time.time()
        seen.append((moment, opens(callers, secret)))
        return not seen[-1][1]

    assert soon(is_over)
    expires = expire_time.ToMicroseconds() / 1e6
    assert seen[0][1]
    assert max(moment for moment, is_open in seen if is_open) < expires
    assert time.time() >= expires


def test_the_time_of_expiry_is_moved_and_taken_away(api: Api, callers: Callers) -> None:
    made = api.key(expire_time=after(-60))
    moved = after(60)
    assert update(api, made.api_key.id, expire_time=moved).expire_time == moved
    assert opens(callers, made.secret)
    update(api, made.api_key.id, expire_time=after(-60))
    assert soon(lambda: not opens(callers, made.secret))
    cleared = update(api, made.api_key.id, "expire_time")
    assert not cleared.HasField("expire_time")
    assert cleared.name == "A key"
    assert opens(callers, made.secret)


@pytest.mark.parametrize("seconds", [-1, 253_402_300_800])
def test_a_key_expires_in_the_years_1970_to_9999(api: Api, seconds: int) -> None:
    failure = fails(api.key, expire_time=Timestamp(seconds=seconds))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["api_key.expire_time"]


@pytest.mark.parametrize(
    "moment", [Timestamp(), Timestamp(seconds=2_000_000_000, nanos=999_999_999), Timestamp(seconds=253_402_300_799)]
)
def test_a_time_of_expiry_is_kept_to_the_microsecond(api: Api, moment: Timestamp) -> None:
    kept = api.key(expire_time=moment).api_key
    assert kept.expire_time == Timestamp(seconds=moment.seconds, nanos=moment.nanos // 1000 * 1000)
    assert get(api, kept.id) == kept


def test_a_revoked_key_is_refused_within_5_seconds_and_for_good(api: Api, callers: Callers) -> None:
    made = api.key()
    id = made.api_key.id
    assert opens(callers, made.secret)
    revoked = revoke(api, id)
    assert revoked.HasField("revoke_time")
    assert revoked.etag != made.api_key.etag
    assert soon(lambda: not opens(callers, made.secret))
    again = revoke(api, id)
    assert (again.revoke_time, again.update_time, again.etag) == (
        revoked.revoke_time,
        revoked.update_time,
        revoked.etag,
    )
    failure = fails(rotate, api, id)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "API_KEY_REVOKED")
    assert failure.metadata == {}
    update(api, id, expire_time=after(60), name="Still revoked")
    assert get(api, id).revoke_time == revoked.revoke_time
    assert not opens(callers, made.secret)


def test_a_key_that_was_never_used_is_refused_as_soon_as_it_is_revoked(api: Api, callers: Callers) -> None:
    made = api.key()
    revoke(api, made.api_key.id)
    assert not opens(callers, made.secret)


@pytest.mark.once
def test_both_secrets_open_during_the_grace_and_then_the_new_one_alone(api: Api, callers: Callers) -> None:
    made = api.key()
    start = time.monotonic()
    rotated = rotate(api, made.api_key.id, grace=1.5)
    assert rotated.secret != made.secret
    assert rotated.api_key.etag != made.api_key.etag
    changed = {"etag", "update_time"}
    for field in ApiKey.DESCRIPTOR.fields:
        if field.name not in changed:
            assert getattr(rotated.api_key, field.name) == getattr(made.api_key, field.name)
    assert opens(callers, rotated.secret)
    assert opens(callers, made.secret)
    assert soon(lambda: not opens(callers, made.secret))
    assert time.monotonic() - start >= 1.5
    assert opens(callers, rotated.secret)


@pytest.mark.parametrize("request_", [RotateApiKeyRequest(), RotateApiKeyRequest(grace=Duration())])
def test_without_a_grace_the_old_secret_is_over(api: Api, callers: Callers, request_: RotateApiKeyRequest) -> None:
    used, unused = api.key(), api.key()
    assert opens(callers, used.secret)
    for made in (used, unused):
        request_.id = made.api_key.id
        assert opens(callers, api.keys.RotateApiKey(request_).secret)
    assert not opens(callers, unused.secret)
    assert soon(lambda: not opens(callers, used.secret))


def test_a_second_rotation_ends_what_the_first_left(api: Api, callers: Callers) -> None:
    first = api.key()
    second = rotate(api, first.api_key.id, grace=3600)
    third = rotate(api, first.api_key.id, grace=3600)
    assert [opens(callers, made.secret) for made in (first, second, third)] == [False, True, True]


def test_a_secret_in_its_grace_ends_with_its_key(api: Api, callers: Callers) -> None:
    expiring, revoked = api.key(), api.key()
    for made in (expiring, revoked):
        rotate(api, made.api_key.id, grace=3600)
    update(api, expiring.api_key.id, expire_time=after(-1))
    revoke(api, revoked.api_key.id)
    assert not opens(callers, expiring.secret)
    assert not opens(callers, revoked.secret)


@pytest.mark.parametrize("grace", [Duration(seconds=86_400, nanos=1), Duration(seconds=-1), Duration(nanos=-1)])
def test_a_grace_is_0_to_24_hours(api: Api, database: Database, grace: Duration) -> None:
    made = api.key()
    before = contents(database)
    failure = fails(api.keys.RotateApiKey, RotateApiKeyRequest(id=made.api_key.id, grace=grace))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["grace"]
    assert contents(database) == before
    assert rotate(api, made.api_key.id, grace=86_400).secret


def mistyped(secret: str) -> list[str]:
    """Answer what is no key, and can be seen to be none."""
    prefix, id, rest = secret.split("_")
    digit = "0" if rest[0] != "0" else "1"
    return [
        f"{prefix}_{id}_{digit}{rest[1:]}",
        f"{prefix}_{id}_{rest[:-1]}{'0' if rest[-1] != '0' else '1'}",
        f"{prefix}_x{id}_{rest}",
        f"{prefix}_{id.upper()}_{rest}",
        f"{prefix}_{id}_{rest.upper()}A",
        f"{prefix}_{id}_{rest[:-1]}",
        f"{prefix}_{id}_{rest}0",
        f"{prefix}__{rest}",
        f"{prefix}_{id}{rest}",
        f"{prefix}_",
    ]


def test_a_mistyped_key_is_refused_without_asking_the_database(
    api: Api, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = api.key()
    asked: list[str] = []
    execute = handle.Database.execute_prepared

    def note(database: handle.Database, sql: str, params: Any) -> Any:
        asked.append(sql)
        return execute(database, sql, params)

    monkeypatch.setattr(handle.Database, "execute_prepared", note)
    assert [secret for secret in mistyped(made.secret) if opens(callers, secret)] == []
    assert [sql for sql in asked if "api_keys" in sql] == []
    # One that is well made and nobody's is looked up.
    nobodys = f"nobody_{'0' * 64}"
    assert not opens(callers, f"omf_{nobodys}{zlib.crc32(nobodys.encode()):08x}")
    assert len([sql for sql in asked if "api_keys" in sql]) == 1


def test_the_secret_of_another_key_opens_none(api: Api, callers: Callers) -> None:
    one, other = api.key(), api.key()
    text = f"{one.api_key.id}_{other.secret.split('_')[2][:64]}"
    assert not opens(callers, f"omf_{text}{zlib.crc32(text.encode()):08x}")


@pytest.mark.once
def test_a_use_is_noted_about_once_a_minute_and_changes_nothing_else(
    api: Api, callers: Callers, database: Database
) -> None:
    made, unused = api.key(), api.key()
    id = made.api_key.id
    before = time.time()
    assert opens(callers, made.secret)
    assert soon(lambda: get(api, id).HasField("last_used_time"))
    used = get(api, id)
    assert before - 1 <= used.last_used_time.ToMicroseconds() / 1e6 <= time.time()
    assert (used.etag, used.update_time) == (made.api_key.etag, made.api_key.update_time)
    assert get(api, unused.api_key.id) == unused.api_key

    # Another use within the minute writes nothing: another key's, used after it, has been written meanwhile.
    assert opens(callers, made.secret)
    assert opens(callers, unused.secret)
    assert soon(lambda: get(api, unused.api_key.id).HasField("last_used_time"))
    assert get(api, id) == used

    database.query("update api_keys set last_used_time = last_used_time - interval '61 seconds'")
    assert opens(callers, made.secret)
    assert soon(lambda: get(api, id).last_used_time.ToMicroseconds() > used.last_used_time.ToMicroseconds())


@pytest.mark.once
def test_a_call_does_not_wait_for_its_use_to_be_noted(api: Api, callers: Callers, database: Database) -> None:
    held, free = api.key(), api.key()
    other = Database(database.url)
    other.query("begin")
    other.query("select from api_keys where id = %s for update", (held.api_key.id,))
    for made in (held, free):
        callers.bearing(made.secret).users.ListUsers(ListUsersRequest(), timeout=handle.LOCK_SECONDS - 1)
    # Nor does the key of somebody else.
    assert soon(lambda: get(api, free.api_key.id).HasField("last_used_time"))
    assert not get(api, held.api_key.id).HasField("last_used_time")
    other.query("rollback")
    other.close()
    assert opens(callers, held.secret)
    assert soon(lambda: get(api, held.api_key.id).HasField("last_used_time"))


def test_a_key_to_read_writes_nothing(api: Api, callers: Callers, database: Database) -> None:
    user = api.user()
    organization = api.organization(user)
    template = api.template(user_id=user.id)
    reader = callers.bearing(api.key(user_id=user.id, scope=READ).secret)
    assert reader.templates.GetTemplate(GetTemplateRequest(id=template.id)) == template
    assert reader.organizations.GetOrganization(GetOrganizationRequest(id=organization.id)) == organization
    before = contents(database)["organizations"], contents(database)["user_template_selections"]
    create = CreateOrganizationRequest(organization=Organization(name="Mine"))
    for call in (
        lambda: reader.organizations.CreateOrganization(create),
        lambda: reader.select(User(), template),
        lambda: reader.keys.CreateApiKey(CreateApiKeyRequest(api_key=ApiKey(name="A key", scope=WRITE))),
    ):
        failure = fails(call)
        assert (failure.code, failure.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert (contents(database)["organizations"], contents(database)["user_template_selections"]) == before
    assert len(listed(api, user)) == 1


def test_a_key_for_an_organization_reaches_no_other(api: Api, callers: Callers) -> None:
    user = api.user()
    here, there = api.organization(user), api.organization(user)
    wide = api.template(user_id=user.id)
    mine = api.template(user_id=user.id, organization_id=here.id)
    theirs = api.template(user_id=user.id, organization_id=there.id)
    program = callers.bearing(api.key(user_id=user.id, organization_id=here.id).secret)

    assert list(program.templates.ListTemplates(ListTemplatesRequest()).templates) == [mine, wide]
    assert list(program.organizations.ListOrganizations(ListOrganizationsRequest()).organizations) == [here]
    failure = fails(program.templates.GetTemplate, GetTemplateRequest(id=theirs.id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    failure = fails(program.organizations.GetOrganization, GetOrganizationRequest(id=there.id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "ORGANIZATION_NOT_FOUND")
    assert program.select(User(), mine, here.id).organization_id == here.id
    # Outside it writes nothing, not even what is its owner's.
    for call in (
        lambda: program.select(User(), wide),
        lambda: program.organizations.CreateOrganization(
            CreateOrganizationRequest(organization=Organization(name="Mine"))
        ),
        lambda: program.users.DeleteUser(DeleteUserRequest(id=user.id)),
    ):
        failure = fails(call)
        assert (failure.code, failure.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


def test_a_key_for_an_organization_makes_and_sees_none_that_is_wider(api: Api, callers: Callers) -> None:
    user = api.user()
    here = api.organization(user)
    wide = api.key(user_id=user.id).api_key
    narrow = api.key(user_id=user.id, organization_id=here.id)
    program = callers.bearing(narrow.secret)
    assert [key.id for key in listed(program, User())] == [narrow.api_key.id]
    assert fails(get, program, wide.id).reason == "API_KEY_NOT_FOUND"
    assert fails(rotate, program, wide.id).reason == "API_KEY_NOT_FOUND"
    body = ApiKey(name="Wider", scope=WRITE)
    failure = fails(program.keys.CreateApiKey, CreateApiKeyRequest(api_key=body))
    assert (failure.code, failure.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    body.organization_id = here.id
    assert program.keys.CreateApiKey(CreateApiKeyRequest(api_key=body)).secret


def test_who_leaves_an_organization_loses_the_keys_for_it(api: Api, callers: Callers) -> None:
    organization, user = api.organization(), api.user()
    member = api.member(organization, user)
    here = api.key(user_id=user.id, organization_id=organization.id)
    everywhere = api.key(user_id=user.id)
    assert opens(callers, here.secret)
    api.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
    assert soon(lambda: not opens(callers, here.secret))
    assert opens(callers, everywhere.secret)
    assert fails(get, api, here.api_key.id).reason == "API_KEY_NOT_FOUND"


def test_the_keys_of_a_user_who_is_deleted_are_refused(api: Api, callers: Callers) -> None:
    user = api.user()
    made = api.key(user_id=user.id)
    assert opens(callers, made.secret)
    api.users.DeleteUser(DeleteUserRequest(id=user.id))
    assert soon(lambda: not opens(callers, made.secret))
