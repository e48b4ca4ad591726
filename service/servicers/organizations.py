"""OrganizationService: organizations, their members, and invitations."""

from datetime import datetime
from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.organization_pb2 import Member, Organization
from omniflo.templates.v1.organization_service_pb2 import (
    AcceptInvitationRequest,
    AcceptInvitationResponse,
    AddMemberRequest,
    CreateOrganizationRequest,
    DeclineInvitationRequest,
    DeclineInvitationResponse,
    DeleteOrganizationRequest,
    GetMemberRequest,
    GetOrganizationRequest,
    InviteMemberRequest,
    InviteMemberResponse,
    ListInvitationsRequest,
    ListInvitationsResponse,
    ListMembersRequest,
    ListMembersResponse,
    ListOrganizationsRequest,
    ListOrganizationsResponse,
    RemoveMemberRequest,
    UpdateMemberRequest,
    UpdateOrganizationRequest,
)
from omniflo.templates.v1.organization_service_pb2_grpc import OrganizationServiceServicer
from service import actor
from service.operations import invitations, organizations
from service.servicers import decode, encode, pages
from service.servicers.writes import write


class OrganizationServicer(OrganizationServiceServicer):
    def CreateOrganization(self, request: CreateOrganizationRequest, context: ServicerContext) -> Organization:
        create = partial(organizations.create, actor.current(), name=request.organization.name, user_id=request.user_id)
        return write(request, Organization, encode.organization, create)

    def GetOrganization(self, request: GetOrganizationRequest, context: ServicerContext) -> Organization:
        return encode.organization(organizations.get(actor.current(), request.id))

    def ListOrganizations(
        self, request: ListOrganizationsRequest, context: ServicerContext
    ) -> ListOrganizationsResponse:
        page = organizations.page(
            actor.current(),
            user_id=request.user_id,
            after=pages.after(request, str, str),
            size=pages.size(request),
        )
        return ListOrganizationsResponse(
            organizations=map(encode.organization, page.rows), next_page_token=pages.token(request, page)
        )

    def UpdateOrganization(self, request: UpdateOrganizationRequest, context: ServicerContext) -> Organization:
        body = request.organization
        changes = decode.changes(body, request.update_mask)
        update = partial(organizations.update, actor.current(), body.id, changes, etag=body.etag)
        return write(request, Organization, encode.organization, update)

    def DeleteOrganization(self, request: DeleteOrganizationRequest, context: ServicerContext) -> Empty:
        delete = partial(organizations.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)

    def AddMember(self, request: AddMemberRequest, context: ServicerContext) -> Member:
        values = decode.values(request.member)
        return write(request, Member, encode.member, partial(organizations.add_member, actor.current(), **values))

    def GetMember(self, request: GetMemberRequest, context: ServicerContext) -> Member:
        return encode.member(organizations.get_member(actor.current(), request.id))

    def ListMembers(self, request: ListMembersRequest, context: ServicerContext) -> ListMembersResponse:
        page = organizations.page_of_members(
            actor.current(),
            request.organization_id,
            after=pages.after(request, datetime, str),
            size=pages.size(request),
        )
        return ListMembersResponse(members=map(encode.member, page.rows), next_page_token=pages.token(request, page))

    def UpdateMember(self, request: UpdateMemberRequest, context: ServicerContext) -> Member:
        body = request.member
        changes = decode.changes(body, request.update_mask)
        update = partial(organizations.update_member, actor.current(), body.id, changes, etag=body.etag)
        return write(request, Member, encode.member, update)

    def RemoveMember(self, request: RemoveMemberRequest, context: ServicerContext) -> Empty:
        remove = partial(organizations.remove_member, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, remove)

    def InviteMember(self, request: InviteMemberRequest, context: ServicerContext) -> InviteMemberResponse:
        invite = partial(invitations.invite, actor.current(), **decode.values(request.invitation))
        return write(request, InviteMemberResponse, encode.invited, invite)

    def AcceptInvitation(self, request: AcceptInvitationRequest, context: ServicerContext) -> AcceptInvitationResponse:
        accept = partial(invitations.accept, actor.current(), request.id)
        return write(request, AcceptInvitationResponse, encode.accepted, accept)

    def DeclineInvitation(
        self, request: DeclineInvitationRequest, context: ServicerContext
    ) -> DeclineInvitationResponse:
        decline = partial(invitations.decline, actor.current(), request.id)
        return write(request, DeclineInvitationResponse, encode.declined, decline)

    def ListInvitations(self, request: ListInvitationsRequest, context: ServicerContext) -> ListInvitationsResponse:
        page = invitations.page(
            actor.current(),
            **decode.key(request),
            after=pages.after(request, datetime, str),
            size=pages.size(request),
        )
        return ListInvitationsResponse(
            invitations=map(encode.invitation, page.rows), next_page_token=pages.token(request, page)
        )
