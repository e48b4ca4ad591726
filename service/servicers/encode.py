"""Rows to messages. Pure."""

from datetime import UTC, datetime, timedelta

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from omniflo.templates.v1 import model_pb2, selection_pb2, template_pb2, template_type_pb2, user_pb2
from omniflo.templates.v1.selection_service_pb2 import (
    ResolutionReason,
    ResolveTemplateResponse,
    TemplateResolution,
)
from service import errors, statuses
from service.models.models import Model
from service.models.selections import Selection
from service.models.template_types import TemplateTool, TemplateType
from service.models.templates import Template
from service.models.users import User
from service.operations.selections import Resolution

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def user(row: User) -> user_pb2.User:
    return user_pb2.User(
        id=row.id,
        clerk_id=row.clerk_id,
        create_time=_timestamp(row.create_time),
        update_time=_timestamp(row.update_time),
    )


def template_type(row: TemplateType) -> template_type_pb2.TemplateType:
    return template_type_pb2.TemplateType(
        id=row.id,
        name=row.name,
        description=row.description,
        tools=[template_tool(tool) for tool in row.tools],
        create_time=_timestamp(row.create_time),
        update_time=_timestamp(row.update_time),
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
        create_time=_timestamp(row.create_time),
        update_time=_timestamp(row.update_time),
        etag=row.etag,
        # The stored config is the oneof: its member by name.
        **(row.config or {}),
    )


def model(row: Model) -> model_pb2.Model:
    day = row.shutdown_date
    return model_pb2.Model(
        id=row.id,
        openai_id=row.openai_id,
        name=row.name,
        description=row.description,
        shutdown_date=day and Date(year=day.year, month=day.month, day=day.day),
        create_time=_timestamp(row.create_time),
        update_time=_timestamp(row.update_time),
        etag=row.etag,
    )


def template(row: Template) -> template_pb2.Template:
    message = template_pb2.Template(
        id=row.id,
        title=row.title,
        description=row.description,
        instructions=row.instructions,
        user_id=row.user_id,
        template_type=row.type_name,
        is_default=row.is_default,
        model=row.openai_id,
        temperature=row.temperature,
        reasoning_effort=template_pb2.ReasoningEffort.Value(
            f"REASONING_EFFORT_{(row.reasoning_effort or 'unspecified').upper()}"
        ),
        assistant_id=row.assistant_id or "",
        # No copy is kept anywhere yet.
        assistant_state=template_pb2.AssistantState.ASSISTANT_STATE_NONE,
        create_time=_timestamp(row.create_time),
        update_time=_timestamp(row.update_time),
        etag=row.etag,
    )
    if row.details is not None:
        message.author.CopyFrom(user(row.details.author))
        message.type_details.CopyFrom(template_type(row.details.template_type))
        message.model_details.CopyFrom(model(row.details.model))
    return message


def selection(row: Selection) -> selection_pb2.Selection:
    return selection_pb2.Selection(
        id=row.id,
        user_id=row.user_id,
        template_type=row.selected.type_name,
        template_id=row.template_id,
        template=template(row.selected),
        create_time=_timestamp(row.create_time),
        update_time=_timestamp(row.update_time),
        etag=row.etag,
    )


def resolution(outcome: Resolution) -> ResolveTemplateResponse:
    reason = (
        ResolutionReason.RESOLUTION_REASON_SELECTED
        if outcome.is_selected
        else ResolutionReason.RESOLUTION_REASON_DEFAULT
    )
    return ResolveTemplateResponse(template=template(outcome.template), reason=reason)


def outcome(template_type: str, of: Resolution | errors.Error) -> TemplateResolution:
    if isinstance(of, errors.Error):
        return TemplateResolution(template_type=template_type, error=statuses.of(of))
    return TemplateResolution(template_type=template_type, resolved=resolution(of))


def empty(_: None) -> Empty:
    return Empty()


def _timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    seconds = since // _SECOND
    return Timestamp(seconds=seconds, nanos=(since - seconds * _SECOND).microseconds * 1000)
