"""Rendering: a row here for every row of the tables of what is sent and which model takes it."""

import json
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from service import rendering
from service.rendering import Adjustment, days_left, family_of, meets_strict_mode, render


def tool(type: str, name: str = "a_tool", **fields: Any) -> Any:
    return SimpleNamespace(**{"name": name, "type": type, "description": "", "schema": None, "config": None} | fields)


def rendered(**fields: Any) -> tuple[dict[str, Any], list[Adjustment]]:
    template: dict[str, Any] = {
        "instructions": "Do it.",
        "model": "gpt-4o",
        "temperature": None,
        "reasoning_effort": None,
        "tools": [],
        "metadata": {"template_id": "t1"},
    }
    result = render(**template | fields)
    return json.loads(result.body), result.adjustments


def test_a_plain_template_is_its_instructions_its_model_and_its_metadata() -> None:
    body, adjustments = rendered()
    assert body == {"model": "gpt-4o", "instructions": "Do it.", "metadata": {"template_id": "t1"}}
    assert adjustments == []


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        # Models, and what they take of temperature 0.5, temperature 1, and 0.5 with effort none.
        *((model, (False, False, False)) for model in ("o1", "o3", "o3-mini", "o4-mini-2025-04-16", "o1-preview")),
        *((model, (False, True, False)) for model in ("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-nano-2025-08-07")),
        *((model, (False, False, True)) for model in ("gpt-5.1", "gpt-5.4-mini", "gpt-5.5-2026-04-23", "gpt-5.10")),
        *((model, (False, False, False)) for model in ("gpt-6-luna", "gpt-6.2-sol", "gpt-6", "gpt-10.1-terra")),
        *((model, (True, True, True)) for model in ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-nano-2025-04-14")),
        # Fine-tuned ones are of the family that they were made of.
        ("ft:gpt-4o-mini:omniflo::abc", (True, True, True)),
        ("ft:gpt-5-mini:omniflo::abc", (False, True, False)),
        # Names that no pattern fits: the server answers.
        *((model, (True, True, True)) for model in ("claude-5", "gpt-5-chat-latest", "octopus", "gpt-4", "o")),
    ],
)
def test_a_temperature_is_sent_only_where_the_model_takes_it(model: str, takes: tuple[bool, bool, bool]) -> None:
    cases: list[tuple[float, str | None]] = [(0.5, None), (1.0, None), (0.5, "none")]
    for (temperature, effort), is_taken in zip(cases, takes, strict=True):
        body, adjustments = rendered(model=model, temperature=temperature, reasoning_effort=effort)
        left_out = [adjustment.field for adjustment in adjustments]
        assert (body.get("temperature") == temperature) == is_taken
        assert ("temperature" in left_out) == (not is_taken)


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o3", True),
        ("gpt-5-mini", True),
        ("gpt-5.1", True),
        ("gpt-6-sol", True),
        ("gpt-4o", False),
        ("gpt-4.1", False),
        ("unheard-of", True),
    ],
)
def test_an_effort_is_sent_only_where_the_model_reasons(model: str, reasons: bool) -> None:
    body, adjustments = rendered(model=model, reasoning_effort="low")
    assert body.get("reasoning") == ({"effort": "low"} if reasons else None)
    assert adjustments == ([] if reasons else [Adjustment("reasoning_effort", "the model does not reason")])


def test_every_reason_for_leaving_something_out_is_said() -> None:
    for family in rendering.FAMILIES:
        assert (family.temperature is rendering.Temperature.ALWAYS) == (family.temperature.value == "")
    assert family_of("gpt-4o") is not family_of("gpt-5")


STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "array", "items": {"type": "number"}}},
    "required": ["b", "a"],
    "additionalProperties": False,
}


def test_a_function_is_flat_and_has_its_schema_byte_for_byte() -> None:
    text = '{ "type":"object",\n "z": 1.0, "a": [1e400, 10000000000000000000, "\\u00e9\\/"] , "properties": {} }'
    result = render(
        instructions="Do it.",
        model="gpt-4o",
        temperature=None,
        reasoning_effort=None,
        tools=[tool("function", "f", description="What it does.", schema=text)],
        metadata={},
    )
    assert f'"parameters": {text}, "strict": false' in result.body
    (function,) = json.loads(result.body)["tools"]
    assert {name: function[name] for name in ("type", "name", "description")} == {
        "type": "function",
        "name": "f",
        "description": "What it does.",
    }


@pytest.mark.parametrize(
    ("change", "is_strict"),
    [
        ({}, True),
        ({"additionalProperties": True}, False),
        ({"required": ["a"]}, False),
        ({"allOf": [{}]}, False),
        ({"properties": {"a": {"type": "object"}, "b": {}}}, False),
        ({"properties": {"a": {"type": "string", "default": "x"}, "b": {"type": "string"}}}, False),
        ({"properties": {"a": {"$ref": "#/$defs/x"}, "b": {"anyOf": [{"type": "null"}]}}, "$defs": {"x": {}}}, True),
        ({"properties": {"a": {"type": "array", "items": True}, "b": {}}}, False),
        ({"properties": {"a": {"properties": {"c": {}}}, "b": {}}}, False),
    ],
)
def test_strict_is_said_only_of_a_schema_that_meets_it(change: dict[str, Any], is_strict: bool) -> None:
    schema = STRICT | change
    assert meets_strict_mode(schema) == is_strict
    body, _ = rendered(tools=[tool("function", schema=json.dumps(schema))])
    assert body["tools"][0]["strict"] is is_strict


def test_a_file_search_has_its_vector_stores_or_is_left_out() -> None:
    config = {"file_search": {"vector_store_ids": ["vs_1"], "max_num_results": 5}}
    body, adjustments = rendered(tools=[tool("file_search", config=config)])
    assert body["tools"] == [{"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 5}]
    assert adjustments == []
    empty: tuple[Any, ...] = (None, {"file_search": {"vector_store_ids": []}})
    for nothing in empty:
        body, adjustments = rendered(tools=[tool("file_search", "search", config=nothing)])
        assert "tools" not in body
        assert adjustments == [Adjustment("tools.search", "a file search needs vector_store_ids")]


@pytest.mark.parametrize(
    ("config", "container"),
    [
        (None, {"type": "auto"}),
        ({"code_interpreter": {"file_ids": []}}, {"type": "auto"}),
        (
            {"code_interpreter": {"file_ids": ["file_1"], "memory_limit": "4g"}},
            {"type": "auto", "file_ids": ["file_1"], "memory_limit": "4g"},
        ),
    ],
)
def test_a_code_interpreter_always_has_a_container(config: dict[str, Any] | None, container: dict[str, Any]) -> None:
    body, _ = rendered(tools=[tool("code_interpreter", config=config)])
    assert body["tools"] == [{"type": "code_interpreter", "container": container}]


def test_text_of_any_script_comes_out_as_it_went_in() -> None:
    instructions = 'Zeile 1\nשלום "quoted" \\ 🦜 \x01'
    body, _ = rendered(instructions=instructions)
    assert body["instructions"] == instructions


@pytest.mark.parametrize(
    ("shutdown_date", "days"),
    [
        (None, None),
        (date(2026, 12, 24), None),
        (date(2026, 12, 23), 30),
        (date(2026, 11, 24), 1),
        (date(2026, 11, 23), 0),
        (date(2026, 10, 23), -31),
    ],
)
def test_a_model_is_warned_about_from_30_days_before_its_end_and_ever_after(
    shutdown_date: date | None, days: int | None
) -> None:
    assert days_left(shutdown_date, date(2026, 11, 23)) == days
