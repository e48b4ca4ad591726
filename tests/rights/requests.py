"""A request of each method that is in order for every caller, before the field that a cell is about is put into it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.change_service_pb2 import ListChangesRequest, WatchChangesRequest
from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ImportModelRequest,
    ListAvailableModelsRequest,
    ListModelsRequest,
    RefreshModelsRequest,
    ReplaceModelRequest,
    UpdateModelRequest,
)
from omniflo.templates.v1.organization_pb2 import Invitation, Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AcceptInvitationRequest,
    AddMemberRequest,
    CreateOrganizationRequest,
    DeclineInvitationRequest,
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
from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingRunner, ProcessingStatus
from omniflo.templates.v1.processing_service_pb2 import (
    CancelProcessingRequest,
    CreateProcessingRecordRequest,
    DeleteProcessingRecordRequest,
    GetProcessingRecordRequest,
    ListProcessingRecordsRequest,
    RetryProcessingRequest,
    UpdateProcessingRecordRequest,
    WatchProcessingRecordRequest,
)
from omniflo.templates.v1.selection_service_pb2 import (
    BatchResolveTemplatesRequest,
    DeleteSelectionRequest,
    GetSelectionRequest,
    ListSelectionsRequest,
    ResolveTemplateRequest,
    SetSelectionRequest,
)
from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    BatchRenderTemplatesRequest,
    CreateTemplateRequest,
    DeleteTemplateLabelRequest,
    DeleteTemplateRequest,
    DiffTemplateRevisionsRequest,
    GetTemplateRequest,
    GetTemplateRevisionRequest,
    ListTemplateRevisionsRequest,
    ListTemplatesRequest,
    RenderTemplateRequest,
    ResolutionKey,
    RestoreTemplateRevisionRequest,
    SetTemplateLabelRequest,
    SyncTemplateRequest,
    UndeleteTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType, TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import (
    CreateTemplateToolRequest,
    CreateTemplateTypeRequest,
    DeleteTemplateToolRequest,
    DeleteTemplateTypeRequest,
    GetTemplateToolRequest,
    GetTemplateTypeRequest,
    GetTemplateTypeRevisionRequest,
    ListTemplateToolsRequest,
    ListTemplateTypeRevisionsRequest,
    ListTemplateTypesRequest,
    UpdateTemplateToolRequest,
    UpdateTemplateTypeRequest,
)
from omniflo.templates.v1.usage_pb2 import Usage
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest, RecordUsageRequest
from omniflo.templates.v1.user_service_pb2 import (
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ProvisionUserRequest,
)
from tests.rights.world import Caller

FULL = TemplateView.TEMPLATE_VIEW_FULL
VIEWER = OrganizationRole.ORGANIZATION_ROLE_VIEWER
WRITE = ApiKeyScope.API_KEY_SCOPE_WRITE
FILE_SEARCH = OpenAIToolType.OPEN_AI_TOOL_TYPE_FILE_SEARCH


def _create_template(caller: Caller) -> Message:
    template = Template(title="New", instructions="Do.", user_id=caller.named, template_type="kind", model="gpt")
    return CreateTemplateRequest(template=template, view=FULL)


def _update_template(_: Caller) -> Message:
    return UpdateTemplateRequest(template=Template(id="wide-author", title="Changed"), view=FULL)


def _set_selection(caller: Caller) -> Message:
    """Select what is platform-wide, in the organization of the caller."""
    return SetSelectionRequest(
        user_id=caller.named,
        template_type="kind",
        template_id="wide-author",
        organization_id=caller.organization,
        view=FULL,
    )


def _add_member(caller: Caller) -> Message:
    # The admin service for a platform's admin has no organization, so it asks for another's.
    organization = caller.organization or "house"
    return AddMemberRequest(member=Member(organization_id=organization, user_id="recluse", role=VIEWER))


def _invite(caller: Caller) -> Message:
    organization = caller.organization or "house"
    return InviteMemberRequest(invitation=Invitation(organization_id=organization, user_id="recluse", role=VIEWER))


def _create_key(caller: Caller) -> Message:
    # A key that is limited makes none without the limit.
    limit = caller.organization if caller.is_limited else ""
    key = ApiKey(name="New", user_id=caller.named, organization_id=limit, scope=WRITE)
    return CreateApiKeyRequest(api_key=key)


def _record_usage(caller: Caller) -> Message:
    limit = caller.organization if caller.is_limited else ""
    return RecordUsageRequest(
        usages=[Usage(event_id="new", user_id=caller.named, organization_id=limit, duration=Duration(seconds=1))]
    )


def _create_record(caller: Caller) -> Message:
    record = ProcessingRecord(
        filename="new.pdf",
        user_id=caller.named,
        organization_id=caller.organization,
        status=ProcessingStatus.PROCESSING_STATUS_COMPLETED,
        template_id="wide-author",
        runner=ProcessingRunner.PROCESSING_RUNNER_CALLER,
    )
    return CreateProcessingRecordRequest(record=record)


REQUESTS: dict[str, Callable[[Caller], Message]] = {
    "ProvisionUser": lambda _: ProvisionUserRequest(),
    "GetUser": lambda _: GetUserRequest(),
    "ListUsers": lambda _: ListUsersRequest(),
    "DeleteUser": lambda _: DeleteUserRequest(),
    "CreateTemplateType": lambda _: CreateTemplateTypeRequest(template_type=TemplateType(name="new")),
    "GetTemplateType": lambda _: GetTemplateTypeRequest(),
    "ListTemplateTypes": lambda _: ListTemplateTypesRequest(),
    "UpdateTemplateType": lambda _: UpdateTemplateTypeRequest(template_type=TemplateType(description="Changed.")),
    "DeleteTemplateType": lambda _: DeleteTemplateTypeRequest(),
    "CreateTemplateTool": lambda _: CreateTemplateToolRequest(
        template_tool=TemplateTool(template_type="kind", name="new", type=FILE_SEARCH)
    ),
    "GetTemplateTool": lambda _: GetTemplateToolRequest(),
    "ListTemplateTools": lambda _: ListTemplateToolsRequest(),
    "UpdateTemplateTool": lambda _: UpdateTemplateToolRequest(template_tool=TemplateTool(description="Changed.")),
    "DeleteTemplateTool": lambda _: DeleteTemplateToolRequest(),
    "CreateModel": lambda _: CreateModelRequest(model=Model(openai_id="new", name="New")),
    "GetModel": lambda _: GetModelRequest(),
    "ListModels": lambda _: ListModelsRequest(),
    "UpdateModel": lambda _: UpdateModelRequest(model=Model(name="Changed")),
    "DeleteModel": lambda _: DeleteModelRequest(),
    "ImportModel": lambda _: ImportModelRequest(),
    "ListAvailableModels": lambda _: ListAvailableModelsRequest(),
    "RefreshModels": lambda _: RefreshModelsRequest(),
    "ReplaceModel": lambda _: ReplaceModelRequest(old_openai_id="gpt", new_openai_id="gpt-other"),
    "CreateTemplate": _create_template,
    "GetTemplate": lambda _: GetTemplateRequest(view=FULL),
    "BatchGetTemplates": lambda _: BatchGetTemplatesRequest(view=FULL),
    "ListTemplates": lambda _: ListTemplatesRequest(view=FULL),
    "UpdateTemplate": _update_template,
    "DeleteTemplate": lambda _: DeleteTemplateRequest(),
    "UndeleteTemplate": lambda _: UndeleteTemplateRequest(view=FULL),
    "SyncTemplate": lambda _: SyncTemplateRequest(),
    "GetTemplateRevision": lambda _: GetTemplateRevisionRequest(revision=1, view=FULL),
    "ListTemplateRevisions": lambda _: ListTemplateRevisionsRequest(view=FULL),
    "DiffTemplateRevisions": lambda _: DiffTemplateRevisionsRequest(from_revision=1, to_revision=1),
    "RestoreTemplateRevision": lambda _: RestoreTemplateRevisionRequest(revision=1, view=FULL),
    "SetTemplateLabel": lambda _: SetTemplateLabelRequest(label="staging", revision=1),
    "DeleteTemplateLabel": lambda _: DeleteTemplateLabelRequest(label="staging"),
    "GetTemplateTypeRevision": lambda _: GetTemplateTypeRevisionRequest(revision=1),
    "ListTemplateTypeRevisions": lambda _: ListTemplateTypeRevisionsRequest(),
    "RenderTemplate": lambda caller: RenderTemplateRequest(
        resolve=ResolutionKey(user_id=caller.named, template_type="kind", organization_id=caller.organization)
    ),
    "BatchRenderTemplates": lambda caller: BatchRenderTemplatesRequest(
        user_id=caller.named, template_types=["kind"], organization_id=caller.organization
    ),
    "SetSelection": _set_selection,
    "GetSelection": lambda caller: GetSelectionRequest(
        user_id=caller.named, template_type="kind", organization_id=caller.organization, view=FULL
    ),
    "ListSelections": lambda caller: ListSelectionsRequest(user_id=caller.named, view=FULL),
    "DeleteSelection": lambda caller: DeleteSelectionRequest(
        user_id=caller.named, template_type="kind", organization_id=caller.organization
    ),
    "ResolveTemplate": lambda caller: ResolveTemplateRequest(
        user_id=caller.named, template_type="kind", organization_id=caller.organization, view=FULL
    ),
    "BatchResolveTemplates": lambda caller: BatchResolveTemplatesRequest(
        user_id=caller.named, template_types=["kind"], organization_id=caller.organization, view=FULL
    ),
    "CreateOrganization": lambda caller: CreateOrganizationRequest(
        organization=Organization(name="New"), user_id=caller.named
    ),
    "GetOrganization": lambda _: GetOrganizationRequest(),
    "ListOrganizations": lambda caller: ListOrganizationsRequest(user_id=caller.named),
    "UpdateOrganization": lambda _: UpdateOrganizationRequest(organization=Organization(name="Changed")),
    "DeleteOrganization": lambda _: DeleteOrganizationRequest(),
    "AddMember": _add_member,
    "GetMember": lambda _: GetMemberRequest(),
    "ListMembers": lambda _: ListMembersRequest(),
    "UpdateMember": lambda _: UpdateMemberRequest(member=Member(role=OrganizationRole.ORGANIZATION_ROLE_MEMBER)),
    "RemoveMember": lambda _: RemoveMemberRequest(),
    "InviteMember": _invite,
    "AcceptInvitation": lambda _: AcceptInvitationRequest(),
    "DeclineInvitation": lambda _: DeclineInvitationRequest(),
    "ListInvitations": lambda caller: ListInvitationsRequest(user_id=caller.named),
    "CreateApiKey": _create_key,
    "GetApiKey": lambda _: GetApiKeyRequest(),
    "ListApiKeys": lambda caller: ListApiKeysRequest(user_id=caller.named),
    "UpdateApiKey": lambda _: UpdateApiKeyRequest(api_key=ApiKey(name="Changed")),
    "RevokeApiKey": lambda _: RevokeApiKeyRequest(),
    "RotateApiKey": lambda _: RotateApiKeyRequest(),
    "CreateProcessingRecord": _create_record,
    "GetProcessingRecord": lambda _: GetProcessingRecordRequest(),
    "ListProcessingRecords": lambda caller: ListProcessingRecordsRequest(user_id=caller.named),
    "UpdateProcessingRecord": lambda _: UpdateProcessingRecordRequest(
        record=ProcessingRecord(status=ProcessingStatus.PROCESSING_STATUS_PROCESSING)
    ),
    "WatchProcessingRecord": lambda _: WatchProcessingRecordRequest(),
    "CancelProcessing": lambda _: CancelProcessingRequest(),
    "RetryProcessing": lambda _: RetryProcessingRequest(),
    "DeleteProcessingRecord": lambda _: DeleteProcessingRecordRequest(),
    "WatchChanges": lambda _: WatchChangesRequest(include_values=True),
    "ListChanges": lambda _: ListChangesRequest(page_size=1000),
    "RecordUsage": _record_usage,
    "QueryUsage": lambda _: QueryUsageRequest(start_time=Timestamp(seconds=int(time.time()) - 3600)),
}
"""Where a user is named, it is the caller. What names the thing itself, each cell puts in."""


def _as_default(request: Any) -> None:
    request.template.is_default = True


def _unmade(request: Any) -> None:
    request.template.is_default = False
    request.update_mask.CopyFrom(FieldMask(paths=["is_default"]))


def _moved(request: Any) -> None:
    request.template.template_type = "spare"


def _platform_wide(request: Any) -> None:
    request.organization_id = ""


def _only_validated(request: Any) -> None:
    request.validate_only = True


def _production(request: Any) -> None:
    request.label = "production"


def _until(year: int) -> Callable[[Any], None]:
    def put(request: Any) -> None:
        request.api_key.expire_time.FromDatetime(datetime(year, 1, 1, tzinfo=UTC))

    return put


VARIANTS: dict[str, Callable[[Any], None]] = {
    "as default": _as_default,
    "unmade": _unmade,
    "moved": _moved,
    "platform-wide": _platform_wide,
    "only validated": _only_validated,
    "production": _production,
    "until 2060": _until(2060),
    "until 2080": _until(2080),
}
"""What else a row may do to the request than to name a thing."""

PREPARATIONS = {
    "DeleteUser": "delete from templates",
    "DeleteOrganization": "delete from templates where organization_id is not null",
    "DeleteTemplateType": "delete from templates",
    "DeleteModel": "delete from templates",
    "DeleteTemplateLabel": """update templates set labels = labels || '{"staging": 1, "production": 1}'""",
    "RestoreTemplateRevision": "update templates set title = 'Later'",
    "UndeleteTemplate": "delete from templates",
    "RetryProcessing": "update processing_records set status = 'failed'",
}
"""SQL without which the call would be refused for another reason than the caller's rights."""
