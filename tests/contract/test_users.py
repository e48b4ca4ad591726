"""UserService, through its stub."""

from contextlib import closing

import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.organization_service_pb2 import RemoveMemberRequest, UpdateOrganizationRequest
from omniflo.templates.v1.usage_pb2 import Usage
from omniflo.templates.v1.usage_service_pb2 import RecordUsageRequest
from omniflo.templates.v1.user_service_pb2 import (
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ProvisionUserRequest,
)
from tests.conftest import Api, Database, fails
from tests.e2e.serving import eventually

pytestmark = pytest.mark.modes


def test_provision_creates_once_and_then_finds(api: Api) -> None:
    created = api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_2abc"))
    assert created.id
    assert created.clerk_id == "user_2abc"
    assert created.create_time == created.update_time
    assert api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_2abc")) == created


def test_get_answers_by_either_key(api: Api) -> None:
    user = api.user()
    assert api.users.GetUser(GetUserRequest(id=user.id)) == user
    assert api.users.GetUser(GetUserRequest(clerk_id=user.clerk_id)) == user


def test_get_names_the_key_that_nobody_has(api: Api) -> None:
    failure = fails(api.users.GetUser, GetUserRequest(clerk_id="nobody"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"clerk_id": "nobody"}


def test_get_wants_a_key(api: Api) -> None:
    failure = fails(api.users.GetUser, GetUserRequest())
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "key" in failure.violations


def test_list_is_newest_first(api: Api) -> None:
    users = [api.user() for _ in range(3)]
    assert list(api.users.ListUsers(ListUsersRequest()).users) == users[::-1]


def test_delete_takes_the_selections_along(api: Api) -> None:
    template = api.template()
    user = api.user()
    api.select(user, template)
    assert api.users.DeleteUser(DeleteUserRequest(id=user.id)) == Empty()
    assert fails(api.users.GetUser, GetUserRequest(id=user.id)).reason == "USER_NOT_FOUND"


def test_delete_refuses_an_author_and_deletes_nothing(api: Api) -> None:
    user = api.user()
    template = api.template(user_id=user.id, select=True)
    api.template(user_id=user.id)
    failure = fails(api.users.DeleteUser, DeleteUserRequest(id=user.id))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "USER_IN_USE")
    assert failure.metadata == {"templates": "2"}
    assert api.selected(user, template.template_type) == template.id


def test_delete_names_an_unknown_id(api: Api) -> None:
    failure = fails(api.users.DeleteUser, DeleteUserRequest(id="nobody"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "nobody"}


LOCKS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def waits(database: Database, number: int) -> None:
    """Return once so many sessions wait for a lock."""
    eventually(lambda: database.query(LOCKS) == [(number,)], within=20)


def use(database: Database, user_id: str) -> None:
    database.query(
        "insert into usage_totals values ('user', 'day', date_trunc('day', now(), 'UTC'), '', 0, '', 'gpt', %s, '',"
        " 1, 1, 0, 0, 0, 0, 0, 0, '{0}', '{1}')",
        (user_id,),
    )


@pytest.mark.parametrize("kept", ["record", "record of its organization", "sum"])
def test_nobody_waits_while_what_a_user_has_is_deleted(api: Api, database: Database, kept: str) -> None:
    user, other_user, organization = api.user(), api.user(), api.organization()
    api.member(organization, user)
    own = api.organization(user)
    if kept == "record":
        api.record(user_id=user.id)
    elif kept == "sum":
        use(database, user.id)
        use(database, other_user.id)
    else:
        guest = api.member(own)
        api.record(user_id=guest.user_id, organization_id=own.id)
        api.organizations.RemoveMember(RemoveMemberRequest(id=guest.id))
    with closing(Database(database.url)) as other:
        other.query("begin; select from processing_records for update; select from usage_totals for update")
        deletion = api.users.DeleteUser.future(DeleteUserRequest(id=user.id))
        waits(database, 1)
        renamed = Organization(id=organization.id, name="Another name")
        assert api.organizations.UpdateOrganization(UpdateOrganizationRequest(organization=renamed), timeout=5)
        other.query("commit")
    assert deletion.result() == Empty()
    assert database.query("select count(*) from processing_records") == [(0,)]
    left = [("", 1), (other_user.id, 1)] if kept == "sum" else []
    assert database.query("select user_id, count from usage_totals order by 1") == left


def test_the_deletion_of_a_user_holds_neither_other_deletions_nor_the_roll_up(api: Api, database: Database) -> None:
    user, other_user, organization = api.user(), api.user(), api.organization()
    api.member(organization, user)
    for one in (user, other_user):
        use(database, one.id)
    with closing(Database(database.url)) as other:
        other.query("begin; select from organizations for update")
        deletion = api.users.DeleteUser.future(DeleteUserRequest(id=user.id))
        waits(database, 1)
        assert api.users.DeleteUser(DeleteUserRequest(id=other_user.id), timeout=5) == Empty()
        for user_id in ("", user.id):
            usage = Usage(event_id=f"of-{user_id}", user_id=user_id, model="gpt")
            usage.duration.FromMilliseconds(1)
            api.usage.RecordUsage(RecordUsageRequest(usages=[usage]))
        other.query("set lock_timeout = '5s'; select roll_up_usage(10)")
        other.query("commit")
    assert deletion.result() == Empty()
    sums = "select user_id, sum(count) from usage_totals where (level, period) = ('user', 'day') group by user_id"
    assert database.query(sums) == [("", 4)]


def test_what_a_user_has_is_deleted_in_parts_that_stay_deleted(api: Api, database: Database) -> None:
    user, organization = api.user(), api.organization()
    api.member(organization, user)
    first = api.record(user_id=user.id)
    database.query(
        "insert into processing_records (id, filename, user_id, template_id, runner, status)"
        " select id || n, filename, user_id, template_id, runner, status from processing_records,"
        " generate_series(1, 249) n"
    )
    count = "select count(*) from processing_records"
    with closing(Database(database.url)) as other:
        other.query(f"begin; select from processing_records where id = '{first.id}249' for update")
        call = api.users.DeleteUser.future(DeleteUserRequest(id=user.id, request_id="one"), timeout=2)
        assert call.code() == StatusCode.DEADLINE_EXCEEDED
        waits(database, 0)
        other.query("commit")
    assert database.query(count) in ([(150,)], [(50,)])
    assert api.users.DeleteUser(DeleteUserRequest(id=user.id, request_id="one")) == Empty()
    assert database.query(count) == [(0,)]
    # Neither a retry nor a request_id of something else deletes anything.
    another = api.user()
    api.record(user_id=another.id)
    assert api.users.DeleteUser(DeleteUserRequest(id=user.id, request_id="one")) == Empty()
    failure = fails(api.users.DeleteUser, DeleteUserRequest(id=another.id, request_id="one"))
    assert failure.reason == "REQUEST_ID_REUSED"
    assert database.query(count) == [(1,)]


def test_the_records_of_an_author_stay(api: Api, database: Database) -> None:
    user = api.user()
    api.template(user_id=user.id)
    api.record(user_id=user.id)
    use(database, user.id)
    assert fails(api.users.DeleteUser, DeleteUserRequest(id=user.id)).reason == "USER_IN_USE"
    assert database.query("select count(*) from processing_records") == [(1,)]
    assert database.query("select user_id from usage_totals") == [(user.id,)]
