"""The size that a list counts for a row is no smaller than its message, so that no page is larger than clients read."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from omniflo.templates.v1.template_pb2 import TemplateView, Variable
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType
from omniflo.templates.v1.user_service_pb2 import ProvisionUserRequest
from service.operations.listing import Source
from tests.conftest import Api, Database
from tests.contract import samples
from tests.contract.methods import LISTS, METHODS, OUTPUT_ONLY, REVISIONS, Field, Method, behaviour
from tests.contract.test_conformance_fields import longest

ENVELOPE = 10
"""The bytes that a message takes in the list around it: its field's number and its length."""

_CREATES = {method.name: method for method in METHODS}


def fill(message: Any, given: dict[str, Any]) -> None:
    """Set every field that a caller may write to the largest that its rules allow, but for those that are given."""
    for field in message.DESCRIPTOR.fields:
        if field.name in given:
            message.ClearField(field.name)
            if field.is_repeated:
                getattr(message, field.name).extend(given[field.name] or ())
            elif given[field.name] is not None:
                setattr(message, field.name, given[field.name])
        elif OUTPUT_ONLY not in behaviour(field) and field.name != "etag":
            _fill(message, Field((field,)))


def _fill(message: Any, field: Field) -> None:
    descriptor = field.last
    if descriptor.is_repeated:
        field.put(message, *[_largest(message, field)] * field.container.repeated.max_items)
    elif descriptor.message_type is None:
        field.put(message, _largest(message, field))
    elif descriptor.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
        getattr(message, field.name).CopyFrom(Timestamp(seconds=253402300798, nanos=999999000))
    elif descriptor.message_type.full_name == Duration.DESCRIPTOR.full_name:
        getattr(message, field.name).CopyFrom(field.container.duration.lte)
    elif descriptor.message_type.full_name == Date.DESCRIPTOR.full_name:
        getattr(message, field.name).CopyFrom(Date(year=9999, month=12, day=31))
    elif descriptor.message_type.full_name == Money.DESCRIPTOR.full_name:
        getattr(message, field.name).CopyFrom(Money(currency_code="USD", units=999_999, nanos=999_999_999))
    else:
        fill(getattr(message, field.name), {})


def _largest(message: Any, field: Field) -> Any:
    kind = field.last.type
    if kind == FieldDescriptor.TYPE_STRING:
        if allowed := getattr(field.rules.string, "in"):
            return max(allowed, key=len)
        if not field.rules.string.pattern:
            return longest(field) if field.rules.string.max_bytes else longest(field, "😀")
        # The beginning keeps names apart.
        start = "" if field.last.is_repeated or field.name == "tool_choice" else getattr(message, field.name)
        return start + "a" * (field.rules.string.max_len - len(start))
    if kind == FieldDescriptor.TYPE_ENUM:
        assert field.last.enum_type is not None
        return field.last.enum_type.values[-1].number
    if kind == FieldDescriptor.TYPE_BOOL:
        return True
    if kind == FieldDescriptor.TYPE_DOUBLE:
        return field.rules.double.lte
    if kind == FieldDescriptor.TYPE_INT32:
        return field.rules.int32.lte
    if kind == FieldDescriptor.TYPE_INT64:
        return 2**63 - 1
    raise AssertionError(f"say here what the largest {field} is")


def make(api: Api, name: str, **given: Any) -> Any:
    """Call a method that creates, with a body as large as it may be."""
    method = _CREATES[name]
    request: Any = samples.of(api, method)
    fill(getattr(request, method.body.name), given)
    answer = method.on(api)(request)
    return method.resource_of(answer)


def world(api: Api) -> dict[str, Any]:
    """Create a row of each kind, as large as it may be, and return what lists ask for."""
    user = api.users.ProvisionUser(ProvisionUserRequest(clerk_id="\U0001f680" * 255))
    organization = make(api, "CreateOrganization")
    api.member(organization, user)
    make(api, "InviteMember", organization_id=organization.id, user_id=api.user().id)
    owner = make(api, "CreateTemplateType", tools=None)
    configs: dict[str, dict[str, Any]] = {
        "FUNCTION": {"file_search": None, "code_interpreter": None},
        "FILE_SEARCH": {"schema": None, "code_interpreter": None, "strict": None},
        "CODE_INTERPRETER": {"schema": None, "file_search": None, "strict": None},
    }
    for kind, given in configs.items():
        type = OpenAIToolType.Value(f"OPEN_AI_TOOL_TYPE_{kind}")
        make(api, "CreateTemplateTool", template_type=owner.name, type=type, **given)
    model = make(api, "CreateModel")
    key = {"user_id": user.id, "organization_id": organization.id}
    variables = [
        Variable(
            name=f"{number:a>64}",
            description="😀" * 128,
            required=number % 2 == 0,
            default_value="😀" * 256 if number % 2 else "",
        )
        for number in range(64)
    ]
    uses = "".join(f"{{{{{variable.name}}}}}" for variable in variables)
    template = make(
        api,
        "CreateTemplate",
        template_type=owner.name,
        model=model.openai_id,
        variables=variables,
        instructions=uses + "😀" * (256_000 - len(uses)),
        **key,
    )
    make(api, "CreateApiKey", **key)
    api.select(user, template, organization.id)
    make(api, "CreateProcessingRecord", template_id=template.id, template_revision=1, **key)
    return key | {"template_type": owner.name, "template_id": template.id}


def requests(method: Method) -> list[Callable[[dict[str, Any]], Message]]:
    """Return what makes a request of the list, one for each view."""
    fields = method.request.DESCRIPTOR.fields_by_name

    def make(key: dict[str, Any], view: int | None) -> Message:
        filters = {name: value for name, value in key.items() if name in fields}
        return method.request(**filters, **({} if view is None else {"view": view}))

    views = TemplateView.values() if "view" in fields else [None]
    return [lambda key, view=view: make(key, view) for view in views]  # type: ignore[misc]


@pytest.mark.parametrize("method", LISTS, ids=lambda method: method.name)
def test_a_row_is_counted_as_no_smaller_than_its_message(
    api: Api, database: Database, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = world(api)
    used: list[Source[Any]] = []
    page = Source.page
    monkeypatch.setattr(Source, "page", lambda source, **options: used.append(source) or page(source, **options))  # type: ignore[func-returns-value]
    (repeated,) = [field for field in method.response.DESCRIPTOR.fields if field.is_repeated]
    for request in requests(method):
        rows = getattr(method.on(api)(request(key)), repeated.name)
        assert rows
        source = used[-1]
        # Revisions of different things have the same numbers.
        key_of = f"concat_ws(':', {', '.join(source.order)})" if method in REVISIONS else f"{source.id}::text"
        sizes = dict(database.query(f"select {key_of}, {source.message_size} from {source.keys}"))
        for row in rows:
            owner = getattr(row, row.DESCRIPTOR.fields[0].name)
            size = sizes[f"{row.revision}:{owner}" if method in REVISIONS else row.id]
            assert row.ByteSize() + ENVELOPE <= size, (row.ByteSize(), size)
