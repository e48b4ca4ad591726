"""Messages to the values that operations take. Pure."""

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from google.api.field_behavior_pb2 import FieldBehavior, field_behavior
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.change_pb2 import ChangeKind
from omniflo.templates.v1.organization_pb2 import Invitation, Member, OrganizationRole
from omniflo.templates.v1.processing_record_pb2 import (
    ProcessingRecord,
    ProcessingRunner,
    ProcessingStatus,
    TokenUsage,
)
from omniflo.templates.v1.template_pb2 import AssistantState, ReasoningEffort, Template, Variable, Verbosity
from omniflo.templates.v1.template_type_pb2 import (
    CodeInterpreterConfig,
    FileSearchConfig,
    OpenAIToolType,
    TemplateTool,
)
from service import errors
from service.models.templates import View

MAX_PATHS = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def changes(resource: Message, mask: FieldMask) -> dict[str, Any]:
    """Return what an update writes: the fields of the mask, or the populated ones when there is none.

    A path that is unknown, output only or immutable, and a required field that would be emptied, are FIELD_INVALID.
    """
    fields = writable(resource)
    required = fields - _fields(resource.DESCRIPTOR, FieldBehavior.REQUIRED)
    if len(mask.paths) > MAX_PATHS:
        raise errors.field_invalid(("update_mask.paths", f"must have at most {MAX_PATHS} items"))
    paths = list(mask.paths)
    if not paths:
        paths = [field.name for field, _ in resource.ListFields() if field.name in fields]
    elif paths == ["*"]:
        paths = sorted(fields)
    body = _name(resource)
    violations = [
        (
            f"update_mask.paths[{index}]",
            f"must be a writable field, one of {', '.join(sorted(fields))}, not {_quoted(path)}",
        )
        for index, path in enumerate(paths)
        if path not in fields
    ] or [(f"{body}.{path}", "is required") for path in paths if path in required and not getattr(resource, path)]
    if violations:
        raise errors.field_invalid(*violations)
    return {path: _value(resource, path) for path in paths}


def writable(resource: Message) -> frozenset[str]:
    """Return the names of the fields that an update may write."""
    return _fields(resource.DESCRIPTOR, FieldBehavior.OUTPUT_ONLY, FieldBehavior.IMMUTABLE)


def values(resource: Message, *but: str) -> dict[str, Any]:
    """Return what a create writes: every field that is populated and not output only, but for the named ones."""
    names = _fields(resource.DESCRIPTOR, FieldBehavior.OUTPUT_ONLY).difference(but)
    return {field.name: _value(resource, field.name) for field, _ in resource.ListFields() if field.name in names}


def key(request: Message) -> dict[str, str]:
    """Return the member of the oneof `key` by its name."""
    name = request.WhichOneof("key")
    return {name: getattr(request, name)} if name else {}


def view(request: Any) -> View:
    return View(request.view)


@functools.cache
def _fields(resource: Descriptor, *but: FieldBehavior.ValueType) -> frozenset[str]:
    """Return the fields of a resource without any of these behaviours, and without its etag, which is never stored."""
    return frozenset(
        field.name
        for field in resource.fields
        if not set(but).intersection(field.GetOptions().Extensions[field_behavior]) and field.name != "etag"
    )


def _name(resource: Message) -> str:
    """Return the name of the request's field that holds the resource, such as template_type."""
    words = resource.DESCRIPTOR.name
    if words == ProcessingRecord.DESCRIPTOR.name:
        return "record"
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in words).lstrip("_")


def _quoted(path: str) -> str:
    return repr(path[:64])


def _value(resource: Message, path: str) -> Any:
    """Return what an operation takes for a field: None for one that is unset and can be."""
    field = resource.DESCRIPTOR.fields_by_name[path]
    if field.has_presence and not resource.HasField(path):
        return None
    if field.message_type is not None and field.message_type.full_name == Date.DESCRIPTOR.full_name:
        return day(resource, path, f"{_name(resource)}.{path}")
    if field.message_type is not None and field.message_type.full_name == Money.DESCRIPTOR.full_name:
        return _amount(getattr(resource, path))
    convert = _CONVERT.get((resource.DESCRIPTOR.name, path))
    value = getattr(resource, path)
    if convert is not None:
        return convert(value)
    # Operations get plain lists, no parts of messages.
    return list(value) if field.is_repeated else value


def processing_status(value: ProcessingStatus.ValueType) -> str | None:
    return ProcessingStatus.Name(value).removeprefix("PROCESSING_STATUS_").lower() if value else None


def assistant_state(value: AssistantState.ValueType) -> str | None:
    return AssistantState.Name(value).removeprefix("ASSISTANT_STATE_").lower() if value else None


def change_kind(value: ChangeKind.ValueType) -> str:
    return ChangeKind.Name(value).removeprefix("CHANGE_KIND_").lower()


def time(message: Any, field: str, path: str = "") -> datetime | None:
    """Return the moment in a field, or None when it is unset; FIELD_INVALID for one that no calendar has.

    Its `path` in the request is the field, if it is not given.
    """
    if not message.HasField(field):
        return None
    try:
        return moment(getattr(message, field))
    except OverflowError:
        raise errors.field_invalid((path or field, "must be a time between the years 1 and 9999")) from None


def day(message: Message, field: str, path: str) -> date | None:
    """Return the day in a field, whose path in the request is `path`, or None when it is unset."""
    if not message.HasField(field):
        return None
    value: Date = getattr(message, field)
    try:
        return date(value.year, value.month, value.day)
    except ValueError:
        raise errors.field_invalid((path, "must be a day of the calendar")) from None


def _file_search(value: FileSearchConfig) -> dict[str, Any]:
    config: dict[str, Any] = {"vector_store_ids": list(value.vector_store_ids)}
    if value.HasField("max_num_results"):
        config["max_num_results"] = value.max_num_results
    return config


def _code_interpreter(value: CodeInterpreterConfig) -> dict[str, Any]:
    config: dict[str, Any] = {"file_ids": list(value.file_ids)}
    if value.memory_limit:
        config["memory_limit"] = value.memory_limit
    return config


def _reasoning_effort(value: ReasoningEffort.ValueType) -> str | None:
    return ReasoningEffort.Name(value).removeprefix("REASONING_EFFORT_").lower() if value else None


def _verbosity(value: Verbosity.ValueType) -> str | None:
    return Verbosity.Name(value).removeprefix("VERBOSITY_").lower() if value else None


def _variables(values: Iterable[Variable]) -> list[dict[str, Any]]:
    names = Variable.DESCRIPTOR.fields_by_name
    return [{name: getattr(value, name) for name in names} for value in values]


def _or_none(text: str) -> str | None:
    return text or None


def _role(value: OrganizationRole.ValueType) -> str:
    return OrganizationRole.Name(value).removeprefix("ORGANIZATION_ROLE_").lower()


def _scope(value: ApiKeyScope.ValueType) -> str:
    return ApiKeyScope.Name(value).removeprefix("API_KEY_SCOPE_").lower()


def _runner(value: ProcessingRunner.ValueType) -> str:
    return ProcessingRunner.Name(value).removeprefix("PROCESSING_RUNNER_").lower()


def _usage(value: TokenUsage) -> dict[str, int]:
    return {name: getattr(value, name) for name in TokenUsage.DESCRIPTOR.fields_by_name}


def moment(value: Timestamp) -> datetime:
    """Return the moment to the microsecond."""
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def _amount(value: Money) -> Decimal:
    return Decimal(value.units) + Decimal(value.nanos).scaleb(-9)


def _tool_type(value: OpenAIToolType.ValueType) -> str:
    return OpenAIToolType.Name(value).removeprefix("OPEN_AI_TOOL_TYPE_").lower()


_CONVERT: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    (ApiKey.DESCRIPTOR.name, "scope"): _scope,
    (ApiKey.DESCRIPTOR.name, "expire_time"): moment,
    (Member.DESCRIPTOR.name, "role"): _role,
    (Invitation.DESCRIPTOR.name, "role"): _role,
    (ProcessingRecord.DESCRIPTOR.name, "status"): processing_status,
    (ProcessingRecord.DESCRIPTOR.name, "processing_time"): Duration.ToTimedelta,
    (ProcessingRecord.DESCRIPTOR.name, "usage"): _usage,
    (ProcessingRecord.DESCRIPTOR.name, "runner"): _runner,
    (Template.DESCRIPTOR.name, "reasoning_effort"): _reasoning_effort,
    (Template.DESCRIPTOR.name, "variables"): _variables,
    (Template.DESCRIPTOR.name, "response_format"): _or_none,
    (Template.DESCRIPTOR.name, "verbosity"): _verbosity,
    (Template.DESCRIPTOR.name, "tool_choice"): _or_none,
    (TemplateTool.DESCRIPTOR.name, "type"): _tool_type,
    (TemplateTool.DESCRIPTOR.name, "schema"): _or_none,
    (TemplateTool.DESCRIPTOR.name, "file_search"): _file_search,
    (TemplateTool.DESCRIPTOR.name, "code_interpreter"): _code_interpreter,
}
