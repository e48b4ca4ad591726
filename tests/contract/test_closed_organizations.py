"""An organization whose last ADMIN was deleted: it binds nobody, is read, and is not written until it has one again."""

from collections.abc import Callable
from typing import Any

import pytest
from grpc import StatusCode

from omniflo.templates.v1.organization_pb2 import Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AddMemberRequest,
    DeleteOrganizationRequest,
    GetOrganizationRequest,
    ListMembersRequest,
    RemoveMemberRequest,
    UpdateMemberRequest,
    UpdateOrganizationRequest,
)
from omniflo.templates.v1.selection_service_pb2 import DeleteSelectionRequest, ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    RenderTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from tests.conftest import PLATFORM_ADMIN, Api, Callers, Database, fails
from tests.contract.tables import contents

ADMIN = OrganizationRole.ORGANIZATION_ROLE_ADMIN
MEMBER = OrganizationRole.ORGANIZATION_ROLE_MEMBER
VIEWER = OrganizationRole.ORGANIZATION_ROLE_VIEWER


class Place:
    """An organization with a member, who has a template there, and an invitation; its only ADMIN is deleted."""

    def __init__(self, api: Api, member: User | None = None) -> None:
        admin = api.user()
        self.organization = api.organization(admin)
        self.user = member or api.user()
        self.member = api.member(self.organization, self.user)
        self.template = api.template(
            user_id=self.user.id, organization_id=self.organization.id, is_default=True, select=True
        )
        self.invitation = api.invitation(self.organization)
        api.users.DeleteUser(DeleteUserRequest(id=admin.id))


def _member(place: Place, user: User, role: OrganizationRole.ValueType) -> AddMemberRequest:
    return AddMemberRequest(member=Member(organization_id=place.organization.id, user_id=user.id, role=role))


WRITES: dict[str, Callable[[Api, Place], Any]] = {
    "CreateTemplate": lambda api, place: api.template(
        user_id=place.user.id, organization_id=place.organization.id, template_type=place.template.template_type
    ),
    "UpdateTemplate": lambda api, place: api.templates.UpdateTemplate(
        UpdateTemplateRequest(template=Template(id=place.template.id, title="After"))
    ),
    "DeleteTemplate": lambda api, place: api.templates.DeleteTemplate(DeleteTemplateRequest(id=place.template.id)),
    "UpdateOrganization": lambda api, place: api.organizations.UpdateOrganization(
        UpdateOrganizationRequest(organization=Organization(id=place.organization.id, name="After"))
    ),
    "DeleteOrganization": lambda api, place: api.organizations.DeleteOrganization(
        DeleteOrganizationRequest(id=place.organization.id)
    ),
    "AddMember": lambda api, place: api.organizations.AddMember(_member(place, api.user(), MEMBER)),
    "UpdateMember": lambda api, place: api.organizations.UpdateMember(
        UpdateMemberRequest(member=Member(id=place.member.id, role=VIEWER))
    ),
    "InviteMember": lambda api, place: api.invitation(place.organization),
    "AcceptInvitation": lambda api, place: api.accept(place.invitation),
}


@pytest.mark.parametrize("write", WRITES)
def test_what_is_the_organizations_is_not_written(api: Api, database: Database, write: str) -> None:
    place = Place(api)
    before = contents(database)
    failure = fails(WRITES[write], api, place)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "ORGANIZATION_CLOSED")
    assert failure.metadata == {"organization_id": place.organization.id}
    changed = {table for table, rows in contents(database).items() if rows != before[table]}
    assert changed <= {"users", "openai_models"}


def test_it_is_read_and_what_is_a_members_own_goes_on(api: Api, callers: Callers) -> None:
    program = callers.user("user_member")
    user = program.users.GetUser(GetUserRequest(clerk_id="user_member"))
    place = Place(api, user)
    id = place.organization.id
    assert program.organizations.GetOrganization(GetOrganizationRequest(id=id)) == place.organization
    assert list(program.organizations.ListMembers(ListMembersRequest(organization_id=id)).members) == [place.member]
    assert program.templates.GetTemplate(GetTemplateRequest(id=place.template.id)) == place.template
    listed = program.templates.ListTemplates(ListTemplatesRequest(organization_id=id)).templates
    assert list(listed) == [place.template]
    resolving = ResolveTemplateRequest(template_type=place.template.template_type, organization_id=id)
    assert program.selections.ResolveTemplate(resolving).template == place.template
    assert program.templates.RenderTemplate(RenderTemplateRequest(id=place.template.id)).responses_request
    deleting = DeleteSelectionRequest(template_type=place.template.template_type, organization_id=id)
    program.selections.DeleteSelection(deleting)
    assert program.select(User(), place.template, id).template_id == place.template.id
    assert program.key(organization_id=id, user_id=user.id).secret
    failure = fails(WRITES["UpdateTemplate"], program, place)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "ORGANIZATION_CLOSED")
    program.organizations.RemoveMember(RemoveMemberRequest(id=place.member.id))
    assert fails(program.templates.GetTemplate, GetTemplateRequest(id=place.template.id)).reason == "TEMPLATE_NOT_FOUND"


def test_who_may_not_write_is_not_told_that_it_is_closed(api: Api, callers: Callers) -> None:
    place = Place(api)
    stranger = callers.user("user_stranger")
    assert fails(WRITES["UpdateTemplate"], stranger, place).reason == "TEMPLATE_NOT_FOUND"
    assert fails(stranger.invitation, place.organization, place.user).reason == "ORGANIZATION_NOT_FOUND"


def test_an_admin_whom_an_administrator_of_the_platform_adds_opens_it(api: Api, callers: Callers) -> None:
    place = Place(api)
    program = callers.user("user_new")
    new = program.users.GetUser(GetUserRequest(clerk_id="user_new"))
    platform = callers.user(PLATFORM_ADMIN).organizations
    assert fails(platform.AddMember, _member(place, new, VIEWER)).reason == "ORGANIZATION_CLOSED"
    assert platform.AddMember(_member(place, new, ADMIN)).role == ADMIN
    assert WRITES["UpdateTemplate"](program, place).title == "After"
    promoted = UpdateMemberRequest(member=Member(id=place.member.id, role=ADMIN))
    assert program.organizations.UpdateMember(promoted).role == ADMIN


def test_where_calls_are_not_authenticated_a_member_who_is_made_admin_opens_it(api: Api) -> None:
    place = Place(api)
    request = UpdateMemberRequest(member=Member(id=place.member.id, role=ADMIN))
    assert api.organizations.UpdateMember(request).role == ADMIN
    assert WRITES["UpdateTemplate"](api, place).title == "After"


def test_a_retry_gets_the_response_of_before_it_was_closed(api: Api) -> None:
    admin = api.user()
    organization = api.organization(admin)
    api.member(organization)
    request = UpdateOrganizationRequest(
        organization=Organization(id=organization.id, name="After"), request_id="order-17"
    )
    updated = api.organizations.UpdateOrganization(request)
    api.users.DeleteUser(DeleteUserRequest(id=admin.id))
    assert api.organizations.UpdateOrganization(request) == updated


def test_nobody_is_bound_by_what_somebody_else_left(callers: Callers) -> None:
    """A stranger writes a template in an organization, has somebody accept to be its ADMIN, and leaves."""
    stranger, victim = callers.user("user_stranger"), callers.user("user_victim")
    them = victim.users.GetUser(GetUserRequest(clerk_id="user_victim"))
    me = stranger.users.GetUser(GetUserRequest(clerk_id="user_stranger"))
    platform = callers.user(PLATFORM_ADMIN)
    organization = stranger.organization(me)
    stranger.template(
        user_id=me.id,
        organization_id=organization.id,
        template_type=platform.type().name,
        model=platform.model().openai_id,
    )
    victim.accept(stranger.invitation(organization, them, "ADMIN"))
    members = stranger.organizations.ListMembers(ListMembersRequest(organization_id=organization.id)).members
    stranger.organizations.RemoveMember(RemoveMemberRequest(id=members[0].id))
    assert fails(victim.organizations.RemoveMember, RemoveMemberRequest(id=members[1].id)).reason == "LAST_ADMIN"
    victim.users.DeleteUser(DeleteUserRequest(id=them.id))


def test_what_has_neither_members_nor_templates_is_deleted_with_its_last_member(api: Api, database: Database) -> None:
    user, other, third = api.user(), api.user(), api.user()
    alone, shared = api.organization(user), api.organization(user)
    member = api.member(shared, other)
    full = api.organization(user)
    api.template(user_id=third.id, organization_id=full.id)
    api.users.DeleteUser(DeleteUserRequest(id=user.id))
    assert sorted(database.query("select id from organizations")) == sorted([(shared.id,), (full.id,)])
    api.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
    assert database.query("select id from organizations") == [(full.id,)]
    assert fails(api.organizations.GetOrganization, GetOrganizationRequest(id=alone.id)).reason.endswith("NOT_FOUND")
