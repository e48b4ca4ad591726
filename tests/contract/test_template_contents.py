"""What a template says beside its instructions: as it is written, listed and rendered."""

import json
from typing import Any

import openai
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest
from grpc import StatusCode
from openai.lib._parsing._responses import parse_response
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel

from omniflo.templates.v1.model_service_pb2 import ImportModelRequest
from omniflo.templates.v1.template_pb2 import Template, TemplateView, Variable, Verbosity
from omniflo.templates.v1.template_service_pb2 import (
    BatchRenderTemplatesRequest,
    CreateTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    RenderTemplateRequest,
    RenderTemplateResponse,
    ResolutionKey,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType
from service.interceptors.limits import MAP_BYTES
from tests.conftest import Api, fails
from tests.openai_stand_in import KEY, StandIn

CLOSED = '{"type": "object", "properties": {}, "additionalProperties": false}'
FUNCTION = OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION


def render(api: Api, template: Template, **variables: str) -> RenderTemplateResponse:
    return api.templates.RenderTemplate(RenderTemplateRequest(id=template.id, variables=variables))


def body(rendered: RenderTemplateResponse) -> Any:
    return json.loads(rendered.responses_request)


class Unit(BaseModel):
    name: str
    symbol: str | None


class Price(BaseModel):
    amount: float
    unit: Unit


class Item(BaseModel):
    title: str
    prices: list[Price]


class Invoice(BaseModel):
    number: int
    paid: bool
    items: list[Item]


class Answer(BaseModel):
    invoice: Invoice


@pytest.mark.modes
def test_an_answer_has_the_form_that_the_template_asks_for(api: Api, stand_in: StandIn) -> None:
    api.models.ImportModel(ImportModelRequest(openai_id="gpt-5.5"))
    template = api.template(
        model="gpt-5.5",
        response_format=json.dumps(to_strict_json_schema(Answer)),
        verbosity=Verbosity.VERBOSITY_LOW,
        max_output_tokens=500,
        tool_choice="required",
        parallel_tool_calls=False,
    )
    api.tool(template_type=template.template_type, type=FUNCTION, schema=CLOSED)
    rendered = render(api, template)
    assert not rendered.adjustments
    with openai.OpenAI(api_key=KEY, base_url=stand_in.url, max_retries=0) as client:
        response = client.responses.create(**body(rendered), input="Invoice 17.")
    parsed = parse_response(text_format=Answer, input_tools=openai.omit, response=response).output_parsed
    assert parsed is not None
    assert parsed.invoice.items[0].prices[0].unit.name == "a text"
    (sent,) = stand_in.requests
    assert sent["text"]["verbosity"] == "low"
    assert sent["text"]["format"]["strict"] is True
    assert (sent["max_output_tokens"], sent["tool_choice"], sent["parallel_tool_calls"]) == (500, "required", False)


@pytest.mark.parametrize(
    "change",
    [
        {"text": {"verbosity": "some"}},
        {"text": {"length": 1}},
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}}},
        {"top_p": "half"},
        {"max_output_tokens": 15},
        {"tool_choice": "auto"},
        {"tool_choice": {"type": "function", "name": "f"}},
        {"parallel_tool_calls": True},
    ],
)
def test_the_stand_in_refuses_what_openai_would(change: dict[str, Any], stand_in: StandIn) -> None:
    with (
        openai.OpenAI(api_key=KEY, base_url=stand_in.url, max_retries=0) as client,
        pytest.raises(openai.BadRequestError),
    ):
        client.responses.create(model="gpt-5.5", input="A document.", **change)


@pytest.mark.modes
def test_variables_are_filled_in_and_what_is_unknown_is_said(api: Api) -> None:
    template = api.template(
        instructions="Write {{tone}} {{language}} for {{ name }}.",
        variables=[Variable(name="tone", default_value="dry"), Variable(name="language", required=True)],
        is_default=True,
    )
    rendered = render(api, template, language="{{tone}} French", name="N", other="O")
    assert body(rendered)["instructions"] == "Write dry {{tone}} French for {{ name }}."
    assert [adjustment.field for adjustment in rendered.adjustments] == ["variables.name", "variables.other"]
    assert rendered.template.variables == []
    key = ResolutionKey(user_id=api.user().id, template_type=template.template_type)
    request = RenderTemplateRequest(resolve=key, variables={"language": "English", "tone": ""})
    assert body(api.templates.RenderTemplate(request))["instructions"] == "Write  English for {{ name }}."
    failure = fails(api.templates.RenderTemplate, RenderTemplateRequest(id=template.id, variables={"tone": "wet"}))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["variables.language"]


def test_without_declared_variables_the_body_is_the_same_whatever_is_sent(api: Api) -> None:
    template = api.template(instructions="Use {{name}} and {{{name}}} as Mustache does.")
    rendered = render(api, template)
    assert not rendered.adjustments
    assert body(rendered)["instructions"] == template.instructions
    assert render(api, template, name="N").responses_request == rendered.responses_request


def test_in_a_batch_an_error_of_variables_is_that_of_one_type(api: Api) -> None:
    needs = api.template(
        instructions="In {{language}}.", variables=[Variable(name="language", required=True)], is_default=True
    )
    grows = api.template(
        instructions="{{tone}}" + "x" * 255_990, variables=[Variable(name="tone", default_value="")], is_default=True
    )
    plain = api.template(is_default=True)
    types = [template.template_type for template in (needs, grows, plain)]
    request = BatchRenderTemplatesRequest(user_id=api.user().id, template_types=types, variables={"tone": "y" * 11})
    results = api.templates.BatchRenderTemplates(request).results
    assert [result.error.code for result in results[:2]] == [Code.INVALID_ARGUMENT] * 2
    wrong = []
    for result in results[:2]:
        for detail in result.error.details:
            bad_request = BadRequest()
            if detail.Unpack(bad_request):
                wrong += [violation.field for violation in bad_request.field_violations]
    assert wrong == ["variables.language", "variables"]
    assert [adjustment.field for adjustment in results[2].rendered.adjustments] == ["variables.tone"]
    request.variables["language"] = "French"
    request.variables["tone"] = "y" * 10
    assert [result.WhichOneof("outcome") for result in api.templates.BatchRenderTemplates(request).results] == [
        "rendered"
    ] * 3


@pytest.mark.parametrize(
    ("variables", "field"),
    [
        ({f"a{number}": "" for number in range(65)}, "variables"),
        ({"A": ""}, "variables.A"),
        ({"a" * 65: ""}, f"variables.{'a' * 64}"),
        ({"": ""}, "variables."),
        ({"a": "x" * 65_537}, "variables.a"),
        ({"a": "x\0"}, "variables.a"),
    ],
)
def test_a_value_that_is_none_is_named(api: Api, variables: dict[str, str], field: str) -> None:
    template = api.template()
    for call, request in (
        (api.templates.RenderTemplate, RenderTemplateRequest(id=template.id, variables=variables)),
        (
            api.templates.BatchRenderTemplates,
            BatchRenderTemplatesRequest(
                user_id=template.user_id, template_types=[template.template_type], variables=variables
            ),
        ),
    ):
        failure = fails(call, request)
        assert (failure.code, list(failure.violations)) == (StatusCode.INVALID_ARGUMENT, [field])


def test_as_many_values_are_taken_as_instructions_can_hold_and_a_request_of_more_is_refused(api: Api) -> None:
    names = [f"v{number}" for number in range(15)]
    template = api.template(
        instructions="".join(f"{{{{{name}}}}}" for name in names), variables=[Variable(name=name) for name in names]
    )
    values = dict.fromkeys(names, "\N{ROCKET}" * 16_384)
    assert body(render(api, template, **values))["instructions"] == "\N{ROCKET}" * 16_384 * 15
    request = RenderTemplateRequest(
        id=template.id, variables=values | {f"w{number}": "x" * 65_536 for number in (1, 2, 3, 4)}
    )
    assert request.ByteSize() > MAP_BYTES
    failure = fails(api.templates.RenderTemplate, request)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")


def test_the_instructions_use_each_variable_also_after_an_update(api: Api) -> None:
    def update(*paths: str, **fields: Any) -> Any:
        return UpdateTemplateRequest(template=Template(id=template.id, **fields), update_mask=FieldMask(paths=[*paths]))

    tone, language = Variable(name="tone"), Variable(name="language")
    template = api.template(instructions="In a {{tone}} tone.", variables=[tone])
    unused = Template(
        title="T",
        instructions="{{ tone }}",
        variables=[tone],
        template_type=template.template_type,
        model=template.model,
    )
    unused.user_id = template.user_id
    for call, request, field in (
        (api.templates.CreateTemplate, CreateTemplateRequest(template=unused), "template.variables[0].name"),
        (api.templates.UpdateTemplate, update("instructions", instructions="Do it."), "template.variables[0].name"),
        (
            api.templates.UpdateTemplate,
            update("variables", variables=[tone, language]),
            "template.variables[1].name",
        ),
        (api.templates.UpdateTemplate, update("variables", variables=[tone, tone]), "template.variables[1].name"),
        (
            api.templates.UpdateTemplate,
            update("response_format", response_format='{"type": "array"}'),
            "template.response_format",
        ),
        (
            api.templates.UpdateTemplate,
            update("variables", variables=[Variable(name="tone", required=True, default_value="dry")]),
            "template.variables[0]",
        ),
    ):
        failure = fails(call, request)
        assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert [path.removesuffix(".default_value") for path in failure.violations] == [field]
    both = update("variables", "instructions", variables=[language], instructions="In {{language}}.")
    assert api.templates.UpdateTemplate(both).variables == [language]
    assert not api.templates.UpdateTemplate(update("variables")).variables
    summary = GetTemplateRequest(id=template.id, view=TemplateView.TEMPLATE_VIEW_SUMMARY)
    assert api.templates.UpdateTemplate(update("response_format", response_format=CLOSED)).response_format == CLOSED
    assert not api.templates.GetTemplate(summary).response_format


@pytest.mark.modes
def test_a_template_does_without_the_tools_that_it_names(api: Api) -> None:
    template = api.template(disabled_tools=["b", "unknown"], tool_choice="b")
    for name in "abc":
        api.tool(template_type=template.template_type, name=f"{name}", type=FUNCTION, schema=CLOSED)
    rendered = render(api, template)
    assert [tool["name"] for tool in body(rendered)["tools"]] == ["a", "c"]
    # That it is gone is what was asked for; that it cannot be chosen then is not.
    assert [adjustment.field for adjustment in rendered.adjustments] == ["tool_choice"]


@pytest.mark.modes
def test_tags_filter_by_all_of_them_and_by_what_they_begin_with(api: Api) -> None:
    author, name = api.user().id, api.type().name
    tags = {
        "a": ["billing/invoices", "checked"],
        "b": ["billing/invoices/old"],
        "c": ["billing"],
        "d": ["billings/x", "checked"],
        "e": [],
        "f": ["billing/"],
    }
    model = api.model().openai_id
    for title, its in tags.items():
        api.template(title=title, tags=its, user_id=author, template_type=name, model=model)

    def found(*tags: str, **filters: Any) -> str:
        request = ListTemplatesRequest(tags=tags, **filters)
        return "".join(sorted(template.title for template in api.templates.ListTemplates(request).templates))

    assert found() == "abcdef"
    assert found("billing") == "c"
    assert found("billing/invoices") == "a"
    assert found("billing/") == "abf"
    assert found("billing/invoices/") == "b"
    assert found("checked") == "ad"
    assert found("checked", "billing/") == "a"
    assert found("checked", "checked") == "ad"
    assert found("bill") == found("billing/inv/") == found("nothing") == ""
    assert found("checked", query="d", user_id=author, template_type=name) == "d"
    first = api.templates.ListTemplates(ListTemplatesRequest(tags=["checked"], page_size=1))
    token = first.next_page_token
    second = api.templates.ListTemplates(ListTemplatesRequest(tags=["checked"], page_size=1, page_token=token))
    assert [page.templates[0].title for page in (first, second)] == ["d", "a"]
    wrong = fails(api.templates.ListTemplates, ListTemplatesRequest(tags=["billing/"], page_token=token))
    assert wrong.reason == "PAGE_TOKEN_INVALID"
