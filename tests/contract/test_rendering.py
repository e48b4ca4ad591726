"""RenderTemplate and BatchRenderTemplates: what comes out is taken by OpenAI's SDK as it is."""

import itertools
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from google.rpc.code_pb2 import Code
from grpc import StatusCode

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest, ImportModelRequest, ReplaceModelRequest
from omniflo.templates.v1.selection_service_pb2 import ResolutionReason, ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import ReasoningEffort, TemplateView, Variable
from omniflo.templates.v1.template_service_pb2 import (
    AdjustmentAction,
    BatchRenderTemplatesRequest,
    GetTemplateRequest,
    RenderTemplateRequest,
    ResolutionKey,
    WarningKind,
)
from omniflo.templates.v1.template_type_pb2 import (
    CodeInterpreterConfig,
    FileSearchConfig,
    OpenAIToolType,
    TemplateTool,
)
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateToolRequest
from tests.conftest import ROOT, Api, Database, fails
from tests.openai_stand_in import KEY, StandIn
from tests.scale import MOVED_TEMPLATES

pytestmark = pytest.mark.modes

SCHEMA = '{"type":"object", "properties": {"b": {"type": "string"}, "a": {"maximum": 1.0}}}'


def add_tools(api: Api, template_type: str) -> None:
    """Give a type a tool of each kind, complete enough to be rendered."""
    for body in (
        TemplateTool(name="f", type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION, schema=SCHEMA, description="Does it."),
        TemplateTool(
            name="s",
            type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FILE_SEARCH,
            file_search=FileSearchConfig(vector_store_ids=["vs_1"], max_num_results=5),
        ),
        TemplateTool(
            name="c",
            type=OpenAIToolType.OPEN_AI_TOOL_TYPE_CODE_INTERPRETER,
            code_interpreter=CodeInterpreterConfig(file_ids=["file_1"], memory_limit="4g"),
        ),
    ):
        body.template_type = template_type
        api.types.CreateTemplateTool(CreateTemplateToolRequest(template_tool=body))


@pytest.mark.once
@pytest.mark.parametrize(
    ("model", "temperature", "effort", "left_out"),
    [
        ("o3", 0.5, "LOW", ["temperature"]),
        ("gpt-5", 0.5, "LOW", ["temperature"]),
        ("gpt-5-mini", 1.0, "LOW", []),
        ("gpt-5-mini", 1.0, "MINIMAL", ["reasoning_effort"]),
        ("gpt-5.1", 0.5, "LOW", ["temperature"]),
        ("gpt-5.4-mini", 0.5, "MINIMAL", ["reasoning_effort"]),
        ("gpt-5.5", 0.5, "NONE", []),
        ("gpt-6-luna", 0.5, "NONE", []),
        ("gpt-6.2-sol", 0.5, "XHIGH", ["temperature"]),
        ("gpt-4o", 2.0, "HIGH", ["reasoning_effort"]),
        ("gpt-4.1", 0.0, "MAX", ["reasoning_effort"]),
    ],
)
def test_the_body_of_every_family_is_taken_by_the_sdk(
    model: str, temperature: float, effort: str, left_out: list[str], api: Api, stand_in: StandIn
) -> None:
    api.models.ImportModel(ImportModelRequest(openai_id=model))
    template_type = api.type().name
    add_tools(api, template_type)
    template = api.template(
        template_type=template_type,
        model=model,
        temperature=temperature,
        reasoning_effort=ReasoningEffort.Value(f"REASONING_EFFORT_{effort}"),
    )
    rendered = api.templates.RenderTemplate(RenderTemplateRequest(id=template.id))
    assert [adjustment.field for adjustment in rendered.adjustments] == [*left_out, "tools.f.strict"]
    assert all(adjustment.action == AdjustmentAction.ADJUSTMENT_ACTION_LEFT_OUT for adjustment in rendered.adjustments)

    with openai.OpenAI(api_key=KEY, base_url=stand_in.url, max_retries=0) as client:
        answer = client.responses.create(**json.loads(rendered.responses_request), input="A document.")
    assert "Do it." in answer.output_text
    (sent,) = stand_in.requests
    assert ("temperature" in sent, "reasoning" in sent) == tuple(
        field not in left_out for field in ("temperature", "reasoning_effort")
    )
    assert {tool["type"] for tool in sent["tools"]} == {"function", "file_search", "code_interpreter"}
    assert sent["metadata"] == {
        "template_id": template.id,
        "template_type": template_type,
        "template_revision": "1",
        "template_type_revision": str(rendered.template_type_revision),
    }


def test_a_schema_comes_out_with_the_bytes_that_went_in(api: Api) -> None:
    keys = [f"k{(number * 17) % 40}" for number in range(40)]
    numbers = '{"minimum": 1.0, "maximum": 1e400, "default": 10000000000000000000, "description": "\\u00e9\\/\\n"}'
    schema = '{"properties" :{' + ", ".join(f'"{key}":{numbers}' for key in keys) + '},\n"type": "object" }'
    template = api.template()
    body = TemplateTool(
        template_type=template.template_type, name="f", type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION, schema=schema
    )
    api.types.CreateTemplateTool(CreateTemplateToolRequest(template_tool=body))
    rendered = api.templates.RenderTemplate(RenderTemplateRequest(id=template.id))
    assert f'"parameters": {schema}' in rendered.responses_request


def test_a_function_is_strict_where_openai_takes_it_and_the_answer_says_why_not(api: Api) -> None:
    template = api.template()
    schemas = {
        "open": '{"type": "object", "properties": {"a": {"type": "string"}}}',
        "closed": json.dumps(
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": {"a": {"type": "string", "minLength": 1, "default": "x"}},
                "required": ["a"],
                "additionalProperties": False,
            }
        ),
    }
    wishes = {"unset": None, "wanted": True, "unwanted": False}
    for (name, schema), (wish, strict) in itertools.product(schemas.items(), wishes.items()):
        api.tool(
            template_type=template.template_type,
            name=f"{name}-{wish}",
            type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION,
            schema=schema,
            strict=strict,
        )
    rendered = api.templates.RenderTemplate(RenderTemplateRequest(id=template.id))
    tools = {tool["name"]: tool["strict"] for tool in json.loads(rendered.responses_request)["tools"]}
    assert tools == {f"{name}-{wish}": name == "closed" and wish != "unwanted" for name in schemas for wish in wishes}
    # A function that is not to be strict misses nothing.
    assert [(adjustment.field, adjustment.reason) for adjustment in rendered.adjustments] == [
        (f"tools.open-{wish}.strict", "/ must have additionalProperties false") for wish in ("unset", "wanted")
    ]


def test_a_user_and_a_type_are_resolved_first(api: Api) -> None:
    template_type, user = api.type().name, api.user()
    default = api.template(template_type=template_type, is_default=True)
    mine = api.template(template_type=template_type)
    request = RenderTemplateRequest(resolve=ResolutionKey(user_id=user.id, template_type=template_type))
    rendered = api.templates.RenderTemplate(request)
    assert (rendered.template.id, rendered.reason) == (default.id, ResolutionReason.RESOLUTION_REASON_DEFAULT)
    api.select(user, mine)
    rendered = api.templates.RenderTemplate(request)
    assert (rendered.template.id, rendered.reason) == (mine.id, ResolutionReason.RESOLUTION_REASON_SELECTED)
    summary = GetTemplateRequest(id=mine.id, view=TemplateView.TEMPLATE_VIEW_SUMMARY)
    assert rendered.template == api.templates.GetTemplate(summary)
    assert not api.templates.RenderTemplate(RenderTemplateRequest(id=mine.id)).reason


def test_what_cannot_be_rendered_says_why(api: Api) -> None:
    user, template_type = api.user(), api.type().name
    cases: list[tuple[dict[str, Any], StatusCode, str]] = [
        ({"id": "nobody"}, StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND"),
        ({"resolve": ResolutionKey(user_id="nobody", template_type="x")}, StatusCode.NOT_FOUND, "USER_NOT_FOUND"),
        (
            {"resolve": ResolutionKey(user_id=user.id, template_type="x")},
            StatusCode.NOT_FOUND,
            "TEMPLATE_TYPE_NOT_FOUND",
        ),
        (
            {"resolve": ResolutionKey(user_id=user.id, template_type=template_type)},
            StatusCode.NOT_FOUND,
            "NO_TEMPLATE_RESOLVED",
        ),
        ({}, StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"),
    ]
    for key, code, reason in cases:
        failure = fails(api.templates.RenderTemplate, RenderTemplateRequest(**key))
        assert (failure.code, failure.reason) == (code, reason)
    empty = fails(api.templates.RenderTemplate, RenderTemplateRequest(resolve=ResolutionKey()))
    assert set(empty.violations) == {"resolve.template_type"}
    empty = fails(api.templates.RenderTemplate, RenderTemplateRequest(resolve=ResolutionKey(template_type="x")))
    assert set(empty.violations) == {"resolve.user_id"}


def test_a_model_that_ends_is_warned_about_and_rendered_all_the_same(api: Api, database: Database) -> None:
    template = api.template()
    today = "(now() at time zone 'utc')::date"
    for day, kinds in (
        ("'infinity'", []),
        (f"{today} + 31", []),
        (f"{today} + 30", [WarningKind.WARNING_KIND_MODEL_SHUTTING_DOWN]),
        (today, [WarningKind.WARNING_KIND_MODEL_SHUT_DOWN]),
        (f"{today} - 400", [WarningKind.WARNING_KIND_MODEL_SHUT_DOWN]),
        ("'-infinity'", [WarningKind.WARNING_KIND_MODEL_SHUT_DOWN]),
    ):
        database.query(f"update openai_models set shutdown_date = {day}")
        # What is written by hand is heard of a moment later.
        strong = (("x-omniflo-consistency", "strong"),)
        rendered = api.templates.RenderTemplate(RenderTemplateRequest(id=template.id), metadata=strong)
        assert [warning.kind for warning in rendered.warnings] == kinds
        assert all(warning.field == "model" and warning.message for warning in rendered.warnings)
        assert json.loads(rendered.responses_request)["model"] == template.model


def test_a_batch_has_a_result_for_each_type_in_order(api: Api) -> None:
    user = api.user()
    first, second = api.template(is_default=True), api.template(is_default=True)
    types = [second.template_type, "unknown", first.template_type, api.type().name]
    request = BatchRenderTemplatesRequest(user_id=user.id, template_types=types)
    results = api.templates.BatchRenderTemplates(request).results
    assert [result.template_type for result in results] == types
    assert [result.WhichOneof("outcome") for result in results] == ["rendered", "error", "rendered", "error"]
    assert [results[0].rendered.template.id, results[2].rendered.template.id] == [second.id, first.id]
    single = RenderTemplateRequest(resolve=ResolutionKey(user_id=user.id, template_type=types[0]))
    assert results[0].rendered == api.templates.RenderTemplate(single)
    assert results[1].error.code == results[3].error.code == Code.NOT_FOUND
    nobody = BatchRenderTemplatesRequest(user_id="nobody", template_types=types)
    assert fails(api.templates.BatchRenderTemplates, nobody).reason == "USER_NOT_FOUND"


def test_a_batch_that_grows_too_large_says_how_many_fit(api: Api, database: Database) -> None:
    # Each is 0.25 MB as text and six times that in JSON.
    templates = [api.template(is_default=True) for _ in range(3)]
    database.query("update templates set instructions = repeat(E'\\x01', 256000)")
    types = [template.template_type for template in templates]
    request = BatchRenderTemplatesRequest(user_id=api.user().id, template_types=types)
    failure = fails(api.templates.BatchRenderTemplates, request)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RESPONSE_TOO_LARGE")
    del request.template_types[int(failure.metadata["fitting"]) :]
    assert len(api.templates.BatchRenderTemplates(request).results) == 2


@pytest.mark.once
@pytest.mark.soak
def test_many_templates_are_moved_while_callers_resolve_and_render(api: Api, database: Database) -> None:
    new = api.models.CreateModel(CreateModelRequest(model=Model(openai_id="new", name="new")))
    user, template = api.user(), api.template(is_default=True)
    database.query(
        "insert into templates (id, title, instructions, user_id, template_type_id, model_id)"
        " select 'copy' || n, title, instructions, user_id, template_type_id, model_id"
        " from templates, generate_series(1, %s) n",
        (MOVED_TEMPLATES - 1,),
    )
    moved = threading.Event()

    def call() -> int:
        calls = 0
        key = ResolutionKey(user_id=user.id, template_type=template.template_type)
        while not moved.is_set():
            api.templates.RenderTemplate(RenderTemplateRequest(resolve=key), timeout=10)
            api.selections.ResolveTemplate(
                ResolveTemplateRequest(user_id=user.id, template_type=template.template_type), timeout=10
            )
            calls += 1
        return calls

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(call) for _ in range(2)]
        time.sleep(0.1)
        try:
            request = ReplaceModelRequest(old_openai_id=template.model, new_openai_id=new.openai_id)
            assert api.models.ReplaceModel(request).template_count == MOVED_TEMPLATES
        finally:
            moved.set()
        assert all(caller.result(30) > 0 for caller in callers)
    assert database.query("select distinct model_id from templates") == [(new.id,)]


@pytest.mark.once
def test_the_first_calls_of_the_example_render_update_and_explain(api: Api, address: str) -> None:
    user, template = api.user(), api.template(is_default=True)
    done = subprocess.run(
        [sys.executable, ROOT / "examples/python/first_calls.py", template.template_type, user.id],
        env={"TEMPLATES_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert '"instructions": "Do it."' in done.stdout
    assert "description: Used from Python" in done.stdout
    assert "INVALID_ARGUMENT FIELD_INVALID: " in done.stdout
    assert "template.temperature: must be " in done.stdout
    changed = api.templates.GetTemplate(GetTemplateRequest(id=template.id))
    assert (changed.description, changed.title) == ("Used from Python", template.title)


@pytest.mark.once
def test_the_example_prints_what_the_model_says_and_records_what_it_used(
    api: Api, address: str, stand_in: StandIn, database: Database
) -> None:
    api.models.ImportModel(ImportModelRequest(openai_id="gpt-5.5"))
    variables = [Variable(name="how", required=True)]
    user, template = (
        api.user(),
        api.template(
            is_default=True, model="gpt-5.5", temperature=0.5, instructions="Do it {{how}}.", variables=variables
        ),
    )
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "examples/python/run_template.py",
            user.id,
            template.template_type,
            "A document.",
            "how=well=done",
        ],
        env={"TEMPLATES_ADDRESS": address, "OPENAI_BASE_URL": stand_in.url, "OPENAI_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "gpt-5.5 was told: Do it well=done. It was asked: A document." in done.stdout
    assert "left out: temperature" in done.stderr
    (run,) = stand_in.runs
    assert database.query("select template_id, model, user_id, input_tokens, output_tokens from usage_arrivals") == [
        (template.id, "gpt-5.5", user.id, run.usage["input_tokens"], run.usage["output_tokens"])
    ]
