"""That the counts in errors tell nobody of what is not for them to read."""

from collections.abc import Callable

import pytest

from omniflo.templates.v1.model_service_pb2 import DeleteModelRequest, GetModelRequest
from omniflo.templates.v1.organization_pb2 import Member, Organization
from omniflo.templates.v1.organization_service_pb2 import RemoveMemberRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import UpdateTemplateRequest
from omniflo.templates.v1.template_type_service_pb2 import DeleteTemplateTypeRequest, GetTemplateTypeRequest
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, ProvisionUserRequest
from tests.conftest import ADMIN, PLATFORM_ADMIN, WRITER, Api, Callers, Failure, fails

AUTHOR, OWNER = "user_author", "user_owner"


@pytest.fixture
def provision(callers: Callers) -> Callable[[str], User]:
    service = callers.service(WRITER)
    return lambda name: service.users.ProvisionUser(ProvisionUserRequest(clerk_id=name))


def test_a_user_in_use_is_counted_where_the_caller_reads(
    callers: Callers, api: Api, provision: Callable[[str], User]
) -> None:
    author = provision(AUTHOR)
    home, left = api.organization(), api.organization()
    members: list[Member] = [api.member(organization, author) for organization in (home, left)]
    for organization_id in ("", "", home.id, left.id, left.id, left.id):
        api.template(user_id=author.id, organization_id=organization_id)
    api.organizations.RemoveMember(RemoveMemberRequest(id=members[1].id))

    def count(by: Api) -> str:
        failure = fails(by.users.DeleteUser, DeleteUserRequest(id=author.id))
        assert failure.reason == "USER_IN_USE"
        return str(failure.metadata["templates"])

    assert count(callers.user(AUTHOR)) == "3"
    assert count(callers.service(WRITER)) == "2"
    for everything in (callers.service(ADMIN), api):
        assert count(everything) == "6"


def test_of_selections_an_author_counts_its_own(callers: Callers, api: Api, provision: Callable[[str], User]) -> None:
    author, owner = provision(AUTHOR), provision(OWNER)
    provision(PLATFORM_ADMIN)
    house: Organization = api.organization(owner)
    api.member(house, author)
    other = api.type().name

    def change(by: Api, template: Template) -> Failure:
        return fails(
            by.templates.UpdateTemplate, UpdateTemplateRequest(template=Template(id=template.id, template_type=other))
        )

    wide, own = api.template(user_id=author.id), api.template(user_id=author.id, organization_id=house.id)
    for template, place in ((wide, ""), (own, house.id)):
        for _ in range(3):
            user = api.user()
            if place:
                api.member(house, user)
            api.select(user, template, place)
        assert change(callers.user(AUTHOR), template).metadata == {"selections": "0"}
        api.select(author, template, place)
        assert change(callers.user(AUTHOR), template).metadata == {"selections": "1"}
        assert change(api, template).metadata == {"selections": "4"}
    assert change(callers.user(OWNER), own).metadata == {"selections": "4"}
    assert change(callers.user(PLATFORM_ADMIN), wide).metadata == {"selections": "4"}


def test_who_administers_the_platform_counts_everything(callers: Callers, api: Api) -> None:
    organization = api.organization()
    member = api.member(organization).user_id
    wide = api.template()
    api.template(user_id=member, organization_id=organization.id, template_type=wide.template_type, model=wide.model)
    kind = api.types.GetTemplateType(GetTemplateTypeRequest(name=wide.template_type)).id
    model = api.models.GetModel(GetModelRequest(openai_id=wide.model)).id
    for by in (callers.service(ADMIN), callers.user(PLATFORM_ADMIN), api):
        for call, request in (
            (by.types.DeleteTemplateType, DeleteTemplateTypeRequest(id=kind)),
            (by.models.DeleteModel, DeleteModelRequest(id=model)),
        ):
            assert fails(call, request).metadata == {"templates": "2"}
