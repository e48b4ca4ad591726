"""UserService, through its stub."""

import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from omniflo.templates.v1.user_service_pb2 import (
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ProvisionUserRequest,
)
from tests.conftest import Api, fails

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
