"""Whether OpenAI takes the schema of a function with `strict`. Pure."""

import functools
import json
from collections.abc import Iterator
from typing import Any

_KEYWORDS = frozenset(
    [
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "definitions",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maximum",
        "maxItems",
        "minimum",
        "minItems",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    ]
)


def meets_strict_mode(schema: Any) -> bool:
    """Return whether OpenAI takes the schema with `strict`: all properties required, no others, known keywords."""
    return all(map(_is_strict, _subschemas(schema)))


@functools.lru_cache(256)
def text_meets_strict_mode(schema: str) -> bool:
    """Return the same of the text of a schema; there are few, and they are rendered all day."""
    return meets_strict_mode(json.loads(schema, parse_int=float))


def _subschemas(schema: Any) -> Iterator[Any]:
    yield schema
    if not isinstance(schema, dict):
        return
    for name in ("properties", "$defs", "definitions"):
        for member in schema.get(name, {}).values():
            yield from _subschemas(member)
    for member in schema.get("anyOf", []):
        yield from _subschemas(member)
    if "items" in schema:
        yield from _subschemas(schema["items"])


def _is_strict(schema: Any) -> bool:
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS:
        return False
    types = schema.get("type", [])
    is_object = types == "object" or "object" in types or "properties" in schema
    return not is_object or (
        schema.get("additionalProperties") is False
        and set(schema.get("required", [])) == set(schema.get("properties", {}))
    )
