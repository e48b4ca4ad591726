"""The servicers on a real database, without HTTP/2 and without interceptors."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from omniflo.templates.v1 import (
    api_key_service_pb2,
    model_service_pb2,
    organization_service_pb2,
    selection_service_pb2,
    template_service_pb2,
    template_type_service_pb2,
    user_service_pb2,
)
from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ListModelsRequest,
    UpdateModelRequest,
)
from omniflo.templates.v1.organization_pb2 import Invitation, Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AcceptInvitationRequest,
    AddMemberRequest,
    CreateOrganizationRequest,
    DeclineInvitationRequest,
    DeclineInvitationResponse,
    DeleteOrganizationRequest,
    GetMemberRequest,
    GetOrganizationRequest,
    InviteMemberRequest,
    ListInvitationsRequest,
    ListMembersRequest,
    ListOrganizationsRequest,
    RemoveMemberRequest,
    UpdateMemberRequest,
    UpdateOrganizationRequest,
)
from omniflo.templates.v1.selection_service_pb2 import (
    BatchResolveTemplatesRequest,
    DeleteSelectionRequest,
    GetSelectionRequest,
    ListSelectionsRequest,
    ResolutionReason,
    ResolveTemplateRequest,
    SetSelectionRequest,
)
from omniflo.templates.v1.template_pb2 import ReasoningEffort, Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType, TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import (
    CreateTemplateToolRequest,
    CreateTemplateTypeRequest,
    DeleteTemplateToolRequest,
    GetTemplateTypeRequest,
    ListTemplateToolsRequest,
    ListTemplateTypesRequest,
    UpdateTemplateToolRequest,
    UpdateTemplateTypeRequest,
)
from omniflo.templates.v1.user_service_pb2 import (
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ProvisionUserRequest,
)
from service import actor
from service.openai_gateway import Gateway
from service.servicers.api_keys import ApiKeyServicer
from service.servicers.openai_models import ModelServicer
from service.servicers.organizations import OrganizationServicer
from service.servicers.selections import SelectionServicer
from service.servicers.template_types import TemplateTypeServicer
from service.servicers.templates import TemplateServicer
from service.servicers.users import UserServicer
from tests.conftest import Database

Call = Callable[[Message], Any]

SERVICERS: Mapping[ServiceDescriptor, object] = {
    module.DESCRIPTOR.services_by_name[f"{name}Service"]: servicer
    for module, name, servicer in (
        (user_service_pb2, "User", UserServicer()),
        (template_type_service_pb2, "TemplateType", TemplateTypeServicer()),
        (model_service_pb2, "Model", ModelServicer(Gateway(None, None))),
        (template_service_pb2, "Template", TemplateServicer()),
        (selection_service_pb2, "Selection", SelectionServicer()),
        (organization_service_pb2, "Organization", OrganizationServicer()),
        (api_key_service_pb2, "ApiKey", ApiKeyServicer()),
    )
}

# Each method has a request type of its own.
METHODS = {method.input_type.full_name: method for service in SERVICERS for method in service.methods}

SECONDS = 10.0


@pytest.fixture
def call(database: Database, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Makes the call that takes the request, and answers what its servicer answers."""
    del database
    # The interceptor that says who calls is not there.
    monkeypatch.setattr(actor, "current", lambda: actor.ANONYMOUS)
    server = grpc_testing.server_from_dictionary(SERVICERS, grpc_testing.strict_real_time())

    def make(request: Message) -> Any:
        method = METHODS[request.DESCRIPTOR.full_name]
        response, _, code, details = server.invoke_unary_unary(method, (), request, SECONDS).termination()
        assert code is grpc.StatusCode.OK, details
        assert response.DESCRIPTOR.full_name == method.output_type.full_name
        return response

    return make


@pytest.fixture
def template(call: Call) -> Template:
    """A template, with its author, its type and its model."""
    user = call(ProvisionUserRequest(clerk_id="user_1"))
    call(CreateTemplateTypeRequest(template_type=TemplateType(name="data-export")))
    call(CreateModelRequest(model=Model(openai_id="gpt-5.5", name="GPT-5.5")))
    body = Template(
        title="T", instructions="I", user_id=user.id, template_type="data-export", model="gpt-5.5", temperature=0
    )
    return call(CreateTemplateRequest(template=body))  # type: ignore[no-any-return]


def test_every_method_is_known_by_its_request() -> None:
    assert len(METHODS) == sum(len(service.methods) for service in SERVICERS)


def test_users(call: Call) -> None:
    user = call(ProvisionUserRequest(clerk_id="user_1"))
    other = call(ProvisionUserRequest(clerk_id="user_2"))
    assert call(ProvisionUserRequest(clerk_id="user_1")) == user
    assert call(GetUserRequest(id=user.id)) == call(GetUserRequest(clerk_id="user_1")) == user
    first = call(ListUsersRequest(page_size=1))
    assert list(first.users) == [other]
    second = call(ListUsersRequest(page_size=1, page_token=first.next_page_token))
    assert (list(second.users), second.next_page_token) == ([user], "")
    assert call(DeleteUserRequest(id=user.id)) == Empty()
    assert list(call(ListUsersRequest()).users) == [other]


def test_template_types_and_their_tools(call: Call) -> None:
    created = call(CreateTemplateTypeRequest(template_type=TemplateType(name="data-export", description="D")))
    body = TemplateTool(
        template_type="data-export",
        name="write",
        type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION,
        schema='{"type":  "object", "properties": {}}',
    )
    tool = call(CreateTemplateToolRequest(template_tool=body))
    assert tool.schema == '{"type":  "object", "properties": {}}'
    found = call(GetTemplateTypeRequest(name="data-export"))
    assert list(found.tools) == [tool]
    assert found.etag != created.etag
    changed = call(UpdateTemplateTypeRequest(template_type=TemplateType(id=found.id, description="E")))
    assert (changed.description, list(changed.tools)) == ("E", [tool])
    assert list(call(ListTemplateTypesRequest()).template_types) == [changed]
    renamed = call(UpdateTemplateToolRequest(template_tool=TemplateTool(id=tool.id, name="store", etag=tool.etag)))
    assert list(call(ListTemplateToolsRequest(template_type="data-export")).template_tools) == [renamed]
    assert call(DeleteTemplateToolRequest(id=tool.id)) == Empty()
    assert list(call(GetTemplateTypeRequest(id=created.id)).tools) == []


def test_models(call: Call) -> None:
    day = Date(year=2027, month=1, day=14)
    model = call(CreateModelRequest(model=Model(openai_id="gpt-4.1", name="B", shutdown_date=day)))
    assert model.shutdown_date == day
    other = call(CreateModelRequest(model=Model(openai_id="gpt-5.5", name="C")))
    changed = call(
        UpdateModelRequest(model=Model(id=other.id, name="A"), update_mask=FieldMask(paths=["name", "shutdown_date"]))
    )
    assert changed.name == "A"
    assert not changed.HasField("shutdown_date")
    assert list(call(ListModelsRequest()).models) == [changed, model]
    assert call(DeleteModelRequest(id=model.id, etag=model.etag)) == Empty()
    assert call(GetModelRequest(openai_id="gpt-5.5")) == changed


def test_templates(call: Call, template: Template) -> None:
    assert call(GetTemplateRequest(id=template.id)) == template
    assert template.HasField("temperature")
    changed = call(
        UpdateTemplateRequest(
            template=Template(
                id=template.id, is_default=True, reasoning_effort=ReasoningEffort.REASONING_EFFORT_MINIMAL
            ),
            update_mask=FieldMask(paths=["is_default", "reasoning_effort", "temperature"]),
        )
    )
    assert changed.is_default
    assert changed.reasoning_effort == ReasoningEffort.REASONING_EFFORT_MINIMAL
    assert not changed.HasField("temperature")
    (summary,) = call(ListTemplatesRequest(is_default=True, view=TemplateView.TEMPLATE_VIEW_SUMMARY)).templates
    assert (summary.id, summary.instructions) == (template.id, "")
    (full,) = call(BatchGetTemplatesRequest(ids=[template.id], view=TemplateView.TEMPLATE_VIEW_FULL)).templates
    assert (full.author.id, full.type_details.name, full.model_details.openai_id) == (
        template.user_id,
        "data-export",
        "gpt-5.5",
    )
    assert call(DeleteTemplateRequest(id=template.id)) == Empty()
    assert list(call(ListTemplatesRequest()).templates) == []


def test_selections(call: Call, template: Template) -> None:
    user = call(ProvisionUserRequest(clerk_id="user_2"))
    key = {"user_id": user.id, "template_type": "data-export"}
    selection = call(SetSelectionRequest(**key, template_id=template.id))
    assert selection.template == template
    assert call(GetSelectionRequest(**key)) == selection
    assert list(call(ListSelectionsRequest(user_id=user.id)).selections) == [selection]
    resolved = call(ResolveTemplateRequest(**key))
    assert (resolved.template, resolved.reason) == (template, ResolutionReason.RESOLUTION_REASON_SELECTED)
    batch = call(BatchResolveTemplatesRequest(user_id=user.id, template_types=["data-export", "nothing"]))
    assert [result.WhichOneof("outcome") for result in batch.results] == ["resolved", "error"]
    assert call(DeleteSelectionRequest(**key, etag=selection.etag)) == Empty()
    assert list(call(ListSelectionsRequest(user_id=user.id)).selections) == []


def test_organizations_and_their_members(call: Call) -> None:
    user, other = (call(ProvisionUserRequest(clerk_id=f"user_{number}")) for number in (1, 2))
    created = call(CreateOrganizationRequest(organization=Organization(name="A"), user_id=user.id))
    changed = call(UpdateOrganizationRequest(organization=Organization(id=created.id, name="B", etag=created.etag)))
    assert call(GetOrganizationRequest(id=created.id)) == changed
    assert list(call(ListOrganizationsRequest(user_id=user.id)).organizations) == [changed]
    (first,) = call(ListMembersRequest(organization_id=created.id)).members
    assert (first.user_id, first.role) == (user.id, OrganizationRole.ORGANIZATION_ROLE_ADMIN)
    viewer = OrganizationRole.ORGANIZATION_ROLE_VIEWER
    added = call(AddMemberRequest(member=Member(organization_id=created.id, user_id=other.id, role=viewer)))
    promoted = call(UpdateMemberRequest(member=Member(id=added.id, role=OrganizationRole.ORGANIZATION_ROLE_MEMBER)))
    assert call(GetMemberRequest(id=added.id)) == promoted
    page = call(ListMembersRequest(organization_id=created.id, page_size=1))
    assert list(page.members) == [first]
    rest = call(ListMembersRequest(organization_id=created.id, page_size=1, page_token=page.next_page_token))
    assert (list(rest.members), rest.next_page_token) == ([promoted], "")
    assert call(RemoveMemberRequest(id=added.id, etag=promoted.etag)) == Empty()
    assert call(DeleteOrganizationRequest(id=created.id, etag=changed.etag)) == Empty()
    assert list(call(ListOrganizationsRequest(user_id=user.id)).organizations) == []


def test_invitations(call: Call) -> None:
    user, other = (call(ProvisionUserRequest(clerk_id=f"user_{number}")) for number in (1, 2))
    created = call(CreateOrganizationRequest(organization=Organization(name="A"), user_id=user.id))
    body = Invitation(organization_id=created.id, user_id=other.id, role=OrganizationRole.ORGANIZATION_ROLE_VIEWER)
    first = call(InviteMemberRequest(invitation=body)).invitation
    assert first.organization_name == "A"
    assert list(call(ListInvitationsRequest(user_id=other.id)).invitations) == [first]
    assert call(DeclineInvitationRequest(id=first.id)) == DeclineInvitationResponse()
    assert list(call(ListInvitationsRequest(organization_id=created.id)).invitations) == []
    second = call(InviteMemberRequest(invitation=body)).invitation
    member = call(AcceptInvitationRequest(id=second.id)).member
    assert call(GetMemberRequest(id=member.id)) == member
    assert (member.user_id, member.role) == (other.id, body.role)


def test_api_keys(call: Call) -> None:
    user = call(ProvisionUserRequest(clerk_id="user_1"))
    body = ApiKey(name="A", user_id=user.id, scope=ApiKeyScope.API_KEY_SCOPE_READ)
    made = call(CreateApiKeyRequest(api_key=body))
    assert made.secret.startswith(f"omf_{made.api_key.id}_")
    changed = call(UpdateApiKeyRequest(api_key=ApiKey(id=made.api_key.id, name="B")))
    assert call(GetApiKeyRequest(id=changed.id)) == changed
    rotated = call(RotateApiKeyRequest(id=changed.id, etag=changed.etag))
    assert rotated.secret.startswith(f"omf_{made.api_key.id}_")
    assert rotated.secret != made.secret
    revoked = call(RevokeApiKeyRequest(id=changed.id, etag=rotated.api_key.etag)).api_key
    assert revoked.HasField("revoke_time")
    assert list(call(ListApiKeysRequest(user_id=user.id)).api_keys) == [revoked]


def test_a_write_that_is_sent_again_is_answered_again_and_not_done_again(call: Call, database: Database) -> None:
    request = CreateModelRequest(model=Model(openai_id="gpt-5.5", name="N"), request_id="order-17")
    created = call(request)
    call(UpdateModelRequest(model=Model(id=created.id, name="changed since")))
    assert call(request) == created
    delete = DeleteModelRequest(id=created.id, request_id="order-17")
    assert call(delete) == call(delete) == Empty()
    assert database.query("select request_id, method from idempotency_keys order by method") == [
        ("order-17", "omniflo.templates.v1.CreateModel"),
        ("order-17", "omniflo.templates.v1.DeleteModel"),
    ]


def test_a_write_that_fails_keeps_no_answer(call: Call, template: Template, database: Database) -> None:
    delete = DeleteUserRequest(id=template.user_id, request_id="order-17")
    with pytest.raises(AssertionError, match="author of templates"):
        call(delete)
    assert database.query("select * from idempotency_keys") == []
    call(DeleteTemplateRequest(id=template.id))
    assert call(delete) == Empty()
