"""OrganizationService, through its stub: organizations, and who is in them."""

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from omniflo.templates.v1.api_key_service_pb2 import ListApiKeysRequest
from omniflo.templates.v1.organization_pb2 import Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AddMemberRequest,
    CreateOrganizationRequest,
    DeleteOrganizationRequest,
    GetMemberRequest,
    GetOrganizationRequest,
    ListMembersRequest,
    ListOrganizationsRequest,
    RemoveMemberRequest,
    UpdateMemberRequest,
    UpdateOrganizationRequest,
)
from omniflo.templates.v1.selection_service_pb2 import ListSelectionsRequest
from omniflo.templates.v1.template_service_pb2 import DeleteTemplateRequest, GetTemplateRequest
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from tests.conftest import Api, Callers, Database, Failure, fails
from tests.contract.tables import contents

pytestmark = pytest.mark.modes

ADMIN = OrganizationRole.ORGANIZATION_ROLE_ADMIN
MEMBER = OrganizationRole.ORGANIZATION_ROLE_MEMBER
VIEWER = OrganizationRole.ORGANIZATION_ROLE_VIEWER


def get(api: Api, organization: Organization) -> Organization:
    return api.organizations.GetOrganization(GetOrganizationRequest(id=organization.id))


def members(api: Api, organization: Organization) -> list[Member]:
    return list(api.organizations.ListMembers(ListMembersRequest(organization_id=organization.id)).members)


def admin(api: Api, organization: Organization) -> Member:
    """Answer the first member."""
    return members(api, organization)[0]


def organizations(api: Api, user: User) -> list[Organization]:
    return list(api.organizations.ListOrganizations(ListOrganizationsRequest(user_id=user.id)).organizations)


def demote(api: Api, member: Member, role: OrganizationRole.ValueType = MEMBER) -> Member:
    return api.organizations.UpdateMember(UpdateMemberRequest(member=Member(id=member.id, role=role)))


def remove(api: Api, member: Member) -> Empty:
    return api.organizations.RemoveMember(RemoveMemberRequest(id=member.id))


def keys(api: Api, user: User) -> list[str]:
    return [key.id for key in api.keys.ListApiKeys(ListApiKeysRequest(user_id=user.id)).api_keys]


def selected(api: Api, user: User) -> list[str]:
    listed = api.selections.ListSelections(ListSelectionsRequest(user_id=user.id)).selections
    return [selection.id for selection in listed]


def assert_last_admin(failure: Failure, organization: Organization) -> None:
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "LAST_ADMIN")
    assert failure.metadata == {"organization_id": organization.id}


def test_create_makes_the_user_its_only_member_and_admin(api: Api) -> None:
    user = api.user()
    request = CreateOrganizationRequest(organization=Organization(name="Sales"), user_id=user.id)
    created = api.organizations.CreateOrganization(request)
    assert created.id
    assert created.etag
    assert created.name == "Sales"
    assert created.create_time == created.update_time
    assert get(api, created) == created
    (member,) = members(api, created)
    assert (member.organization_id, member.user_id, member.role) == (created.id, user.id, ADMIN)
    assert member.id
    assert member.etag


def test_create_makes_the_caller_its_admin(callers: Callers) -> None:
    caller = callers.user("user_1")
    created = caller.organizations.CreateOrganization(CreateOrganizationRequest(organization=Organization(name="Mine")))
    user = caller.users.GetUser(GetUserRequest(clerk_id="user_1"))
    assert [(member.user_id, member.role) for member in members(caller, created)] == [(user.id, ADMIN)]
    listed = caller.organizations.ListOrganizations(ListOrganizationsRequest())
    assert list(listed.organizations) == [created]


def test_create_wants_a_name_and_where_calls_are_not_authenticated_a_user(api: Api, database: Database) -> None:
    request = CreateOrganizationRequest(organization=Organization(), user_id=api.user().id)
    before = contents(database)
    failure = fails(api.organizations.CreateOrganization, request)
    assert list(failure.violations) == ["organization.name"]
    request = CreateOrganizationRequest(organization=Organization(name="Sales"))
    failure = fails(api.organizations.CreateOrganization, request)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["user_id"]
    assert contents(database) == before


def test_create_of_an_unknown_user_leaves_no_organization(api: Api, database: Database) -> None:
    request = CreateOrganizationRequest(organization=Organization(name="Sales"), user_id="nobody")
    failure = fails(api.organizations.CreateOrganization, request)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "nobody"}
    assert contents(database)["organizations"] == []


def test_several_organizations_may_have_one_name(api: Api) -> None:
    user = api.user()
    request = CreateOrganizationRequest(organization=Organization(name="Sales"), user_id=user.id)
    ids = [api.organizations.CreateOrganization(request).id for _ in range(3)]
    assert [organization.id for organization in organizations(api, user)] == sorted(ids)


def test_a_user_s_organizations_are_listed_by_name_and_no_other(api: Api) -> None:
    user = api.user()
    for name in ("b", "B", "a-b", "a", "é"):
        request = CreateOrganizationRequest(organization=Organization(name=name), user_id=user.id)
        api.organizations.CreateOrganization(request)
    other = api.organization()
    assert [organization.name for organization in organizations(api, user)] == ["B", "a", "a-b", "b", "é"]
    api.member(other, user, "VIEWER")
    assert other in organizations(api, user)


def test_list_tells_an_unknown_user_from_one_in_no_organization(api: Api) -> None:
    assert organizations(api, api.user()) == []
    failure = fails(organizations, api, User(id="nobody"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "nobody"}


def test_members_are_listed_the_oldest_first_whatever_changed_since(api: Api) -> None:
    organization = api.organization()
    first = admin(api, organization)
    added = [api.member(organization, role=role) for role in ("VIEWER", "ADMIN", "MEMBER")]
    api.member(api.organization())
    assert members(api, organization) == [first, *added]
    changed = demote(api, added[1])
    assert members(api, organization) == [first, added[0], changed, added[2]]


def test_the_members_of_no_organization_are_not_found(api: Api) -> None:
    failure = fails(members, api, Organization(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "ORGANIZATION_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_a_member_has_the_role_that_it_was_added_with(api: Api) -> None:
    organization, user = api.organization(), api.user()
    for role in (VIEWER, MEMBER, ADMIN):
        body = Member(organization_id=organization.id, user_id=user.id, role=role)
        added = api.organizations.AddMember(AddMemberRequest(member=body))
        assert (added.organization_id, added.user_id, added.role) == (organization.id, user.id, role)
        assert added.create_time == added.update_time
        assert api.organizations.GetMember(GetMemberRequest(id=added.id)) == added
        remove(api, added)


def test_a_change_of_a_member_does_not_change_the_organization(api: Api) -> None:
    organization = api.organization()
    remove(api, demote(api, api.member(organization), VIEWER))
    assert get(api, organization) == organization


@pytest.mark.parametrize("role", ["ADMIN", "VIEWER"])
def test_who_is_a_member_is_not_added_again(api: Api, role: str) -> None:
    organization = api.organization()
    user = api.user()
    before = api.member(organization, user)
    failure = fails(api.member, organization, user, role)
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "MEMBER_ALREADY_EXISTS")
    assert failure.metadata == {"field": "member.user_id"}
    assert api.organizations.GetMember(GetMemberRequest(id=before.id)) == before
    # Elsewhere, and after leaving, it is.
    api.member(api.organization(), user, role)
    remove(api, before)
    assert api.member(organization, user, role).id != before.id


def test_add_names_what_does_not_exist(api: Api) -> None:
    organization, user = api.organization(), api.user()
    failure = fails(api.member, Organization(id="none"), user)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "ORGANIZATION_NOT_FOUND")
    assert failure.metadata == {"id": "none"}
    failure = fails(api.member, organization, User(id="nobody"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "nobody"}


def test_add_wants_a_role(api: Api) -> None:
    body = Member(organization_id=api.organization().id, user_id=api.user().id)
    failure = fails(api.organizations.AddMember, AddMemberRequest(member=body))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["member.role"]


@pytest.mark.parametrize("role", [MEMBER, VIEWER])
def test_the_last_admin_is_not_demoted(api: Api, database: Database, role: OrganizationRole.ValueType) -> None:
    organization = api.organization()
    first = admin(api, organization)
    api.member(organization)
    # An ADMIN of another organization is none here.
    api.organization()
    before = contents(database)
    assert_last_admin(fails(demote, api, first, role), organization)
    assert contents(database) == before
    assert demote(api, first, ADMIN) == first
    api.member(organization, role="ADMIN")
    assert demote(api, first, role).role == role


def test_the_last_admin_is_not_removed(api: Api, database: Database) -> None:
    organization = api.organization()
    first = admin(api, organization)
    api.member(organization)
    before = contents(database)
    assert_last_admin(fails(remove, api, first), organization)
    assert contents(database) == before
    second = api.member(organization, role="ADMIN")
    assert remove(api, first) == Empty()
    assert_last_admin(fails(remove, api, second), organization)


def test_a_user_who_is_the_last_admin_somewhere_is_deleted(api: Api) -> None:
    user = api.user()
    shared, own = api.organization(user), api.organization(user)
    api.member(shared, role="ADMIN")
    api.member(own)
    assert api.users.DeleteUser(DeleteUserRequest(id=user.id)) == Empty()
    assert [member.user_id for member in (*members(api, shared), *members(api, own)) if member.user_id == user.id] == []
    assert [get(api, organization) for organization in (shared, own)] == [shared, own]


def test_a_user_who_is_deleted_takes_memberships_selections_and_keys_along(api: Api, database: Database) -> None:
    organization, template = api.organization(), api.template()
    before = contents(database)
    user = api.user()
    api.member(organization, user)
    api.select(user, template, organization.id)
    api.key(user_id=user.id)
    api.key(user_id=user.id, organization_id=organization.id)
    assert api.users.DeleteUser(DeleteUserRequest(id=user.id)) == Empty()
    assert contents(database) == before


def test_an_author_of_an_organization_is_not_deleted(api: Api) -> None:
    organization, user = api.organization(), api.user()
    api.member(organization, user)
    api.template(user_id=user.id, organization_id=organization.id)
    failure = fails(api.users.DeleteUser, DeleteUserRequest(id=user.id))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "USER_IN_USE")
    assert failure.metadata == {"templates": "1"}


def test_an_organization_with_templates_is_not_deleted(api: Api, database: Database) -> None:
    user = api.user()
    organization, other = api.organization(user), api.organization(user)
    templates = [api.template(user_id=user.id, organization_id=organization.id, select=True) for _ in range(2)]
    api.template(user_id=user.id, organization_id=other.id)
    api.key(user_id=user.id, organization_id=organization.id)
    before = contents(database)
    failure = fails(api.organizations.DeleteOrganization, DeleteOrganizationRequest(id=organization.id))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "ORGANIZATION_IN_USE")
    assert failure.metadata == {"templates": "2"}
    assert contents(database) == before
    for template in templates:
        api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    assert api.organizations.DeleteOrganization(DeleteOrganizationRequest(id=organization.id)) == Empty()


def test_delete_takes_members_and_what_is_theirs_there_and_nothing_else(api: Api) -> None:
    user = api.user()
    organization, other = api.organization(user), api.organization(user)
    template = api.template(user_id=user.id)
    kept = [api.select(user, template).id, api.select(user, template, other.id).id]
    api.select(user, template, organization.id)
    everywhere = api.key(user_id=user.id).api_key.id
    elsewhere = api.key(user_id=user.id, organization_id=other.id).api_key.id
    api.key(user_id=user.id, organization_id=organization.id)
    gone = [admin(api, organization), api.member(organization)]

    assert api.organizations.DeleteOrganization(DeleteOrganizationRequest(id=organization.id)) == Empty()
    assert fails(get, api, organization).metadata == {"id": organization.id}
    assert organizations(api, user) == [other]
    for member in gone:
        failure = fails(api.organizations.GetMember, GetMemberRequest(id=member.id))
        assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "MEMBER_NOT_FOUND")
        assert failure.metadata == {"id": member.id}
    assert sorted(selected(api, user)) == sorted(kept)
    assert keys(api, user) == [elsewhere, everywhere]
    assert api.templates.GetTemplate(GetTemplateRequest(id=template.id)) == template


def test_who_is_removed_loses_selections_and_keys_there_and_the_templates_stay(api: Api) -> None:
    organization, other, user = api.organization(), api.organization(), api.user()
    member = api.member(organization, user)
    api.member(other, user)
    template = api.template(user_id=user.id, organization_id=organization.id, is_default=True, select=True)
    public = api.template(user_id=user.id)
    api.select(user, public, organization.id)
    kept = [api.select(user, public).id, api.select(user, public, other.id).id]
    everywhere = api.key(user_id=user.id).api_key.id
    elsewhere = api.key(user_id=user.id, organization_id=other.id).api_key.id
    api.key(user_id=user.id, organization_id=organization.id)

    assert remove(api, member) == Empty()
    assert sorted(selected(api, user)) == sorted(kept)
    assert keys(api, user) == [elsewhere, everywhere]
    assert api.templates.GetTemplate(GetTemplateRequest(id=template.id)) == template
    assert organizations(api, user) == [other]


def test_an_organization_is_renamed(api: Api) -> None:
    organization = api.organization()
    request = UpdateOrganizationRequest(
        organization=Organization(id=organization.id, name="Support", etag=organization.etag),
        update_mask=FieldMask(paths=["name"]),
    )
    renamed = api.organizations.UpdateOrganization(request)
    assert renamed.name == "Support"
    assert get(api, organization) == renamed


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("GetOrganization", GetOrganizationRequest(id="none"), "ORGANIZATION_NOT_FOUND"),
        (
            "UpdateOrganization",
            UpdateOrganizationRequest(organization=Organization(id="none", name="A name")),
            "ORGANIZATION_NOT_FOUND",
        ),
        ("DeleteOrganization", DeleteOrganizationRequest(id="none"), "ORGANIZATION_NOT_FOUND"),
        ("GetMember", GetMemberRequest(id="none"), "MEMBER_NOT_FOUND"),
        ("UpdateMember", UpdateMemberRequest(member=Member(id="none", role=VIEWER)), "MEMBER_NOT_FOUND"),
        ("RemoveMember", RemoveMemberRequest(id="none"), "MEMBER_NOT_FOUND"),
    ],
)
def test_every_method_names_an_unknown_id(api: Api, method: str, request_: Any, reason: str) -> None:
    failure = fails(getattr(api.organizations, method), request_)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, reason)
    assert failure.metadata == {"id": "none"}


def test_who_is_no_member_learns_nothing_of_an_organization(api: Api, callers: Callers) -> None:
    organization = api.organization()
    member = admin(api, organization)
    stranger = callers.user("user_stranger")
    for unknown, known in (
        (fails(get, stranger, Organization(id="none")), fails(get, stranger, organization)),
        (fails(members, stranger, Organization(id="none")), fails(members, stranger, organization)),
        (fails(demote, stranger, Member(id="none")), fails(demote, stranger, member)),
        (fails(remove, stranger, Member(id="none")), fails(remove, stranger, member)),
    ):
        assert (known.code, known.reason, known.message) == (unknown.code, unknown.reason, unknown.message)
        assert known.metadata in ({"id": organization.id}, {"id": member.id})
