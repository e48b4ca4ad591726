"""ReplaceModel: what is moved, and what is lost by it, is what renderings say before and after."""

import itertools
from collections import Counter
from typing import Any

import pytest
from grpc import StatusCode

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest, ReplaceModelRequest, ReplaceModelResponse
from omniflo.templates.v1.template_pb2 import ReasoningEffort, Template, TemplateView, Verbosity
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, RenderTemplateRequest
from omniflo.templates.v1.template_type_pb2 import CodeInterpreterConfig, FileSearchConfig, OpenAIToolType
from tests.conftest import Api, Database, fails
from tests.contract.tables import contents, saved

SEARCH = OpenAIToolType.OPEN_AI_TOOL_TYPE_FILE_SEARCH
INTERPRETER = OpenAIToolType.OPEN_AI_TOOL_TYPE_CODE_INTERPRETER
FUNCTION = OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION

STORES = FileSearchConfig(vector_store_ids=["vs_1"])
OPEN = '{"type": "object", "properties": {}}'
CLOSED = '{"type": "object", "properties": {}, "additionalProperties": false}'
PATTERN = CLOSED.replace("{}", '{"a": {"type": "string", "pattern": "a"}}, "required": ["a"]')

TYPES: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "a search without vector stores": [{"type": SEARCH, "file_search": FileSearchConfig()}, {"type": SEARCH}],
    "hosted": [
        {"type": SEARCH, "file_search": STORES},
        {"type": INTERPRETER, "code_interpreter": CodeInterpreterConfig()},
        {"type": INTERPRETER},
    ],
    "functions": [
        {"type": FUNCTION, "schema": OPEN},
        {"type": FUNCTION, "schema": CLOSED},
        {"type": FUNCTION, "schema": PATTERN},
        {"type": FUNCTION, "schema": PATTERN, "strict": True},
    ],
    "functions that lose nothing": [
        {"type": FUNCTION, "schema": CLOSED},
        {"type": FUNCTION, "schema": PATTERN, "strict": False},
    ],
}
EFFORTS = ("UNSPECIFIED", "NONE", "MINIMAL", "HIGH")
TEMPERATURES = (None, 0.5, 1.0)
OTHERS: list[dict[str, Any]] = [
    {"top_p": 0.5, "verbosity": Verbosity.VERBOSITY_LOW, "parallel_tool_calls": False},
    {"top_p": 1, "reasoning_effort": ReasoningEffort.REASONING_EFFORT_HIGH, "verbosity": Verbosity.VERBOSITY_MEDIUM},
    {"response_format": CLOSED},
    {"response_format": PATTERN},
    {"response_format": PATTERN, "verbosity": Verbosity.VERBOSITY_HIGH},
]
"""What templates with hosted tools and with functions say as well, and others that do without all of these."""

MOVES = {
    "gpt-5-mini": {"reasoning_effort", "temperature", "top_p"},
    "gpt-5.4-mini": {"reasoning_effort", "temperature", "top_p"},
    "gpt-5-pro": {"reasoning_effort", "temperature", "top_p", "tools"},
    "gpt-4.1": {"reasoning_effort", "verbosity"},
    "ft:gpt-4o-mini-2024-07-18:omniflo::abc": {"tools.strict", "response_format.strict"},
    "gpt-4o": set(),
    "gpt-5.5": {"temperature", "top_p"},
    "gpt-4o-search-preview": {"reasoning_effort", "temperature", "verbosity", "tools", "parallel_tool_calls"},
    "o4-mini": {"parallel_tool_calls"},
    "claude": set(),
}
"""The models that templates are moved to, one after the other, and which fields they lose by it."""


def model(api: Api, openai_id: str) -> str:
    return api.models.CreateModel(CreateModelRequest(model=Model(openai_id=openai_id, name=openai_id))).openai_id


def of_all_kinds(api: Api, openai_id: str) -> list[Template]:
    """Create templates of a model with all combinations of settings, and of tools."""
    author = api.user().id
    names, disabled_tools = [], {}
    for tools in TYPES.values():
        names.append(api.type().name)
        made = [api.tool(template_type=names[-1], **tool).name for tool in tools]
        disabled_tools[names[-1]] = made
    return [
        api.template(
            user_id=author,
            template_type=name,
            model=openai_id,
            temperature=temperature,
            reasoning_effort=ReasoningEffort.Value(f"REASONING_EFFORT_{effort}"),
        )
        for name, effort, temperature in itertools.product(names, EFFORTS, TEMPERATURES)
    ] + [
        api.template(user_id=author, template_type=name, model=openai_id, disabled_tools=disabled, **others)
        for name, others in itertools.product(names[2:4], OTHERS)
        for disabled in ([], disabled_tools[name])
    ]


def left_out(api: Api, template: Template) -> set[str]:
    """Return the fields that the rendering of a template leaves out."""
    rendered = api.templates.RenderTemplate(RenderTemplateRequest(id=template.id))
    return {adjustment.field for adjustment in rendered.adjustments}


def settings(api: Api, template: Template, fields: set[str]) -> set[tuple[str, str]]:
    """Return the settings that these fields of a rendering stand for, each with its value."""
    view = TemplateView.TEMPLATE_VIEW_FULL
    full = api.templates.GetTemplate(GetTemplateRequest(id=template.id, view=view))
    effort = ReasoningEffort.Name(full.reasoning_effort).removeprefix("REASONING_EFFORT_")
    found = {name: (name, "") for name in ("temperature", "top_p", "parallel_tool_calls", "response_format.strict")}
    verbosity = Verbosity.Name(full.verbosity).removeprefix("VERBOSITY_")
    found |= {"reasoning_effort": ("reasoning_effort", effort), "verbosity": ("verbosity", verbosity)}
    for tool in full.type_details.tools:
        kind = OpenAIToolType.Name(tool.type).removeprefix("OPEN_AI_TOOL_TYPE_")
        found |= {f"tools.{tool.name}": ("tools", kind), f"tools.{tool.name}.strict": ("tools.strict", "")}
    return {found[field] for field in fields}


def counted(response: ReplaceModelResponse) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for loss in response.losses:
        counts[loss.field, loss.value] += loss.template_count
    return counts


def test_what_templates_lose_is_what_their_renderings_lose(api: Api) -> None:
    old = model(api, "octopus")
    templates = of_all_kinds(api, old)
    before = [left_out(api, template) for template in templates]
    for new, fields in MOVES.items():
        request = ReplaceModelRequest(old_openai_id=old, new_openai_id=model(api, new))
        response = api.models.ReplaceModel(request)
        after = [left_out(api, template) for template in templates]
        lost = [
            settings(api, template, now - then)
            for template, then, now in zip(templates, before, after, strict=True)
            if now - then
        ]
        assert counted(response) == Counter(itertools.chain.from_iterable(lost))
        assert {loss.field for loss in response.losses} == fields
        assert response.template_count == len(templates)
        old, before = new, after


def test_a_loss_names_what_the_new_model_takes(api: Api) -> None:
    old, new = model(api, "octopus"), model(api, "gpt-5-mini")
    hosted, plain = api.tool(file_search=STORES).template_type, api.type().name
    for effort, name in itertools.product(("MINIMAL", "XHIGH"), (hosted, plain, plain)):
        value = ReasoningEffort.Value(f"REASONING_EFFORT_{effort}")
        api.template(model=old, template_type=name, temperature=0.5, reasoning_effort=value)
    response = api.models.ReplaceModel(ReplaceModelRequest(old_openai_id=old, new_openai_id=new))
    assert [(loss.field, loss.value, loss.reason, loss.template_count) for loss in response.losses] == [
        ("reasoning_effort", "MINIMAL", "gpt-5-mini takes LOW, MEDIUM and HIGH only with file_search", 1),
        ("reasoning_effort", "XHIGH", "gpt-5-mini takes MINIMAL, LOW, MEDIUM and HIGH only", 3),
        ("temperature", "", "gpt-5-mini takes temperature 1 only", 6),
    ]


def test_only_validated_it_answers_the_same_and_writes_nothing(api: Api, database: Database) -> None:
    old, new = model(api, "gpt-5-mini"), model(api, "gpt-5.4-mini")
    of_all_kinds(api, old)
    before = contents(database)
    request = ReplaceModelRequest(old_openai_id=old, new_openai_id=new, validate_only=True, request_id="1")
    first = api.models.ReplaceModel(request)
    assert first.losses
    assert contents(database) == before
    api.template(model=old, reasoning_effort=ReasoningEffort.REASONING_EFFORT_MINIMAL)
    # Nothing was kept: it is counted again.
    assert api.models.ReplaceModel(request).template_count == first.template_count + 1
    assert saved(database) == 0
    request.validate_only = False
    done = api.models.ReplaceModel(request)
    assert done.template_count == first.template_count + 1
    assert counted(done) == counted(first) + Counter({("reasoning_effort", "MINIMAL"): 1})
    assert api.models.ReplaceModel(request) == done
    # Whatever happened before, this asks anew: there is nothing to move any more.
    request.validate_only = True
    assert api.models.ReplaceModel(request) == ReplaceModelResponse()


def test_what_is_lost_is_told_in_few_words_however_many_templates_there_are(api: Api, database: Database) -> None:
    old, new = model(api, "gpt-4o"), model(api, "gpt-5")
    api.template(model=old, temperature=0.5)
    database.query(
        "insert into templates (id, title, instructions, user_id, template_type_id, model_id, temperature)"
        " select 'copy' || n, title, instructions, user_id, template_type_id, model_id, n / 2000.0"
        " from templates, generate_series(0, 1999) n"
    )
    response = api.models.ReplaceModel(ReplaceModelRequest(old_openai_id=old, new_openai_id=new, validate_only=True))
    assert response.template_count == 2001
    assert counted(response) == Counter({("temperature", ""): 2001})


def test_replace_moves_every_template_and_raises_its_version(api: Api) -> None:
    old, new = api.model().openai_id, api.model().openai_id
    moved = [api.template(model=old, is_default=number == 0, select=True) for number in range(3)]
    stays = api.template()
    request = ReplaceModelRequest(old_openai_id=old, new_openai_id=new, request_id="1")
    assert api.models.ReplaceModel(request).template_count == 3
    assert api.models.ReplaceModel(request).template_count == 3
    for template in moved:
        now = api.templates.GetTemplate(GetTemplateRequest(id=template.id))
        assert (now.model, now.is_default) == (new, template.is_default)
        assert now.etag != template.etag
        assert now.update_time.ToNanoseconds() > template.update_time.ToNanoseconds()
    assert api.templates.GetTemplate(GetTemplateRequest(id=stays.id)) == stays


@pytest.mark.parametrize("field", ["old_openai_id", "new_openai_id"])
@pytest.mark.parametrize("validate_only", [False, True])
def test_replace_names_a_model_that_is_not_here(field: str, validate_only: bool, api: Api) -> None:
    here = api.model().openai_id
    request = ReplaceModelRequest(old_openai_id=here, new_openai_id=here, validate_only=validate_only)
    setattr(request, field, "nobody")
    failure = fails(api.models.ReplaceModel, request)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert failure.metadata == {"openai_id": "nobody"}


def test_replace_wants_two_models(api: Api) -> None:
    here = api.model().openai_id
    failure = fails(api.models.ReplaceModel, ReplaceModelRequest(old_openai_id=here, new_openai_id=here))
    assert list(failure.violations) == ["new_openai_id"]
