"""A request of each method that succeeds, with what it needs; and for each list, rows to walk over."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.change_pb2 import ChangeKind
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
from omniflo.templates.v1.processing_record_pb2 import (
    ProcessingRecord,
    ProcessingRunner,
    ProcessingStatus,
    TokenUsage,
)
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
from omniflo.templates.v1.template_pb2 import ReasoningEffort, Template, Variable, Verbosity
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
from omniflo.templates.v1.template_type_pb2 import CodeInterpreterConfig, OpenAIToolType, TemplateTool, TemplateType
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
from omniflo.templates.v1.usage_pb2 import Usage, UsageGranularity, UsageGroup
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest, RecordUsageRequest
from omniflo.templates.v1.user_service_pb2 import (
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ProvisionUserRequest,
)
from service.actor import SYSTEM
from service.operations import assistants
from service.operations.assistants import Hints
from tests.conftest import Api
from tests.contract.methods import Field, Method
from tests.openai_stand_in import MODELS

INTERPRETER = OpenAIToolType.OPEN_AI_TOOL_TYPE_CODE_INTERPRETER
FUNCTION = OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION
SCHEMA = '{"type": "object", "properties": {"page": {"type": "integer"}}}'

_numbers = itertools.count(1)
_served = itertools.cycle(name for name, end in MODELS.items() if end is not None)


@dataclass
class Rows:
    """What a list answers, and how to change it."""

    request: Message
    add: Callable[[], str]
    """Adds a row that the request asks for and answers its id."""
    remove: Callable[[str], object]
    """Removes the row of an id."""
    copy: str
    """SQL that makes 1,001 rows of the one whose id is the parameter, all of which the request asks for."""


def of(api: Api, method: Method) -> Message:
    """Answer a request that succeeds, after creating what it needs."""
    if method.name in ROWS:
        rows = ROWS[method.name](api)
        rows.add()
        return rows.request
    return SAMPLES[method.name](api)


def put(request: Any, field: Field, *values: Any) -> None:
    """Put something else into the field of a sample, and what it needs into others."""
    field.put(request, *values)
    if isinstance(request, CreateProcessingRecordRequest) and field.name in {"labels", "input_text"}:
        request.record.CopyFrom(_of_run(request.record))
    if str(field) == "template.instructions":
        # These use no variable.
        request.template.ClearField("variables")
    elif str(field) == "template.variables[0].name" and "\0" not in values[0]:
        request.template.instructions = f"Do it in {{{{{values[0]}}}}}."


def new(prefix: str) -> str:
    """Answer a name that no other sample has."""
    return f"{prefix}-{next(_numbers)}"


def largest_type(api: Api) -> str:
    """Create a type with as much as a type may have, and answer its name."""
    name = api.type().name
    schema = SCHEMA + " " * (65536 - len(SCHEMA))
    description = "\N{ROCKET}" * 1024
    for _ in range(16):
        api.tool(template_type=name, type=FUNCTION, schema=schema, description=description)
    files = CodeInterpreterConfig(file_ids=["x" * 128] * 50)
    for _ in range(128 - 16):
        api.tool(template_type=name, type=INTERPRETER, code_interpreter=files, description=description)
    return name


def _create_tool(api: Api) -> CreateTemplateToolRequest:
    tool = TemplateTool(
        template_type=api.type().name,
        name=new("tool"),
        type=FUNCTION,
        description="A purpose.",
        schema=SCHEMA,
        strict=True,
    )
    return CreateTemplateToolRequest(template_tool=tool)


def _update_tool(api: Api) -> UpdateTemplateToolRequest:
    tool = TemplateTool(
        id=api.tool(type=FUNCTION, description="Before.", schema=SCHEMA).id,
        name=new("tool"),
        type=FUNCTION,
        schema='{"type": "object", "properties": {}, "title": "After"}',
        strict=False,
        description="After.",
    )
    return UpdateTemplateToolRequest(template_tool=tool)


def _create_template(api: Api) -> CreateTemplateRequest:
    return CreateTemplateRequest(
        template=Template(
            title="A title",
            description="A purpose.",
            instructions="Do it in {{language}}.",
            user_id=api.user().id,
            template_type=api.type().name,
            is_default=True,
            model=api.model().openai_id,
            temperature=0.5,
            reasoning_effort=ReasoningEffort.REASONING_EFFORT_LOW,
            variables=[Variable(name="language", description="Of the answer.", default_value="English")],
            response_format=SCHEMA,
            verbosity=Verbosity.VERBOSITY_LOW,
            max_output_tokens=1000,
            top_p=0.5,
            tool_choice="auto",
            parallel_tool_calls=True,
            disabled_tools=["search"],
            tags=["billing/invoices", "checked"],
        ),
        select=True,
    )


def _update_template(api: Api) -> UpdateTemplateRequest:
    return UpdateTemplateRequest(
        template=Template(
            id=api.template(description="Before.", instructions="Do it in {{tone}}.").id,
            title="Another title",
            description="After.",
            instructions="Do something else in {{tone}}.",
            template_type=api.type().name,
            is_default=True,
            model=api.model().openai_id,
            temperature=1.5,
            reasoning_effort=ReasoningEffort.REASONING_EFFORT_HIGH,
            variables=[Variable(name="tone", description="Of the answer.", default_value="prose")],
            response_format='{"type": "object", "properties": {}, "title": "After"}',
            verbosity=Verbosity.VERBOSITY_HIGH,
            max_output_tokens=2000,
            top_p=0.25,
            tool_choice="required",
            parallel_tool_calls=False,
            disabled_tools=["write", "run"],
            tags=["sales"],
        )
    )


def _undelete_template(api: Api) -> UndeleteTemplateRequest:
    id = api.template(is_default=True).id
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=id))
    return UndeleteTemplateRequest(id=id)


def _sync_template(api: Api) -> SyncTemplateRequest:
    """Answer the request for a template that a worker has copied."""
    id = api.template().id
    position = assistants.switch(SYSTEM, is_on=True)
    assistants.note(SYSTEM, Hints([id]), before=position, after="")
    assistants.compare(SYSTEM)
    while (held := assistants.take(SYSTEM, 60)) is not None:
        wanted = assistants.wanted(SYSTEM, held.template_id)
        assert wanted is not None
        assistants.adopt(SYSTEM, held, f"asst_{held.template_id}", "")
        assistants.wrote(SYSTEM, held, wanted.digest)
    return SyncTemplateRequest(id=id)


def _revised(api: Api) -> Template:
    """Answer a template that has two revisions."""
    template = Template(id=api.template().id, instructions="Do it differently.")
    return api.templates.UpdateTemplate(UpdateTemplateRequest(template=template))


def _labeled(api: Api) -> str:
    """Answer the id of a template with the label `staging`."""
    id = _revised(api).id
    api.templates.SetTemplateLabel(SetTemplateLabelRequest(template_id=id, label="staging", revision=1))
    return id


def _set_selection(api: Api) -> SetSelectionRequest:
    old = api.template(select=True)
    template = api.template(template_type=old.template_type)
    return SetSelectionRequest(user_id=old.user_id, template_type=template.template_type, template_id=template.id)


def _get_selection(api: Api) -> GetSelectionRequest:
    template = api.template(select=True)
    return GetSelectionRequest(user_id=template.user_id, template_type=template.template_type)


def _delete_selection(api: Api) -> DeleteSelectionRequest:
    template = api.template(select=True)
    return DeleteSelectionRequest(user_id=template.user_id, template_type=template.template_type)


def _resolve(api: Api) -> ResolveTemplateRequest:
    template = api.template(is_default=True)
    return ResolveTemplateRequest(user_id=template.user_id, template_type=template.template_type)


def _batch_resolve(api: Api) -> BatchResolveTemplatesRequest:
    selected, default = api.template(select=True), api.template(is_default=True)
    types = [selected.template_type, default.template_type]
    return BatchResolveTemplatesRequest(user_id=selected.user_id, template_types=types)


def _usd(units: int, nanos: int = 0) -> Money:
    return Money(currency_code="USD", units=units, nanos=nanos)


def _model(api: Api) -> UpdateModelRequest:
    day = Date(year=2027, month=3, day=31)
    model = Model(
        id=api.model().id,
        name="Another name",
        description="After.",
        shutdown_date=day,
        input_price=_usd(2),
        cached_input_price=_usd(0, 1),
        output_price=_usd(1_000_000),
    )
    return UpdateModelRequest(model=model)


def _refresh(api: Api) -> RefreshModelsRequest:
    """Ask for the date of a model that is here without it."""
    api.models.CreateModel(CreateModelRequest(model=Model(openai_id=next(_served), name="No date yet")))
    return RefreshModelsRequest()


def _render(api: Api) -> RenderTemplateRequest:
    template = api.template(select=True)
    key = ResolutionKey(user_id=template.user_id, template_type=template.template_type)
    return RenderTemplateRequest(resolve=key)


def _batch_render(api: Api) -> BatchRenderTemplatesRequest:
    template = api.template(select=True)
    return BatchRenderTemplatesRequest(user_id=template.user_id, template_types=[template.template_type])


def _create_organization(api: Api) -> CreateOrganizationRequest:
    return CreateOrganizationRequest(organization=Organization(name="A name"), user_id=api.user().id)


def _add_member(api: Api) -> AddMemberRequest:
    member = Member(
        organization_id=api.organization().id,
        user_id=api.user().id,
        role=OrganizationRole.ORGANIZATION_ROLE_VIEWER,
    )
    return AddMemberRequest(member=member)


def _update_member(api: Api) -> UpdateMemberRequest:
    id = api.member(api.organization()).id
    return UpdateMemberRequest(member=Member(id=id, role=OrganizationRole.ORGANIZATION_ROLE_ADMIN))


def _invite(api: Api) -> InviteMemberRequest:
    invitation = Invitation(
        organization_id=api.organization().id,
        user_id=api.user().id,
        role=OrganizationRole.ORGANIZATION_ROLE_VIEWER,
    )
    return InviteMemberRequest(invitation=invitation)


def _create_key(api: Api) -> CreateApiKeyRequest:
    owner = api.user()
    key = ApiKey(
        name="A name",
        user_id=owner.id,
        organization_id=api.organization(owner).id,
        scope=ApiKeyScope.API_KEY_SCOPE_READ,
        expire_time=Timestamp(seconds=2_000_000_000, nanos=123_456_000),
    )
    return CreateApiKeyRequest(api_key=key)


def _update_key(api: Api) -> UpdateApiKeyRequest:
    key = ApiKey(id=api.key().api_key.id, name="Another name", expire_time=Timestamp(seconds=2_000_000_000))
    return UpdateApiKeyRequest(api_key=key)


def _watch(api: Api) -> WatchChangesRequest:
    organization = api.organization()
    return WatchChangesRequest(
        kinds=[ChangeKind.CHANGE_KIND_ORGANIZATION],
        organization_id=organization.id,
        resource_ids=[organization.id],
        heartbeat=Duration(seconds=2),
        include_values=True,
    )


def _record(api: Api) -> RecordUsageRequest:
    template = api.template()
    usage = Usage(
        event_id=new("event"),
        template_id=template.id,
        template_revision=1,
        user_id=template.user_id,
        organization_id=api.organization().id,
        model=template.model,
        duration=Duration(seconds=1, nanos=500_000_000),
        input_tokens=1_000,
        cached_tokens=100,
        output_tokens=200,
        reasoning_tokens=50,
        token_count=1_200,
        success=False,
        error_code="server_error",
    )
    usage.time.GetCurrentTime()
    return RecordUsageRequest(usages=[usage])


def _query(api: Api) -> QueryUsageRequest:
    sent = _record(api)
    api.usage.RecordUsage(sent)
    (usage,) = sent.usages
    return QueryUsageRequest(
        start_time=Timestamp(seconds=usage.time.seconds - 3600),
        end_time=Timestamp(seconds=usage.time.seconds + 3600),
        granularity=UsageGranularity.USAGE_GRANULARITY_HOUR,
        group_by=[UsageGroup.USAGE_GROUP_TEMPLATE],
        template_id=usage.template_id,
        template_revision=1,
        model=usage.model,
        user_id=usage.user_id,
        organization_id=usage.organization_id,
    )


def _create_record(api: Api) -> CreateProcessingRecordRequest:
    template = _revised(api)
    return CreateProcessingRecordRequest(
        record=ProcessingRecord(
            filename="invoice.pdf",
            user_id=api.user().id,
            openai_file_id="file-1",
            status=ProcessingStatus.PROCESSING_STATUS_FAILED,
            processing_time=Duration(seconds=2),
            error_reason="server_error",
            error_message="It broke.",
            template_id=template.id,
            template_revision=1,
            template_type_revision=1,
            model="gpt-5.5",
            results='{"total": 17}',
            output_text="Seventeen.",
            response_id="resp_1",
            usage=TokenUsage(input_tokens=100, cached_tokens=50, output_tokens=20, reasoning_tokens=10),
            runner=ProcessingRunner.PROCESSING_RUNNER_CALLER,
        )
    )


def _retry(api: Api) -> RetryProcessingRequest:
    id = api.run().id
    api.processing.CancelProcessing(CancelProcessingRequest(id=id))
    return RetryProcessingRequest(id=id)


SAMPLES: dict[str, Callable[[Api], Message]] = {
    "ProvisionUser": lambda _: ProvisionUserRequest(clerk_id=new("user")),
    "GetUser": lambda api: GetUserRequest(id=api.user().id),
    "DeleteUser": lambda api: DeleteUserRequest(id=api.user().id),
    "CreateTemplateType": lambda _: CreateTemplateTypeRequest(
        template_type=TemplateType(name=new("kind"), description="A purpose.")
    ),
    "GetTemplateType": lambda api: GetTemplateTypeRequest(id=api.type().id),
    "UpdateTemplateType": lambda api: UpdateTemplateTypeRequest(
        template_type=TemplateType(id=api.type().id, description="Another purpose.")
    ),
    "DeleteTemplateType": lambda api: DeleteTemplateTypeRequest(id=api.type().id),
    "CreateTemplateTool": _create_tool,
    "GetTemplateTool": lambda api: GetTemplateToolRequest(id=api.tool().id),
    "UpdateTemplateTool": _update_tool,
    "DeleteTemplateTool": lambda api: DeleteTemplateToolRequest(id=api.tool().id),
    "CreateModel": lambda _: CreateModelRequest(
        model=Model(
            openai_id=new("gpt"),
            name="A name",
            description="Good.",
            shutdown_date=Date(year=2027, month=1, day=2),
            input_price=_usd(1, 250_000_000),
            cached_input_price=_usd(0, 125_000_000),
            output_price=_usd(10),
        )
    ),
    "GetModel": lambda api: GetModelRequest(id=api.model().id),
    "UpdateModel": _model,
    "DeleteModel": lambda api: DeleteModelRequest(id=api.model().id),
    "ImportModel": lambda _: ImportModelRequest(openai_id=next(_served)),
    "ListAvailableModels": lambda _: ListAvailableModelsRequest(),
    "RefreshModels": _refresh,
    "ReplaceModel": lambda api: ReplaceModelRequest(
        old_openai_id=api.template().model, new_openai_id=api.model().openai_id
    ),
    "CreateTemplate": _create_template,
    "GetTemplate": lambda api: GetTemplateRequest(id=api.template().id),
    "BatchGetTemplates": lambda api: BatchGetTemplatesRequest(ids=[api.template().id, api.template().id]),
    "UpdateTemplate": _update_template,
    "UndeleteTemplate": _undelete_template,
    "SyncTemplate": _sync_template,
    "GetTemplateRevision": lambda api: GetTemplateRevisionRequest(template_id=api.template().id, revision=1),
    "RestoreTemplateRevision": lambda api: RestoreTemplateRevisionRequest(template_id=_revised(api).id, revision=1),
    "DiffTemplateRevisions": lambda api: DiffTemplateRevisionsRequest(
        template_id=_revised(api).id, from_revision=1, to_revision=2
    ),
    "SetTemplateLabel": lambda api: SetTemplateLabelRequest(template_id=_revised(api).id, label="staging", revision=1),
    "DeleteTemplateLabel": lambda api: DeleteTemplateLabelRequest(template_id=_labeled(api), label="staging"),
    "GetTemplateTypeRevision": lambda api: GetTemplateTypeRevisionRequest(template_type=api.type().name, revision=1),
    "DeleteTemplate": lambda api: DeleteTemplateRequest(id=api.template(select=True).id),
    "RenderTemplate": _render,
    "BatchRenderTemplates": _batch_render,
    "SetSelection": _set_selection,
    "GetSelection": _get_selection,
    "DeleteSelection": _delete_selection,
    "ResolveTemplate": _resolve,
    "BatchResolveTemplates": _batch_resolve,
    "CreateOrganization": _create_organization,
    "GetOrganization": lambda api: GetOrganizationRequest(id=api.organization().id),
    "UpdateOrganization": lambda api: UpdateOrganizationRequest(
        organization=Organization(id=api.organization().id, name="Another name")
    ),
    "DeleteOrganization": lambda api: DeleteOrganizationRequest(id=api.organization().id),
    "AddMember": _add_member,
    "GetMember": lambda api: GetMemberRequest(id=api.member(api.organization()).id),
    "UpdateMember": _update_member,
    "RemoveMember": lambda api: RemoveMemberRequest(id=api.member(api.organization()).id),
    "InviteMember": _invite,
    "AcceptInvitation": lambda api: AcceptInvitationRequest(id=api.invitation(api.organization()).id),
    "DeclineInvitation": lambda api: DeclineInvitationRequest(id=api.invitation(api.organization()).id),
    "CreateApiKey": _create_key,
    "GetApiKey": lambda api: GetApiKeyRequest(id=api.key().api_key.id),
    "UpdateApiKey": _update_key,
    "RevokeApiKey": lambda api: RevokeApiKeyRequest(id=api.key().api_key.id),
    "RotateApiKey": lambda api: RotateApiKeyRequest(id=api.key().api_key.id, grace=Duration(seconds=60)),
    "WatchChanges": _watch,
    "RecordUsage": _record,
    "QueryUsage": _query,
    "CreateProcessingRecord": _create_record,
    "GetProcessingRecord": lambda api: GetProcessingRecordRequest(id=api.record().id),
    "UpdateProcessingRecord": lambda api: UpdateProcessingRecordRequest(
        record=ProcessingRecord(
            id=api.record().id,
            status=ProcessingStatus.PROCESSING_STATUS_PROCESSING,
            processing_time=Duration(seconds=3, nanos=500_000_000),
            error_reason="server_error",
            error_message="It broke.",
            results='{"total": 17}',
            output_text="Seventeen.",
            response_id="resp_1",
            usage=TokenUsage(input_tokens=100, cached_tokens=50, output_tokens=20, reasoning_tokens=10),
        )
    ),
    "WatchProcessingRecord": lambda api: WatchProcessingRecordRequest(id=api.record().id),
    "CancelProcessing": lambda api: CancelProcessingRequest(id=api.run().id),
    "RetryProcessing": _retry,
    "DeleteProcessingRecord": lambda api: DeleteProcessingRecordRequest(id=api.record().id),
}


def _users(api: Api) -> Rows:
    return Rows(
        request=ListUsersRequest(),
        add=lambda: api.user().id,
        remove=lambda row: api.users.DeleteUser(DeleteUserRequest(id=row)),
        copy="""
            insert into users (id, clerk_id)
            select id || n, clerk_id || n from users, generate_series(1, 1001) n where id = %s
        """,
    )


def _types(api: Api) -> Rows:
    return Rows(
        request=ListTemplateTypesRequest(),
        add=lambda: api.type().id,
        remove=lambda row: api.types.DeleteTemplateType(DeleteTemplateTypeRequest(id=row)),
        copy="""
            insert into template_types (id, name)
            select id || n, name || '-' || n from template_types, generate_series(1, 1001) n where id = %s
        """,
    )


def _tools(api: Api) -> Rows:
    owner = api.type().name
    api.tool()
    return Rows(
        request=ListTemplateToolsRequest(template_type=owner),
        add=lambda: api.tool(template_type=owner).id,
        remove=lambda row: api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=row)),
        copy="""
            insert into template_tools (id, template_type_id, name, type)
            select id || n, template_type_id, name || n, type from template_tools, generate_series(1, 1001) n
            where id = %s
        """,
    )


def _models(api: Api) -> Rows:
    return Rows(
        request=ListModelsRequest(),
        add=lambda: api.model().id,
        remove=lambda row: api.models.DeleteModel(DeleteModelRequest(id=row)),
        # Of one name: the id tells them apart.
        copy="""
            insert into openai_models (id, openai_id, name)
            select id || n, id || n, name from openai_models, generate_series(1, 1001) n where id = %s
        """,
    )


def _templates(api: Api) -> Rows:
    other = api.template(title="report of sales")
    model = api.model().openai_id

    def add() -> str:
        return api.template(title="Report", user_id=other.user_id, template_type=other.template_type, model=model).id

    return Rows(
        request=ListTemplatesRequest(
            query="report", is_default=False, user_id=other.user_id, template_type=other.template_type, model=model
        ),
        add=add,
        remove=lambda row: api.templates.DeleteTemplate(DeleteTemplateRequest(id=row)),
        # Of one time: the id tells them apart.
        copy="""
            insert into templates (id, title, instructions, user_id, template_type_id, model_id, create_time)
            select id || n, title, instructions, user_id, template_type_id, model_id, create_time
            from templates, generate_series(1, 1001) n
            where id = %s
        """,
    )


def _template_revisions(api: Api) -> Rows:
    _revised(api)
    id = api.template(title="Title 0").id
    numbers = itertools.count(1)

    def add() -> str:
        number = next(numbers)
        if number > 1:
            template = Template(id=id, title=f"Title {number}")
            api.templates.UpdateTemplate(UpdateTemplateRequest(template=template))
        return str(number)

    return Rows(
        request=ListTemplateRevisionsRequest(template_id=id),
        add=add,
        remove=_keep,
        copy="""
            do $$ begin
              for number in 1..1001 loop
                update templates set title = number || left(%s, 0);
              end loop;
            end $$
        """,
    )


def _type_revisions(api: Api) -> Rows:
    api.tool()
    owner = api.type()
    numbers = itertools.count(1)

    def add() -> str:
        number = next(numbers)
        if number > 1:
            type_ = TemplateType(id=owner.id, description=f"Purpose {number}")
            api.types.UpdateTemplateType(UpdateTemplateTypeRequest(template_type=type_))
        return str(number)

    return Rows(
        request=ListTemplateTypeRevisionsRequest(template_type=owner.name),
        add=add,
        remove=_keep,
        copy="""
            do $$ begin
              for number in 1..1001 loop
                update template_types set description = number || left(%s, 0);
              end loop;
            end $$
        """,
    )


def _keep(_: str) -> None:
    raise AssertionError("a revision goes with what it is of")


def _selections(api: Api) -> Rows:
    user = api.user()
    api.template(select=True)
    types = {}

    def add() -> str:
        template = api.template()
        row = api.select(user, template).id
        types[row] = template.template_type
        return row

    def remove(row: str) -> None:
        request = DeleteSelectionRequest(user_id=user.id, template_type=types[row])
        api.selections.DeleteSelection(request)

    return Rows(
        request=ListSelectionsRequest(user_id=user.id),
        add=add,
        remove=remove,
        copy="""
            with first as (
                select s.id, s.user_id, t.user_id as author, t.model_id, tt.name, n
                from user_template_selections s
                join templates t on t.id = s.template_id
                join template_types tt on tt.id = t.template_type_id, generate_series(1, 1001) n
                where s.id = %s
            ), kind as (
                insert into template_types (id, name) select id || n, name || '-' || n from first
            ), template as (
                insert into templates (id, title, instructions, user_id, template_type_id, model_id)
                select id || n, 'A title', 'Do it.', author, id || n, model_id from first
            )
            insert into user_template_selections (id, user_id, template_type_id, template_id)
            select id || n, user_id, id || n, id || n from first
        """,
    )


def _organizations(api: Api) -> Rows:
    user = api.user()
    api.organization()
    return Rows(
        request=ListOrganizationsRequest(user_id=user.id),
        add=lambda: api.organization(user).id,
        remove=lambda row: api.organizations.DeleteOrganization(DeleteOrganizationRequest(id=row)),
        # Of one name: the id tells them apart.
        copy="""
            with copies as (
                insert into organizations (id, name)
                select id || n, name from organizations, generate_series(1, 1001) n where id = %s
                returning id
            )
            insert into organization_members (id, organization_id, user_id, role)
            select copies.id, copies.id, m.user_id, m.role
            from copies join organization_members m on copies.id like m.organization_id || '%%'
        """,
    )


def _members(api: Api) -> Rows:
    organization = api.organization()
    request = ListMembersRequest(organization_id=organization.id)
    # Without this one there is no organization, so it is the first of the rows.
    first = [member.id for member in api.organizations.ListMembers(request).members]
    api.organization()
    return Rows(
        request=request,
        add=lambda: first.pop() if first else api.member(organization).id,
        remove=lambda row: api.organizations.RemoveMember(RemoveMemberRequest(id=row)),
        # Of one time: the id tells them apart.
        copy="""
            with first as (
                select m.*, n from organization_members m, generate_series(1, 1001) n where m.id = %s
            ), person as (
                insert into users (id, clerk_id) select user_id || n, user_id || n from first
            )
            insert into organization_members (id, organization_id, user_id, role, create_time)
            select id || n, organization_id, user_id || n, role, create_time from first
        """,
    )


def _invitations(api: Api) -> Rows:
    organization = api.organization()
    api.invitation(api.organization())
    return Rows(
        request=ListInvitationsRequest(organization_id=organization.id),
        add=lambda: api.invitation(organization).id,
        remove=lambda row: api.organizations.DeclineInvitation(DeclineInvitationRequest(id=row)),
        # Of one time: the id tells them apart.
        copy="""
            with first as (
                select i.*, n from organization_invitations i, generate_series(1, 1001) n where i.id = %s
            ), person as (
                insert into users (id, clerk_id) select user_id || n, user_id || n from first
            )
            insert into organization_invitations (id, organization_id, user_id, role, expire_time, create_time)
            select id || n, organization_id, user_id || n, role, expire_time, create_time from first
        """,
    )


def _keys(api: Api) -> Rows:
    owner = api.user()
    api.key()
    places = {}

    def add() -> str:
        place = api.organization(owner).id
        row = api.key(user_id=owner.id, organization_id=place).api_key.id
        places[row] = place
        return row

    return Rows(
        request=ListApiKeysRequest(user_id=owner.id),
        add=add,
        # A key is never deleted by itself.
        remove=lambda row: api.organizations.DeleteOrganization(DeleteOrganizationRequest(id=places[row])),
        # Of one time: the id tells them apart.
        copy="""
            insert into api_keys (id, user_id, organization_id, name, scope, digest, create_time)
            select id || n, user_id, organization_id, name, scope, digest, create_time
            from api_keys, generate_series(1, 1001) n
            where id = %s
        """,
    )


def _changes(api: Api) -> Rows:
    id = api.model().id
    request = ListChangesRequest(
        kinds=[ChangeKind.CHANGE_KIND_MODEL],
        resource_id=id,
        actor="anonymous",
        method="UpdateModel",
        start_time=Timestamp(seconds=1),
        end_time=Timestamp(seconds=4_000_000_000),
    )

    def add() -> str:
        api.models.UpdateModel(UpdateModelRequest(model=Model(id=id, name=new("name"))))
        return api.changes.ListChanges(request).changes[0].id

    def remove(_: str) -> None:
        raise AssertionError("nobody takes back what happened")

    return Rows(
        request=request,
        add=add,
        remove=remove,
        # Of one time: the number tells them apart.
        copy="""
            insert into changes (epoch, time, kind, resource_id, action, tags, actor, method, request_id)
            select epoch, time, kind, resource_id, action, tags, actor, method, request_id
            from changes, generate_series(1, 1001) where seq = %s
        """,
    )


def _of_run(record: ProcessingRecord) -> ProcessingRecord:
    """Answer the record of a run of the registry on the same file."""
    return ProcessingRecord(
        filename=record.filename,
        user_id=record.user_id,
        template_id=record.template_id,
        openai_file_id=record.openai_file_id,
        runner=ProcessingRunner.PROCESSING_RUNNER_REGISTRY,
    )


def _records(api: Api) -> Rows:
    user, template = api.user(), api.template()
    api.record()
    status = ProcessingStatus.PROCESSING_STATUS_PROCESSING
    return Rows(
        request=ListProcessingRecordsRequest(
            user_id=user.id,
            template_id=template.id,
            status=status,
            start_time=Timestamp(seconds=1),
            end_time=Timestamp(seconds=4_000_000_000),
        ),
        add=lambda: api.record(user_id=user.id, template_id=template.id, status=status).id,
        remove=lambda row: api.processing.DeleteProcessingRecord(DeleteProcessingRecordRequest(id=row)),
        # Of one time: the id tells them apart.
        copy="""
            insert into processing_records (id, filename, user_id, status, template_id, runner, create_time)
            select id || n, filename, user_id, status, template_id, runner, create_time
            from processing_records, generate_series(1, 1001) n
            where id = %s
        """,
    )


ROWS: dict[str, Callable[[Api], Rows]] = {
    "ListUsers": _users,
    "ListTemplateTypes": _types,
    "ListTemplateTools": _tools,
    "ListModels": _models,
    "ListTemplates": _templates,
    "ListTemplateRevisions": _template_revisions,
    "ListTemplateTypeRevisions": _type_revisions,
    "ListSelections": _selections,
    "ListOrganizations": _organizations,
    "ListMembers": _members,
    "ListInvitations": _invitations,
    "ListApiKeys": _keys,
    "ListChanges": _changes,
    "ListProcessingRecords": _records,
}
