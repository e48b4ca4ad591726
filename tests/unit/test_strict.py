"""Strict mode as OpenAI has it, and what it refuses of a schema without strict mode too."""

import json
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from service.operations import seed
from service.operations.json_schema import problem
from service.rendering import Adjustment, render
from service.rendering.strict import _kind, refused, strictness, why_not_strict

MODEL = "gpt-5.4"
TUNED = "ft:gpt-4o-mini-2024-07-18:omniflo::abc"
STRING = {"type": "string"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    } | more


def of(schema: Any, **more: Any) -> dict[str, Any]:
    """Return a schema of one property, `a`."""
    return closed({"a": schema}, **more)


def nested(objects: int) -> dict[str, Any]:
    """Return that many objects in each other, around a string."""
    schema: dict[str, Any] = STRING
    for _ in range(objects):
        schema = of(schema)
    return schema


def lists(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = STRING
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return of(schema)


def values(count: int, length: int) -> list[str]:
    return [f"{number:0{length}}" for number in range(count)]


STRICT: dict[str, Any] = {
    "no properties": closed({}),
    "no properties, as zod spells it": {"type": "object", "properties": {}, "additionalProperties": False},
    "all types": closed({type_: {"type": type_} for type_ in ("string", "number", "integer", "boolean", "null")}),
    "null beside a type": of({"type": ["string", "null"]}),
    "required in another order": closed({"a": STRING, "b": STRING}, required=["b", "a"]),
    "$schema at the root": of(STRING, **{"$schema": DRAFT_7}),
    "titles and descriptions": of(STRING | {"title": "A", "description": "It."}, title="T", description="D"),
    "lengths": of(STRING | {"minLength": 1, "maxLength": 5}),
    "a default": of(STRING | {"default": "x"}),
    "a pattern": of(STRING | {"pattern": "^[a-z]+(?:-[a-z]+)*$"}),
    "a pattern with an escaped bracket": of(STRING | {"pattern": r"\(?=x"}),
    **{
        f"format {name}": of(STRING | {"format": name})
        for name in ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
    },
    "bounds": of({"type": "number", "minimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.1}),
    "a list with bounds": of({"type": "array", "items": STRING, "minItems": 1, "maxItems": 2}),
    "anyOf": of({"anyOf": [STRING, {"type": "null"}], "description": "It."}),
    "an enum": of({"enum": ["a", "b"]}),
    "an enum with its type": of({"type": "integer", "enum": [1, 2]}),
    "an enum of a type that may be null": of({"type": ["string", "null"], "enum": ["a", None]}),
    "a constant": of({"type": "string", "const": "a"}),
    "a definition": of({"$ref": "#/$defs/b"}, **{"$defs": {"b": STRING}}),
    "an old definition": of({"$ref": "#/definitions/b"}, definitions={"b": STRING}),
    "recursion": closed({"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}),
    "a property called $ref": closed({"$ref": STRING}),
    "10 nested objects": nested(10),
    "9 lists in an object": lists(9),
    "1,000 values": closed({"a": {"enum": values(500, 3)}, "b": {"enum": values(500, 3)}}),
    "250 long values": of({"enum": values(250, 100)}),
    "251 values of 15,000 characters": of({"enum": [*values(250, 59), "x" * 250]}),
    "5,000 properties": closed({f"p{number}": {"$ref": "#"} for number in range(5000)}),
}

NOT_STRICT: dict[str, tuple[Any, str]] = {
    "an optional property": (closed({"a": STRING}, required=[]), "/ must require a"),
    "nothing required": ({"type": "object", "properties": {"a": STRING}, "additionalProperties": False}, "require a"),
    "required that is no property": (closed({}, required=["a"]), "/ requires a"),
    "other properties": (of(STRING, additionalProperties=True), "/ must have additionalProperties false"),
    "other properties by a schema": (of(STRING, additionalProperties={}), "additionalProperties"),
    "nothing said of others": ({"type": "object", "properties": {}}, "additionalProperties"),
    "an object without properties": (
        of({"type": "object", "additionalProperties": False}),
        "/properties/a must have properties",
    ),
    "an open object further in": (of({"type": "object"}), "/properties/a"),
    "$schema further in": (of(STRING | {"$schema": DRAFT_7}), "/properties/a has $schema"),
    "a format that OpenAI does not know": (of(STRING | {"format": "uri"}), "/properties/a has format uri"),
    "a $ref with more": (
        of({"$ref": "#/$defs/b", "description": "It."}, **{"$defs": {"b": STRING}}),
        "/properties/a has description beside $ref",
    ),
    "a $ref elsewhere than to a definition": (of({"$ref": "#/properties/a/x"}), "/properties/a"),
    "a $ref to a property": (closed({"a": STRING, "b": {"$ref": "#/properties/a"}}), "/properties/b refers to"),
    "nothing": (of({}), "/properties/a has no type"),
    "a description alone": (of({"description": "It."}), "has no type"),
    "a constant alone": (of({"const": "a"}), "has no type"),
    "properties alone": (of({"properties": {}, "additionalProperties": False}), "has no type"),
    "nothing in a list": (of({"type": "array", "items": {}}), "/properties/a/items has no type"),
    "anything in a list": (of({"type": "array", "items": True}), "/properties/a/items"),
    "true": (of(True), "/properties/a"),
    "nothing in a definition": (of({"$ref": "#/$defs/b"}, **{"$defs": {"b": {}}}), "/$defs/b has no type"),
    "nothing in anyOf": (of({"anyOf": [STRING, {}]}), "/properties/a/anyOf/1 has no type"),
    "anyOf beside a type": (of({"type": "string", "anyOf": [STRING]}), "/properties/a has type"),
    "anyOf of nothing": (of({"anyOf": []}), "/properties/a"),
    "null for a string": (of({"type": "string", "enum": ["a", None]}), "/properties/a has null in enum"),
    "a text for a number": (of({"type": "integer", "enum": [1, "2"]}), "in enum"),
    "a half for an integer": (of({"type": "integer", "enum": [1.5]}), "in enum"),
    "true for a number": (of({"type": "number", "enum": [True]}), "in enum"),
    "a mixed enum": (of({"enum": ["a", 1]}), "/properties/a has values of several types in enum"),
    "a constant of another type": (of({"type": "string", "const": 1}), "in const"),
    **{
        f"a pattern with {look}": (
            of(STRING | {"pattern": f"^{look}a)b"}),
            "/properties/a has a lookaround in its pattern",
        )
        for look in ("(?=", "(?!", "(?<=", "(?<!")
    },
    **{
        keyword: (of(schema | {keyword: value}), f"/properties/a has {keyword}")
        for keyword, value, schema in (
            ("oneOf", [STRING], STRING),
            ("allOf", [STRING], STRING),
            ("not", STRING, STRING),
            ("if", STRING, STRING),
            ("uniqueItems", True, {"type": "array", "items": STRING}),
            ("contains", STRING, {"type": "array", "items": STRING}),
            ("prefixItems", [STRING], {"type": "array", "items": STRING}),
            ("minProperties", 1, closed({})),
            ("patternProperties", {}, closed({})),
            ("propertyNames", STRING, closed({})),
            ("dependentRequired", {}, closed({})),
            ("unevaluatedProperties", False, closed({})),
            ("examples", ["x"], STRING),
            ("minimum", 1, STRING),
            ("pattern", "a", {"type": "integer"}),
            ("x-order", 1, STRING),
        )
    },
    "11 nested objects": (nested(11), "more than 10 levels"),
    "10 lists in an object": (lists(10), "more than 10 levels"),
    "1,001 values": (
        closed({"a": {"enum": values(501, 3)}, "b": {"enum": values(500, 3)}}),
        "1001 values in enums, and at most 1000",
    ),
    "251 values of more than 15,000 characters": (of({"enum": values(251, 60)}), "/properties/a has 251 values"),
    "5,001 properties": (closed({f"p{number}": {"$ref": "#"} for number in range(5001)}), "5001 properties"),
    "long names": (closed({f"{number:0600}": STRING for number in range(201)}), "120600 characters"),
    "a keyword that its draft does not know": (of(STRING, **{"$schema": DRAFT_7, "$defs": True}), "/ has $defs"),
    "a bound of draft 4": (of({"type": "number", "minimum": 0, "exclusiveMinimum": True}), "has exclusiveMinimum as"),
    "no object": ({"type": "array", "items": STRING}, "/ is no object"),
    "no schema": ([], "/ is no schema"),
    "what OpenAI never takes": (of({"type": "array"}), "/properties/a is an array without items"),
}

REFUSED: dict[str, tuple[Any, str, str]] = {
    "an array without items": (of({"type": "array"}), "/properties/a", "is an array without items"),
    "one that may be null": (of({"type": ["array", "null"]}), "/properties/a", "is an array without items"),
    "one in a list": (of({"type": "array", "items": {"type": "array"}}), "/properties/a/items", "without items"),
    "one in anyOf": (of({"anyOf": [STRING, {"type": "array"}]}), "/properties/a/anyOf/1", "without items"),
    "one in a definition": (of(STRING, **{"$defs": {"b": {"type": "array"}}}), "/$defs/b", "without items"),
    "one for other properties": (of(STRING, additionalProperties={"type": "array"}), "/additionalProperties", "items"),
    **{
        f"{keyword} at the root": (of(STRING, **{keyword: [{}]}), "", f"has {keyword} at its root")
        for keyword in ("anyOf", "oneOf", "allOf", "enum", "const")
    },
    "not at the root": (of(STRING, **{"not": {}}), "", "has not at its root"),
    "no more than the type": ({"type": "object"}, "", "has no properties at its root"),
    "other properties alone": ({"type": "object", "additionalProperties": STRING}, "", "has no properties at its root"),
    "a $ref to nothing": (of({"$ref": "#/$defs/b"}), "/properties/a", "refers to #/$defs/b, which is not there"),
    "a $ref to nothing in what is there": (of({"$ref": "#/properties/a/items"}), "/properties/a", "is not there"),
    "a $ref behind the end of a list": (
        closed({"a": {"anyOf": [STRING]}, "b": {"$ref": "#/properties/a/anyOf/1"}}),
        "/properties/b",
        "is not there",
    ),
    "a $ref to no anchor": (of({"$ref": "#b"}), "/properties/a", "is not there"),
    "half a pair in a description": (of(STRING | {"description": "\ud83d"}), "/properties/a/description", "surrogate"),
    "half a pair in an enum": (of({"enum": ["a", "\udc00"]}), "/properties/a/enum/1", "has half of a surrogate pair"),
    "half a pair in a name": (closed({"\ud83d": STRING}), "/properties/\\ud83d", "surrogate"),
    "half a pair in a keyword": (of(STRING, **{"x-\ud83d": 1}), "/x-\\ud83d", "surrogate"),
}

TAKEN: dict[str, Any] = {
    "an object of anything further in": of({"type": "object"}),
    "items of any kind": of({"type": "array", "items": {}}),
    "prefixItems": of({"type": "array", "prefixItems": [STRING]}),
    "anyOf further in": of({"anyOf": [STRING], "oneOf": [STRING], "allOf": [STRING], "not": {}}),
    "an array among values": of(
        {"const": {"type": "array"}, "default": {"$ref": "#/none"}, "examples": [{"$ref": "#x"}]}
    ),
    "properties named as keywords": closed({"anyOf": STRING, "enum": STRING, "not": STRING, "$ref": STRING}),
    "a whole pair": of(STRING | {"description": "\N{ROCKET}"}),
    "a $ref to the root": of({"$ref": "#"}),
    "a $ref through a list": closed({"a": {"anyOf": [STRING]}, "b": {"$ref": "#/properties/a/anyOf/0"}}),
    "an escaped $ref": of({"$ref": "#/$defs/a~1b~0c%20d"}, **{"$defs": {"a/b~c d": STRING}}),
    "anchors": closed({"a": {"$anchor": "x"}, "b": {"$ref": "#x"}, "c": {"$id": "#y"}, "d": {"$ref": "#y"}}),
    "no schema": [],
    "keywords of wrong types": {"properties": [], "items": 3, "prefixItems": {}, "$defs": True, "type": {}, "$ref": 3},
}


@pytest.mark.parametrize("schema", STRICT.values(), ids=STRICT)
def test_what_openai_takes_is_strict(schema: Any) -> None:
    assert why_not_strict(schema, MODEL) is None
    assert refused(schema) is None


@pytest.mark.parametrize(("schema", "why"), NOT_STRICT.values(), ids=NOT_STRICT)
def test_what_openai_refuses_is_not_strict_and_says_why(schema: Any, why: str) -> None:
    assert why in str(why_not_strict(schema, MODEL))


@pytest.mark.parametrize(("schema", "path", "why"), REFUSED.values(), ids=REFUSED)
def test_what_openai_never_takes_is_refused_and_says_where(schema: Any, path: str, why: str) -> None:
    found = refused(schema)
    assert found is not None
    assert found[0] == path
    assert why in found[1]
    assert why_not_strict(schema, MODEL) is not None
    complaint = problem(json.dumps(schema))
    assert complaint is not None
    assert path in complaint
    complaint.encode()


@pytest.mark.parametrize("schema", TAKEN.values(), ids=TAKEN)
def test_what_openai_takes_without_strict_is_not_refused(schema: Any) -> None:
    assert refused(schema) is None


@pytest.mark.parametrize(
    "change",
    [
        {"pattern": "a"},
        {"format": "date"},
        {"minLength": 1},
        {"maxLength": 1},
        {"default": "x"},
        {"type": "number", "minimum": 1},
        {"type": "number", "maximum": 1},
        {"type": "integer", "exclusiveMinimum": 1},
        {"type": "integer", "multipleOf": 2},
        {"type": "array", "items": STRING, "minItems": 1},
        {"type": "array", "items": STRING, "maxItems": 1},
    ],
)
def test_a_model_that_was_fine_tuned_takes_less(change: dict[str, Any]) -> None:
    schema = of(STRING | change)
    assert why_not_strict(schema, MODEL) is None
    (keyword,) = change.keys() - {"type", "items"}
    for model in (TUNED, f"openai/{TUNED}"):
        assert why_not_strict(schema, model) == f"/properties/a has {keyword}, which fine-tuned models do not take"
    assert why_not_strict(of(STRING), TUNED) is None


def test_a_long_name_is_not_kept_for_each_schema_below_it() -> None:
    below: dict[str, Any] = {f"p{number}": {} for number in range(3000)}
    schema = {"type": "object", "properties": {"n" * 32_000: {"type": "object", "properties": below}}}
    tracemalloc.start()
    assert refused(schema) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_reason_is_short_and_can_be_written_however_the_names_are() -> None:
    for name in ("x" * 60_000, "\ud83d" * 1000):
        why = why_not_strict(closed({name: {}}), MODEL)
        assert why is not None
        assert len(why.encode()) < 1500


@pytest.mark.parametrize("tool", [tool for _, tools in seed.TYPES.values() for tool in tools if "schema" in tool])
def test_the_functions_of_the_seed_are_strict(tool: dict[str, Any]) -> None:
    assert strictness(tool["schema"], MODEL, None) == (True, None)
    assert strictness(tool["schema"], TUNED, None) == (True, None)


@pytest.mark.parametrize(("wish", "is_strict"), [(None, True), (True, True), (False, False)])
def test_a_tool_may_have_a_wish_of_its_own(wish: bool | None, is_strict: bool) -> None:
    assert strictness(json.dumps(of(STRING)), MODEL, wish) == (is_strict, None)
    found, why = strictness('{"type": "object"}', MODEL, wish)
    assert not found
    assert (why is None) == (wish is False)


def test_a_rendering_says_which_function_is_not_strict_and_why() -> None:
    tools = [
        SimpleNamespace(name=name, type="function", description="", schema=json.dumps(schema), config=None, strict=None)
        for name, schema in {"f": of(STRING | {"pattern": "a"}), "g": of(STRING | {"format": "uri"})}.items()
    ]
    template: dict[str, Any] = {
        "instructions": "Do it.",
        "temperature": None,
        "reasoning_effort": None,
        "tools": tools,
        "metadata": {},
    }
    result = render(model=MODEL, **template)
    assert [tool["strict"] for tool in json.loads(result.body)["tools"]] == [True, False]
    assert [adjustment.field for adjustment in result.adjustments] == ["tools.g.strict"]
    assert result.size > len(result.body) + len("tools.g.strict")
    result = render(model=TUNED, **template)
    assert [tool["strict"] for tool in json.loads(result.body)["tools"]] == [False, False]
    assert result.adjustments[0] == Adjustment(
        "tools.f.strict", "/properties/a has pattern, which fine-tuned models do not take"
    )


def test_values_are_of_the_kinds_of_json() -> None:
    values: list[Any] = [None, True, 1, 1.5, "a", [], {}]
    assert [*map(_kind, values)] == ["null", "boolean", "number", "number", "string", "array", "object"]
