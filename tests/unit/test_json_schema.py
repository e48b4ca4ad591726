"""What the schema of a function may be."""

import json
from typing import Any

import pytest

from service.operations.json_schema import MAX_LEVELS, problem


def nested(levels: int) -> dict[str, Any]:
    """Answer a schema that is as deep as that."""
    default: list[Any] = []
    for _ in range(levels - 2):
        default = [default]
    return {"type": "object", "properties": {}, "default": default}


def objects(count: int) -> dict[str, Any]:
    """Return a schema of that many objects in each other, around a text or null."""
    schema: dict[str, Any] = {"type": ["string", "null"]}
    for _ in range(count):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


ACCEPTED: dict[str, Any] = {
    "the least": {"type": "object", "properties": {}},
    "properties": {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
    "a reference to itself": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}},
    "a property called $ref": {"type": "object", "properties": {"$ref": {"type": "string"}}},
    "a keyword that nobody knows": {"type": "object", "properties": {}, "x-order": 3},
    "draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "properties": {"a": {"maximum": 3, "exclusiveMaximum": True}},
    },
    "draft 6": {"$schema": "http://json-schema.org/draft-06/schema#", "type": "object", "properties": {}},
    "draft 7": {"$schema": "http://json-schema.org/draft-07/schema", "type": "object", "properties": {}},
    "draft 2019-09": {"$schema": "https://json-schema.org/draft/2019-09/schema", "type": "object", "properties": {}},
    "draft 2020-12": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}},
    "as deep as may be": nested(MAX_LEVELS),
    "ten objects in each other": objects(10),
    "a whole surrogate pair": r'{"type": "object", "properties": {}, "title": "\ud83d\ude00"}',
    "a pattern that takes for ever": {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}},
    "space around": ' \n{"type": "object", "properties": {}}\t',
    "too large numbers": '{"type":"object","properties":{},"maxProperties":1e999,"x":123456789012345678901234567890}',
}

REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ("", "must be JSON: "),
    "no JSON": ("{type: object}", "must be JSON: "),
    "more than one value": ('{"type": "object"} {}', "must be JSON: "),
    "not a number": ('{"type": "object", "maximum": NaN}', "must be JSON: NaN is no number"),
    "infinity": ('{"type": "object", "maximum": -Infinity}', "must be JSON: -Infinity is no number"),
    "a key twice": ('{"type": "object", "a": {"b": 1, "b": 1}}', "must be JSON: an object has a key twice"),
    "a boolean": (True, "must be a JSON Schema of type object"),
    "an array": ([], "must be a JSON Schema of type object"),
    "no type": ({}, "must be a JSON Schema of type object"),
    "another type": ({"type": "string"}, "must be a JSON Schema of type object"),
    "more than one type": ({"type": ["object"]}, "must be a JSON Schema of type object"),
    "too deep by one": (nested(MAX_LEVELS + 1), "must be at most 32 levels deep"),
    "too deep for Python": (
        '{"type": "object", "a": ' + "[" * 30_000 + "]" * 30_000 + "}",
        "must be at most 32 levels",
    ),
    "unclosed and too deep": ("[" * 60_000, "must be at most 32 levels deep"),
    "a reference elsewhere": (
        {"type": "object", "$ref": "http://localhost/schema"},
        "must not refer to other documents",
    ),
    "a relative reference": ({"type": "object", "allOf": [{"$ref": "other#/a"}]}, "must not refer to other documents"),
    "a dynamic reference": ({"type": "object", "$dynamicRef": "other#a"}, "must not refer to other documents"),
    "a recursive reference": ({"type": "object", "$recursiveRef": "other"}, "must not refer to other documents"),
    "a draft of somebody else's": (
        {"type": "object", "$schema": "http://localhost/schema"},
        "must name a published draft",
    ),
    "a draft that is no text": ({"type": "object", "$schema": 7}, "must name a published draft"),
    "a keyword of a wrong type": ({"type": "object", "properties": []}, "/properties is not"),
    "a wrong keyword further in": (
        {"type": "object", "properties": {"a": {"type": "text"}}},
        "must be valid against its meta-schema, which /properties/a/type is not",
    ),
    "a negative length": ({"type": "object", "properties": {"a": {"minLength": -1}}}, "/properties/a/minLength is not"),
    "a reference that is no text": ({"type": "object", "properties": {}, "$ref": 3}, "/$ref is not"),
    "an array without items": (
        {"type": "object", "properties": {"a": {"type": "array"}}},
        "must be a schema that OpenAI takes: /properties/a is an array without items",
    ),
    "no properties": ({"type": "object"}, "OpenAI takes: / has no properties at its root"),
    "anyOf at the root": ({"type": "object", "anyOf": [{}]}, "OpenAI takes: / has anyOf at its root"),
    "half of a surrogate pair": (r'{"type": "object", "title": "\ud800"}', "/title has half of a surrogate pair"),
    "a keyword of another draft": (
        {
            "$schema": "http://json-schema.org/draft-04/schema",
            "type": "object",
            "properties": {},
            "exclusiveMaximum": 3,
        },
        "must be valid against its meta-schema",
    ),
}


def text_of(schema: Any) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema)


@pytest.mark.parametrize("schema", ACCEPTED.values(), ids=ACCEPTED)
def test_a_schema_is_accepted(schema: Any) -> None:
    assert problem(text_of(schema)) is None


@pytest.mark.parametrize(("schema", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_schema_is_refused_and_why(schema: Any, why: str) -> None:
    assert why in str(problem(text_of(schema)))


def test_a_complaint_is_short_however_long_the_path() -> None:
    assert len(str(problem(text_of({"type": "object", "properties": {"x" * 60_000: {"type": "text"}}})))) < 400
