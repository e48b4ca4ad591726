"""Update masks and bodies to the values that operations take."""

import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import GetModelRequest
from omniflo.templates.v1.organization_pb2 import Member, Organization, OrganizationRole
from omniflo.templates.v1.template_pb2 import ReasoningEffort, Template, TemplateView, Variable, Verbosity
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_type_pb2 import (
    CodeInterpreterConfig,
    FileSearchConfig,
    OpenAIToolType,
    TemplateTool,
    TemplateType,
)
from service.errors import InvalidArgument
from service.models.templates import View
from service.operations import api_keys, openai_models, template_types
from service.servicers import decode
from tests.contract.methods import CREATES, OUTPUT_ONLY, behaviour

FULL = Template(
    title="T",
    description="D",
    instructions="I",
    template_type="data-export",
    is_default=True,
    model="gpt-5.5",
    temperature=0,
    reasoning_effort=ReasoningEffort.REASONING_EFFORT_XHIGH,
    variables=[Variable(name="tone", default_value="dry")],
    response_format="{}",
    verbosity=Verbosity.VERBOSITY_HIGH,
    max_output_tokens=16,
    top_p=0,
    tool_choice="none",
    parallel_tool_calls=False,
    disabled_tools=["search"],
    tags=["billing/invoices"],
)
FULL_VALUES: dict[str, Any] = {
    "title": "T",
    "description": "D",
    "instructions": "I",
    "template_type": "data-export",
    "is_default": True,
    "model": "gpt-5.5",
    "temperature": 0.0,
    "reasoning_effort": "xhigh",
    "variables": [{"name": "tone", "description": "", "required": False, "default_value": "dry"}],
    "response_format": "{}",
    "verbosity": "high",
    "max_output_tokens": 16,
    "top_p": 0.0,
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "disabled_tools": ["search"],
    "tags": ["billing/invoices"],
}
PRICES = ["input_price", "cached_input_price", "output_price"]
CONFIGS = {"file_search": None, "code_interpreter": None}


def changes(resource: Message, *paths: str) -> dict[str, Any]:
    return decode.changes(resource, FieldMask(paths=paths))


@pytest.mark.parametrize(
    ("resource", "paths", "expected"),
    [
        # Without a mask, what is populated and writable.
        (Template(id="x", etag="e", user_id="u", assistant_id="a", title="T"), [], {"title": "T"}),
        (Template(id="x"), [], {}),
        (Template(id="x", is_default=False, description=""), [], {}),
        (Template(id="x", temperature=0), [], {"temperature": 0.0}),
        (FULL, [], FULL_VALUES),
        (TemplateType(id="x", name="n", description="D"), [], {"description": "D"}),
        # With one, its paths, whatever they hold.
        (FULL, ["title"], {"title": "T"}),
        (FULL, ["title", "title"], {"title": "T"}),
        (FULL, ["temperature", "title"], {"temperature": 0.0, "title": "T"}),
        (Template(id="x"), ["description"], {"description": ""}),
        (Template(id="x"), ["is_default"], {"is_default": False}),
        (Template(id="x"), ["temperature"], {"temperature": None}),
        (Template(id="x"), ["reasoning_effort"], {"reasoning_effort": None}),
        (Template(id="x"), ["verbosity", "tool_choice"], {"verbosity": None, "tool_choice": None}),
        (Template(id="x"), ["variables", "tags"], {"variables": [], "tags": []}),
        (Model(id="x"), ["shutdown_date"], {"shutdown_date": None}),
        (
            Model(shutdown_date=Date(year=2028, month=2, day=29)),
            ["shutdown_date"],
            {"shutdown_date": date(2028, 2, 29)},
        ),
        (
            Model(input_price=Money(currency_code="USD", units=1, nanos=250_000_000)),
            PRICES,
            dict.fromkeys(PRICES) | {"input_price": Decimal("1.25")},
        ),
        (Member(role=OrganizationRole.ORGANIZATION_ROLE_VIEWER), ["role"], {"role": "viewer"}),
        (ApiKey(name="N"), ["expire_time"], {"expire_time": None}),
        # To the microsecond, which is what is kept; the rest of the second is cut off, not rounded up to the next.
        (
            ApiKey(expire_time=Timestamp(seconds=1, nanos=999_999_999)),
            [],
            {"expire_time": datetime(1970, 1, 1, 0, 0, 1, 999_999, tzinfo=UTC)},
        ),
        (
            ApiKey(expire_time=Timestamp(seconds=253_402_300_799)),
            [],
            {"expire_time": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)},
        ),
        # A star is everything.
        (FULL, ["*"], FULL_VALUES),
        (Organization(id="x", name="N"), ["*"], {"name": "N"}),
        (ApiKey(name="N", user_id="u", organization_id="o"), ["*"], {"name": "N", "expire_time": None}),
        (
            Model(name="N"),
            ["*"],
            {"name": "N", "description": "", "shutdown_date": None} | dict.fromkeys(PRICES),
        ),
        (
            TemplateTool(name="n", type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION, schema="{}"),
            ["*"],
            {"name": "n", "type": "function", "description": "", "schema": "{}", "strict": None, **CONFIGS},
        ),
        (TemplateTool(strict=False), [], {"strict": False}),
        # The members of a oneof, and what has no value.
        (TemplateTool(), ["schema", "file_search"], {"schema": None, "file_search": None}),
        (
            TemplateTool(file_search=FileSearchConfig()),
            ["file_search", "code_interpreter"],
            {"file_search": {"vector_store_ids": []}, "code_interpreter": None},
        ),
        (
            TemplateTool(file_search=FileSearchConfig(vector_store_ids=["a", "b"], max_num_results=5)),
            [],
            {"file_search": {"vector_store_ids": ["a", "b"], "max_num_results": 5}},
        ),
        (
            TemplateTool(code_interpreter=CodeInterpreterConfig(file_ids=["f"], memory_limit="4g")),
            [],
            {"code_interpreter": {"file_ids": ["f"], "memory_limit": "4g"}},
        ),
        (
            TemplateTool(code_interpreter=CodeInterpreterConfig()),
            [],
            {"code_interpreter": {"file_ids": []}},
        ),
    ],
)
def test_changes_are_the_fields_of_the_mask(resource: Message, paths: list[str], expected: dict[str, Any]) -> None:
    assert changes(resource, *paths) == expected


@pytest.mark.parametrize(
    ("resource", "paths", "fields"),
    [
        # Unknown, nested, output only and immutable.
        (FULL, ["titel"], ["update_mask.paths[0]"]),
        (FULL, ["title", ""], ["update_mask.paths[1]"]),
        (FULL, ["author.id"], ["update_mask.paths[0]"]),
        (FULL, ["id", "title", "etag"], ["update_mask.paths[0]", "update_mask.paths[2]"]),
        (FULL, ["create_time", "assistant_id"], ["update_mask.paths[0]", "update_mask.paths[1]"]),
        (FULL, ["user_id"], ["update_mask.paths[0]"]),
        (TemplateType(name="n"), ["name", "tools"], ["update_mask.paths[0]", "update_mask.paths[1]"]),
        (Model(openai_id="o"), ["openai_id"], ["update_mask.paths[0]"]),
        (TemplateTool(), ["template_type", "config"], ["update_mask.paths[0]", "update_mask.paths[1]"]),
        # A star stands alone.
        (FULL, ["*", "title"], ["update_mask.paths[0]"]),
        # Required, and emptied.
        (
            Template(),
            ["title", "instructions", "template_type", "model"],
            ["template.title", "template.instructions", "template.template_type", "template.model"],
        ),
        (Template(title="T"), ["*"], ["template.instructions", "template.model", "template.template_type"]),
        (Model(), ["name"], ["model.name"]),
        (Member(), ["*"], ["member.role"]),
        (FULL, ["organization_id"], ["update_mask.paths[0]"]),
        (
            ApiKey(scope=ApiKeyScope.API_KEY_SCOPE_READ),
            ["scope", "user_id", "digest"],
            [f"update_mask.paths[{index}]" for index in range(3)],
        ),
        (TemplateTool(), ["name", "type"], ["template_tool.name", "template_tool.type"]),
        (Model(name="N", shutdown_date=Date(year=2027, month=2, day=29)), [], ["model.shutdown_date"]),
    ],
)
def test_what_an_update_cannot_write_is_named(resource: Message, paths: list[str], fields: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        changes(resource, *paths)
    assert caught.value.reason == "FIELD_INVALID"
    assert [field for field, _ in caught.value.violations] == fields


def test_a_long_path_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidArgument) as caught:
        changes(FULL, "x" * 10_000)
    ((_, description),) = caught.value.violations
    assert len(description) < 400


def test_values_of_a_create_are_what_is_populated() -> None:
    body = Template(id="x", title="T", user_id="u", temperature=0, is_default=False, etag="e")
    assert decode.values(body, "user_id") == {"title": "T", "temperature": 0.0}


@pytest.mark.parametrize("effort", [value for value in ReasoningEffort.values() if value])
def test_every_effort_has_a_value_in_the_database(effort: ReasoningEffort.ValueType) -> None:
    value = decode.values(Template(reasoning_effort=effort))["reasoning_effort"]
    assert value in {"none", "minimal", "low", "medium", "high", "xhigh", "max"}


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (GetModelRequest(id="x"), {"id": "x"}),
        (GetModelRequest(openai_id="o"), {"openai_id": "o"}),
        (GetModelRequest(), {}),
    ],
)
def test_a_key_is_known_by_its_name(request_: Message, key: dict[str, str]) -> None:
    assert decode.key(request_) == key


@pytest.mark.parametrize(
    ("asked", "view"),
    [
        (TemplateView.TEMPLATE_VIEW_UNSPECIFIED, View.BASIC),
        (TemplateView.TEMPLATE_VIEW_SUMMARY, View.SUMMARY),
        (TemplateView.TEMPLATE_VIEW_FULL, View.FULL),
    ],
)
def test_a_view_is_the_one_asked_for(asked: TemplateView.ValueType, view: View) -> None:
    assert decode.view(GetTemplateRequest(view=asked)) is view
    assert len(TemplateView.values()) == len(View) - 1, "all but the RENDERABLE"


@pytest.mark.parametrize(
    ("create", "name"),
    [
        (template_types.create, "CreateTemplateType"),
        (openai_models.create, "CreateModel"),
        (api_keys.create, "CreateApiKey"),
    ],
)
def test_an_operation_that_names_its_values_has_one_for_each_field(create: Callable[..., object], name: str) -> None:
    (method,) = [method for method in CREATES if method.name == name]
    fields = {field.name for field in method.resource.fields if OUTPUT_ONLY not in behaviour(field)} - {"etag"}
    missing = fields - inspect.signature(create).parameters.keys()
    assert not missing, f"add them to {create.__name__} in {inspect.getsourcefile(inspect.unwrap(create))}"
