"""Rendering: what the body of a request is made of. What models and strict mode take has tests of its own."""

import json
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from service.rendering import Adjustment, days_left, render


def tool(type: str, name: str = "a_tool", **fields: Any) -> Any:
    unset = dict.fromkeys(("schema", "config", "strict"))
    return SimpleNamespace(**{"name": name, "type": type, "description": "", **unset, **fields})


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


@pytest.mark.parametrize(
    ("choice", "tools", "sent", "reason"),
    [
        ("none", ["f"], "none", None),
        ("auto", ["f"], "auto", None),
        ("required", ["f"], "required", None),
        ("f", ["f", "g"], {"type": "function", "name": "f"}, None),
        ("python", ["f", "python"], {"type": "code_interpreter"}, None),
        # A tool by the name of a mode is none that can be chosen.
        ("auto", ["auto"], "auto", None),
        ("g", ["f"], None, "there is no such tool"),
        ("empty", ["f", "empty"], None, "there is no such tool"),
        ("f", [], None, "there are no tools"),
        ("required", [], None, "there are no tools"),
    ],
)
def test_a_choice_is_sent_where_there_is_such_a_tool(
    choice: str, tools: list[str], sent: Any, reason: str | None
) -> None:
    closed = '{"type": "object", "properties": {}, "additionalProperties": false}'
    kinds = {"python": "code_interpreter", "empty": "file_search"}
    body, adjustments = rendered(
        tools=[tool(kinds.get(name, "function"), name, schema=closed) for name in tools], tool_choice=choice
    )
    assert body.get("tool_choice") == sent
    assert dict(adjustments).get("tool_choice") == reason


def test_a_response_format_has_its_schema_byte_for_byte_and_is_strict_where_openai_takes_it() -> None:
    closed = '{ "type":"object",\n "properties": {"a": {"type": "integer", "minimum": 1.0}}, "required": ["a"], %s}'
    for end, is_strict in (('"additionalProperties": false', True), ('"title": "open"', False)):
        text = closed % end
        result = render(
            instructions="Do it.",
            model="gpt-4o",
            temperature=None,
            reasoning_effort=None,
            tools=[],
            metadata={},
            response_format=text,
        )
        assert f'"schema": {text}, "strict": {str(is_strict).lower()}' in result.body
        fields = [adjustment.field for adjustment in result.adjustments]
        assert fields == ([] if is_strict else ["response_format.strict"])


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


def test_texts_are_escaped_as_json_escapes_them_without_regard_to_ascii() -> None:
    text = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    body = render(
        instructions=text, model="gpt-4.1", temperature=None, reasoning_effort=None, tools=[], metadata={"name": text}
    ).body
    said = json.dumps(text, ensure_ascii=False)
    assert body == f'{{"model": "gpt-4.1", "instructions": {said}, "metadata": {{"name": {said}}}}}'
