"""Rows to messages, as the caller may see them. Pure."""

from datetime import UTC, date, datetime
from decimal import Decimal

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from omniflo.templates.v1 import (
    api_key_pb2,
    change_pb2,
    model_pb2,
    organization_pb2,
    selection_pb2,
    template_pb2,
    template_type_pb2,
    user_pb2,
)
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyResponse, RevokeApiKeyResponse, RotateApiKeyResponse
from omniflo.templates.v1.model_service_pb2 import (
    AvailableModel,
    RefreshModelsResponse,
    ReplaceModelResponse,
    SettingLoss,
)
from omniflo.templates.v1.organization_service_pb2 import (
    AcceptInvitationResponse,
    DeclineInvitationResponse,
    InviteMemberResponse,
)
from omniflo.templates.v1.selection_service_pb2 import (
    ResolutionReason,
    ResolveTemplateResponse,
    TemplateResolution,
)
from omniflo.templates.v1.template_service_pb2 import SyncTemplateResponse
from service import actor, errors, statuses
from service.models.api_keys import ApiKey
from service.models.openai_models import OpenAIModel
from service.models.organizations import Invitation, Member, Organization
from service.models.selections import Selection
from service.models.template_types import TemplateTool, TemplateType
from service.models.templates import Template, View
from service.models.users import User
from service.openai_gateway import ListedModel
from service.operations import openai_models, replacements, rights
from service.operations.api_keys import NewKey
from service.operations.changes import Change
from service.operations.selections import Reason, Resolution

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EFFORTS: dict[str | None, template_pb2.ReasoningEffort.ValueType] = {
    name.removeprefix("REASONING_EFFORT_").lower(): value for name, value in template_pb2.ReasoningEffort.items()
} | {None: template_pb2.ReasoningEffort.REASONING_EFFORT_UNSPECIFIED}
_ROLES = {
    name.removeprefix("ORGANIZATION_ROLE_").lower(): value for name, value in organization_pb2.OrganizationRole.items()
}
REASONS = {reason: ResolutionReason.Value(f"RESOLUTION_REASON_{reason.name}") for reason in Reason}
_STATES = {name.removeprefix("ASSISTANT_STATE_").lower(): value for name, value in template_pb2.AssistantState.items()}


def user(row: User) -> user_pb2.User:
    return user_pb2.User(
        id=row.id,
        clerk_id=row.clerk_id,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
    )


def author(row: User) -> user_pb2.User:
    """Return the user of something that others read as well: the id alone, for who may not read the user."""
    return user(row) if rights.reads_user(actor.current(), row.id) else user_pb2.User(id=row.id)


def organization(row: Organization) -> organization_pb2.Organization:
    return organization_pb2.Organization(
        id=row.id,
        name=row.name,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def member(row: Member) -> organization_pb2.Member:
    return organization_pb2.Member(
        id=row.id,
        organization_id=row.organization_id,
        user_id=row.user_id,
        role=_ROLES[row.role],
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def invitation(row: Invitation) -> organization_pb2.Invitation:
    return organization_pb2.Invitation(
        id=row.id,
        organization_id=row.organization_id,
        user_id=row.user_id,
        role=_ROLES[row.role],
        inviter_id=row.inviter_id or "",
        organization_name=row.organization_name,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
    )


def invited(row: Invitation) -> InviteMemberResponse:
    return InviteMemberResponse(invitation=invitation(row))


def accepted(row: Member) -> AcceptInvitationResponse:
    return AcceptInvitationResponse(member=member(row))


def declined(_: None) -> DeclineInvitationResponse:
    return DeclineInvitationResponse()


def api_key(row: ApiKey) -> api_key_pb2.ApiKey:
    return api_key_pb2.ApiKey(
        id=row.id,
        name=row.name,
        user_id=row.user_id,
        organization_id=row.organization_id or "",
        scope=api_key_pb2.ApiKeyScope.Value(f"API_KEY_SCOPE_{row.scope.upper()}"),
        expire_time=row.expire_time and timestamp(row.expire_time),
        last_used_time=row.last_used_time and timestamp(row.last_used_time),
        revoke_time=row.revoke_time and timestamp(row.revoke_time),
        parent_id=row.parent_id or "",
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def created_api_key(made: NewKey) -> CreateApiKeyResponse:
    return CreateApiKeyResponse(api_key=api_key(made.key), secret=made.secret)


def revoked_api_key(row: ApiKey) -> RevokeApiKeyResponse:
    return RevokeApiKeyResponse(api_key=api_key(row))


def rotated_api_key(made: NewKey) -> RotateApiKeyResponse:
    return RotateApiKeyResponse(api_key=api_key(made.key), secret=made.secret)


def template_type(row: TemplateType) -> template_type_pb2.TemplateType:
    return template_type_pb2.TemplateType(
        id=row.id,
        name=row.name,
        description=row.description,
        revision=row.revision,
        tools=[template_tool(tool) for tool in row.tools],
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def template_tool(row: TemplateTool) -> template_type_pb2.TemplateTool:
    return template_type_pb2.TemplateTool(
        id=row.id,
        template_type=row.type_name,
        name=row.name,
        type=template_type_pb2.OpenAIToolType.Value(f"OPEN_AI_TOOL_TYPE_{row.type.upper()}"),
        description=row.description,
        schema=row.schema or "",
        strict=row.strict,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
        # The stored config is the oneof: its member by name.
        **(row.config or {}),
    )


def model(row: OpenAIModel) -> model_pb2.Model:
    return model_pb2.Model(
        id=row.id,
        openai_id=row.openai_id,
        name=row.name,
        description=row.description,
        shutdown_date=_date(row.shutdown_date),
        input_price=money(row.input_price),
        cached_input_price=money(row.cached_input_price),
        output_price=money(row.output_price),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def template(row: Template, view: View | None = None) -> template_pb2.Template:
    """Return the message of a template, as it was read, or in the SUMMARY view of one that was read with more."""
    is_summary = view is View.SUMMARY
    # An attribute of peewee's takes five times as long as its value here. An empty list takes as long as a text does.
    has = row.__data__
    labels, variables, verbosity = has["labels"], has["variables"], has["verbosity"]
    message = template_pb2.Template(
        id=has["id"],
        title=has["title"],
        description=has["description"],
        instructions="" if is_summary else has["instructions"],
        user_id=has["user"],
        template_type=row.type_name,
        is_default=has["is_default"],
        model=row.openai_id,
        temperature=has["temperature"],
        reasoning_effort=_EFFORTS[has["reasoning_effort"]],
        assistant_id=has["assistant_id"],
        assistant_state=_STATES[row.assistant_state],
        create_time=timestamp(has["create_time"]),
        update_time=timestamp(has["update_time"]),
        etag=row.etag,
        organization_id=has["organization"],
        revision=has["revision"],
        labels=[template_pb2.TemplateLabel(label=each, revision=labels[each]) for each in sorted(labels)]
        if labels
        else None,
        label=row.label,
        variables=[template_pb2.Variable(**variable) for variable in variables]
        if variables and not is_summary
        else None,
        response_format="" if is_summary else has["response_format"],
        verbosity=verbosity and template_pb2.Verbosity.Value(f"VERBOSITY_{verbosity.upper()}"),
        max_output_tokens=has["max_output_tokens"],
        top_p=has["top_p"],
        tool_choice=has["tool_choice"],
        parallel_tool_calls=has["parallel_tool_calls"],
        disabled_tools=has["disabled_tools"] or None,
        tags=has["tags"] or None,
    )
    if row.details is not None and not is_summary:
        message.author.CopyFrom(author(row.details.author))
        if row.details.template_type is not None:
            message.type_details.CopyFrom(template_type(row.details.template_type))
        if row.details.model is not None:
            message.model_details.CopyFrom(model(row.details.model))
    return message


def selection(row: Selection) -> selection_pb2.Selection:
    return selection_pb2.Selection(
        id=row.id,
        user_id=row.user_id,
        organization_id=row.organization_id or "",
        template_type=row.selected.type_name,
        template_id=row.template_id,
        revision=row.revision or 0,
        template=template(row.selected),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def resolution(outcome: Resolution) -> ResolveTemplateResponse:
    return ResolveTemplateResponse(template=template(outcome.template), reason=REASONS[outcome.reason])


def outcome(template_type: str, of: Resolution | errors.Error) -> TemplateResolution:
    if isinstance(of, errors.Error):
        return TemplateResolution(template_type=template_type, error=statuses.of(of))
    return TemplateResolution(template_type=template_type, resolved=resolution(of))


def available_model(model: ListedModel, imported: bool) -> AvailableModel:
    return AvailableModel(
        openai_id=model.openai_id,
        owned_by=model.owned_by,
        shutdown_date=_date(model.shutdown_date),
        imported=imported,
    )


def refreshed(of: openai_models.Refreshed) -> RefreshModelsResponse:
    return RefreshModelsResponse(changed_models=map(model, of.changed), unlisted_openai_ids=of.unlisted)


def replaced(of: replacements.Replacement) -> ReplaceModelResponse:
    return ReplaceModelResponse(
        template_count=of.templates,
        losses=[
            SettingLoss(field=loss.field, value=loss.value.upper(), reason=loss.reason, template_count=count)
            for loss, count in of.losses.items()
        ],
    )


def empty(_: None) -> Empty:
    return Empty()


def money(amount: Decimal | None) -> Money | None:
    """Return an amount in USD, to the billionth."""
    if amount is None:
        return None
    units, nanos = divmod(round(amount.scaleb(9)), 1_000_000_000)
    return Money(currency_code="USD", units=units, nanos=nanos)


def _date(day: date | None) -> Date | None:
    return day and Date(year=day.year, month=day.month, day=day.day)


def synced_template(row: Template) -> SyncTemplateResponse:
    return SyncTemplateResponse(template=template(row))


def change(row: Change, *, audits: bool, values: bool) -> change_pb2.Change:
    """Return a change as the caller may see it: `audits` is whether it may read the audit of the resource."""
    shows = audits and values
    return change_pb2.Change(
        id=str(row.seq),
        kind=change_pb2.ChangeKind.Value(f"CHANGE_KIND_{row.kind.upper()}"),
        resource_id=row.resource_id,
        action=change_pb2.ChangeAction.Value(f"CHANGE_ACTION_{row.action.upper()}"),
        organization_id=row.organization_id or "",
        user_id=row.user_id or "",
        template_type=row.template_type or "",
        revision=row.revision,
        tags=row.tags,
        time=timestamp(row.time),
        actor=row.actor,
        api_key_id=(row.api_key_id or "") if audits else "",
        method=row.method,
        request_id=row.request_id,
        before=(row.before or "") if shows else "",
        after=(row.after or "") if shows else "",
    )


def timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)
