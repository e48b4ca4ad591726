"""Invitations: who is to be a member is asked, and bound to nothing by not having answered."""

import pytest
from grpc import StatusCode

from omniflo.templates.v1.organization_pb2 import Invitation, Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AcceptInvitationRequest,
    AddMemberRequest,
    CreateOrganizationRequest,
    DeclineInvitationRequest,
    DeleteOrganizationRequest,
    InviteMemberRequest,
    ListInvitationsRequest,
    ListMembersRequest,
    RemoveMemberRequest,
    UpdateMemberRequest,
    UpdateOrganizationRequest,
)
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from service.actor import SYSTEM
from service.operations import invitations as operations
from service.operations import maintenance
from tests.conftest import PLATFORM_ADMIN, Api, Callers, Database, Failure, fails
from tests.contract.tables import contents

ADMIN = OrganizationRole.ORGANIZATION_ROLE_ADMIN
VIEWER = OrganizationRole.ORGANIZATION_ROLE_VIEWER

EXPIRE = "update organization_invitations set expire_time = now() - interval '1 second'"


def user(callers: Callers, name: str) -> tuple[Api, User]:
    api = callers.user(name)
    return api, api.users.GetUser(GetUserRequest(clerk_id=name))


def organization(api: Api) -> Organization:
    body = Organization(name="Sales")
    return api.organizations.CreateOrganization(CreateOrganizationRequest(organization=body))


def of(api: Api, place: Organization) -> list[Invitation]:
    return list(api.organizations.ListInvitations(ListInvitationsRequest(organization_id=place.id)).invitations)


def mine(api: Api) -> list[Invitation]:
    return list(api.organizations.ListInvitations(ListInvitationsRequest()).invitations)


def members(api: Api, place: Organization) -> list[Member]:
    return list(api.organizations.ListMembers(ListMembersRequest(organization_id=place.id)).members)


def decline(api: Api, invitation: Invitation) -> None:
    api.organizations.DeclineInvitation(DeclineInvitationRequest(id=invitation.id))


def assert_gone(failure: Failure, invitation: Invitation) -> None:
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "INVITATION_NOT_FOUND")
    assert failure.metadata == {"id": invitation.id}


def test_an_admin_invites_and_the_user_accepts(callers: Callers) -> None:
    (admin, inviter), (guest, invited) = user(callers, "user_a"), user(callers, "user_b")
    place = organization(admin)
    invitation = admin.invitation(place, invited, "VIEWER")
    assert invitation.id
    assert (invitation.organization_id, invitation.organization_name) == (place.id, "Sales")
    assert (invitation.user_id, invitation.inviter_id, invitation.role) == (invited.id, inviter.id, VIEWER)
    seconds = invitation.expire_time.ToNanoseconds() / 1e9 - invitation.create_time.ToNanoseconds() / 1e9
    assert seconds == 7 * 86400
    assert of(admin, place) == mine(guest) == [invitation]
    assert fails(members, guest, place).reason == "ORGANIZATION_NOT_FOUND"
    member = guest.accept(invitation)
    assert (member.organization_id, member.user_id, member.role) == (place.id, invited.id, VIEWER)
    assert members(guest, place)[1] == member
    assert of(admin, place) == mine(guest) == []
    assert_gone(fails(guest.accept, invitation), invitation)


def test_an_admin_makes_nobody_a_member_unasked(callers: Callers, database: Database) -> None:
    admin, _ = user(callers, "user_a")
    _, invited = user(callers, "user_b")
    place = organization(admin)
    before = contents(database)
    for role in (ADMIN, VIEWER):
        body = Member(organization_id=place.id, user_id=invited.id, role=role)
        failure = fails(admin.organizations.AddMember, AddMemberRequest(member=body))
        assert (failure.code, failure.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert contents(database) == before


def test_who_was_only_invited_is_bound_to_nothing(callers: Callers, database: Database) -> None:
    """Whoever invited cannot leave either, as long as nobody has accepted."""
    (admin, _), (guest, invited) = user(callers, "user_a"), user(callers, "user_b")
    place = organization(admin)
    admin.invitation(place, invited, "ADMIN")
    (member,) = members(admin, place)
    assert fails(admin.organizations.RemoveMember, RemoveMemberRequest(id=member.id)).reason == "LAST_ADMIN"
    guest.users.DeleteUser(DeleteUserRequest(id=invited.id))
    assert contents(database)["organization_invitations"] == []


def test_the_user_declines_and_the_admin_takes_back(callers: Callers) -> None:
    (admin, _), (guest, invited) = user(callers, "user_a"), user(callers, "user_b")
    place = organization(admin)
    for ends in (guest, admin):
        invitation = admin.invitation(place, invited)
        decline(ends, invitation)
        assert of(admin, place) == []
        for api in (guest, admin):
            assert_gone(fails(decline, api, invitation), invitation)
        assert_gone(fails(guest.accept, invitation), invitation)


def test_nobody_else_sees_or_answers_an_invitation(callers: Callers, database: Database) -> None:
    (admin, _), (guest, invited), (other, them) = (user(callers, f"user_{name}") for name in "abc")
    place = organization(admin)
    other.accept(admin.invitation(place, them))
    invitation = admin.invitation(place, invited)
    stranger, _ = user(callers, "user_d")
    before = contents(database)
    for api in (other, stranger):
        assert mine(api) == []
        assert_gone(fails(api.accept, invitation), invitation)
        assert_gone(fails(decline, api, invitation), invitation)
    assert fails(of, other, place).reason == "PERMISSION_DENIED"
    assert fails(of, guest, place).reason == "ORGANIZATION_NOT_FOUND"
    assert fails(admin.accept, invitation).reason == "PERMISSION_DENIED"
    assert contents(database) == before


@pytest.mark.parametrize("role", ["ADMIN", "VIEWER"])
def test_a_user_has_one_invitation_of_an_organization(api: Api, role: str) -> None:
    place, other, invited = api.organization(), api.organization(), api.user()
    first = api.invitation(place, invited)
    failure = fails(api.invitation, place, invited, role)
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "INVITATION_ALREADY_EXISTS")
    assert failure.metadata == {"field": "invitation.user_id"}
    second = api.invitation(other, invited)
    assert list(api.organizations.ListInvitations(ListInvitationsRequest(user_id=invited.id)).invitations) == [
        second,
        first,
    ]


def test_who_is_a_member_is_not_invited(api: Api) -> None:
    place, member = api.organization(), api.user()
    api.member(place, member)
    failure = fails(api.invitation, place, member)
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "MEMBER_ALREADY_EXISTS")
    assert failure.metadata == {"field": "invitation.user_id"}


def test_who_is_added_needs_no_invitation_any_more(api: Api) -> None:
    place, invited = api.organization(), api.user()
    invitation = api.invitation(place, invited)
    api.member(place, invited)
    assert_gone(fails(api.accept, invitation), invitation)
    assert of(api, place) == []


def test_an_invitation_that_has_expired_is_gone(api: Api, database: Database) -> None:
    place, invited = api.organization(), api.user()
    invitation = api.invitation(place, invited)
    database.query(EXPIRE)
    assert of(api, place) == []
    assert_gone(fails(api.accept, invitation), invitation)
    assert_gone(fails(decline, api, invitation), invitation)
    again = api.invitation(place, invited, "ADMIN")
    assert again.id != invitation.id
    assert api.accept(again).role == ADMIN


def test_what_has_expired_is_purged(api: Api, database: Database) -> None:
    place = api.organization()
    for _ in range(3):
        api.invitation(place)
    database.query(EXPIRE)
    kept = api.invitation(place)
    assert maintenance.purge_invitations(SYSTEM) == 3
    assert maintenance.purge_invitations(SYSTEM) == 0
    assert of(api, place) == [kept]


@pytest.mark.parametrize("way", ["leaves", "is demoted", "is deleted", "is removed by hand"])
def test_an_invitation_ends_with_the_right_of_who_made_it(callers: Callers, database: Database, way: str) -> None:
    (admin, _), (second, them), (guest, invited) = (user(callers, f"user_{name}") for name in "abc")
    place = organization(admin)
    member = second.accept(admin.invitation(place, them, "ADMIN"))
    invitation = second.invitation(place, invited, "ADMIN")
    kept = admin.invitation(place, user(callers, "user_d")[1])
    match way:
        case "leaves":
            second.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
        case "is demoted":
            body = Member(id=member.id, role=VIEWER)
            admin.organizations.UpdateMember(UpdateMemberRequest(member=body))
        case "is deleted":
            second.users.DeleteUser(DeleteUserRequest(id=them.id))
        case _:
            database.query("delete from organization_members where id = %s", (member.id,))
    assert_gone(fails(guest.accept, invitation), invitation)
    assert of(admin, place) == [kept]


def test_an_invitation_ends_with_its_organization_and_its_user(api: Api, database: Database) -> None:
    place, invited = api.organization(), api.user()
    api.invitation(place, invited)
    api.users.DeleteUser(DeleteUserRequest(id=invited.id))
    assert contents(database)["organization_invitations"] == []
    api.invitation(place)
    api.organizations.DeleteOrganization(DeleteOrganizationRequest(id=place.id))
    assert contents(database)["organization_invitations"] == []


def test_an_invitation_has_the_name_that_the_organization_has_now(api: Api) -> None:
    place = api.organization()
    api.invitation(place)
    renamed = Organization(id=place.id, name="Renamed")
    api.organizations.UpdateOrganization(UpdateOrganizationRequest(organization=renamed))
    assert [invitation.organization_name for invitation in of(api, place)] == ["Renamed"]


def test_invite_names_what_does_not_exist_and_wants_a_role(api: Api) -> None:
    place = api.organization()
    failure = fails(api.invitation, Organization(id="none"), api.user())
    assert (failure.reason, failure.metadata) == ("ORGANIZATION_NOT_FOUND", {"id": "none"})
    failure = fails(api.invitation, place, User(id="nobody"))
    assert (failure.reason, failure.metadata) == ("USER_NOT_FOUND", {"id": "nobody"})
    body = Invitation(organization_id=place.id, user_id=api.user().id)
    failure = fails(api.organizations.InviteMember, InviteMemberRequest(invitation=body))
    assert list(failure.violations) == ["invitation.role"]


def test_an_administrator_of_the_platform_adds_members(callers: Callers) -> None:
    (admin, _), (guest, invited) = user(callers, "user_a"), user(callers, "user_b")
    place = organization(admin)
    body = Member(organization_id=place.id, user_id=invited.id, role=VIEWER)
    added = callers.user(PLATFORM_ADMIN).organizations.AddMember(AddMemberRequest(member=body))
    assert members(guest, place)[1] == added


def test_an_accepted_invitation_is_accepted_once(api: Api) -> None:
    place = api.organization()
    invitation = api.invitation(place)
    request = AcceptInvitationRequest(id=invitation.id, request_id="order-17")
    first = api.organizations.AcceptInvitation(request)
    assert api.organizations.AcceptInvitation(request) == first
    assert len(members(api, place)) == 2


def test_the_days_in_the_protos_are_those_of_the_service() -> None:
    assert operations.LIFE_DAYS == 7
