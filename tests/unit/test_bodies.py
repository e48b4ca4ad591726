"""The body for every model of the SDK and every setting: as the row of the model says, and of the SDK's types.

What a row should say is tested elsewhere; here, that nothing else decides.
"""

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError

from service.rendering import render
from service.rendering.families import Family, Sampling, family_of
from tests.unit.test_families import CHAT_MODELS, EFFORTS

PARAMS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
CLOSED = {"type": "object", "properties": {}, "additionalProperties": False}


def tool(name: str, type: str, schema: Any = None, **config: Any) -> Any:
    text = json.dumps(schema) if schema else None
    return SimpleNamespace(name=name, type=type, description="A purpose.", schema=text, config=config, strict=None)


TOOLS = [
    tool("closed", "function", CLOSED),
    tool("open", "function", {"type": "object", "properties": {}}),
    tool("python", "code_interpreter", code_interpreter={"file_ids": ["file_1"], "memory_limit": "4g"}),
    tool("search", "file_search", file_search={"vector_store_ids": ["vs_1"], "max_num_results": 5}),
    tool("nowhere", "file_search", file_search={"vector_store_ids": []}),
]


def assert_taken(body: dict[str, Any]) -> None:
    """Fail unless the SDK's types know every member of the body, and every value is of its type."""
    known = PARAMS.validate_python(body, strict=True)
    tools = {"tools": list(known["tools"])} if "tools" in known else {}
    # An unknown member of a typed dictionary is no error: it is not in what comes out.
    assert {**known, **tools} == body


def takes_effort(family: Family, effort: str | None, tools: list[str]) -> bool:
    return effort in family.efforts and family.refused_with.get(str(effort), frozenset()).isdisjoint(tools)


def takes_sampling(family: Family, taken: Sampling, value: float, effort: str | None) -> bool:
    return {
        Sampling.ALWAYS: True,
        Sampling.NEVER: False,
        Sampling.ONLY_ONE: value == 1,
        Sampling.WITHOUT_REASONING: (effort or family.default_effort) == "none",
    }[taken]


@pytest.mark.parametrize("model", CHAT_MODELS)
def test_every_body_is_what_the_row_of_its_model_says(model: str) -> None:
    family = family_of(model)
    assert family is not None
    for effort, temperature, tools in itertools.product((None, *EFFORTS), (0.5, 1.0), ([], TOOLS)):
        result = render(
            instructions="Do it.",
            model=model,
            temperature=temperature,
            reasoning_effort=effort,
            tools=tools,
            metadata={"template_id": "t1"},
        )
        body = json.loads(result.body)
        assert_taken(body)
        sent = [of for of in tools if of.name != "nowhere" and of.type not in family.refused_tools]
        assert [of["type"] for of in body.get("tools", [])] == [of.type for of in sent]
        assert [of["strict"] for of in body.get("tools", []) if of["type"] == "function"] == [True, False][: len(tools)]
        given = effort if takes_effort(family, effort, [of.type for of in sent]) else None
        assert body.get("reasoning") == (given and {"effort": given})
        is_taken = takes_sampling(family, family.temperature, temperature, given)
        assert body.get("temperature") == (temperature if is_taken else None)
        assert [adjustment.field for adjustment in result.adjustments] == [
            *(["reasoning_effort"] if given != effort else []),
            *([] if is_taken else ["temperature"]),
            *(["tools.open.strict"] if tools else []),
            *(f"tools.{of.name}" for of in tools if of not in sent),
        ]


@pytest.mark.parametrize("model", CHAT_MODELS)
def test_every_other_setting_is_sent_where_the_row_says_so_and_is_of_the_sdk_s_types(model: str) -> None:
    family = family_of(model)
    assert family is not None
    pairs = ((0.5, "low"), (1.0, "medium"), (0.5, "high"))
    for effort, (top_p, verbosity), tools in itertools.product((None, *family.efforts[:2]), pairs, ([], TOOLS)):
        result = render(
            instructions="Do it.",
            model=model,
            temperature=None,
            reasoning_effort=effort,
            tools=tools,
            metadata={"template_id": "t1"},
            response_format=json.dumps(CLOSED),
            verbosity=verbosity,
            max_output_tokens=16,
            top_p=top_p,
            tool_choice="closed",
            parallel_tool_calls=False,
        )
        body = json.loads(result.body)
        assert_taken(body)
        given = body.get("reasoning", {}).get("effort")
        is_taken = takes_sampling(family, family.top_p, top_p, given)
        assert body.get("top_p") == (top_p if is_taken else None)
        kept = {"verbosity": verbosity} if verbosity in family.verbosity else {}
        assert body["text"] == kept | {
            "format": {"type": "json_schema", "name": "answer", "schema": CLOSED, "strict": True}
        }
        assert body["max_output_tokens"] == 16
        assert body.get("tool_choice") == ({"type": "function", "name": "closed"} if tools else None)
        assert ("parallel_tool_calls" in body) == (bool(tools) and family.parallel_tool_calls)
        fields = [adjustment.field for adjustment in result.adjustments]
        assert [field for field in fields if not field.startswith("tools.") and field != "reasoning_effort"] == [
            *([] if is_taken else ["top_p"]),
            *([] if kept else ["verbosity"]),
            *([] if tools and family.parallel_tool_calls else ["parallel_tool_calls"]),
            *([] if tools else ["tool_choice"]),
        ]


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": {}},
        {"temperature": "warm"},
        {"reasoning": {"effort": "some"}},
        {"reasoning": {"strength": "low"}},
        {"top_p": "half"},
        {"max_output_tokens": 1.5},
        {"tool_choice": "some"},
        {"tool_choice": {"type": "function"}},
        {"parallel_tool_calls": 1},
        {"text": {"verbosity": "some"}},
        {"text": {"length": "low"}},
        {"text": {"format": {"type": "json_schema", "schema": CLOSED}}},
        {"tools": [{"type": "function", "name": "f", "parameters": CLOSED}]},
        {"tools": [{"type": "file_search"}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "size": 1}}]},
    ],
)
def test_what_the_sdk_does_not_know_would_be_seen(change: dict[str, Any]) -> None:
    body = {"model": "gpt-5.5", "instructions": "Do it."}
    assert_taken(body)
    with pytest.raises((ValidationError, AssertionError)):
        assert_taken(body | change)
