"""What the schema of a function may be; nothing is fetched, and no pattern of it is ever run."""

import json
import sys
from typing import Any

import jsonschema_rs

from service.operations import json_text
from service.rendering.strict import refused

MAX_LEVELS = 32
"""Of JSON. Ten objects in each other, which OpenAI takes with `strict`, are 22 with their types."""

_DIGITS = 300
_TOO_DEEP = f"must be at most {MAX_LEVELS} levels deep"

_DRAFTS = frozenset(
    {
        "http://json-schema.org/draft-04/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    }
)


def problem(text: str) -> str | None:
    """Return what is wrong with the text of a schema, as the end of a sentence about it, or None."""
    try:
        return _problem(text)
    except RecursionError:
        return _TOO_DEEP


def _problem(text: str) -> str | None:
    try:
        schema = json.loads(
            text, parse_float=_finite, parse_int=_number, parse_constant=json_text.refuse, object_pairs_hook=_object
        )
    except ValueError as error:
        return f"must be JSON: {error}"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "must be a JSON Schema of type object"
    if _levels(schema) > MAX_LEVELS:
        return _TOO_DEEP
    if not _refers_to_itself_only(schema):
        return "must not refer to other documents: every $ref starts with #"
    # The library fetches the meta-schemas that it does not have.
    if "$schema" in schema and str(schema["$schema"]).removesuffix("#") not in _DRAFTS:
        return "must name a published draft in $schema, or none"
    if found := refused(schema):
        return f"must be a schema that OpenAI takes: {found[0] or '/'} {found[1]}"
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        path = "/".join(str(step) for step in error.instance_path)
        return f"must be valid against its meta-schema, which /{path[:200]} is not"
    return None


def _number(number: str) -> int:
    # An old draft takes 2 for a length, and not 2.0.
    return int(number) if len(number) < _DIGITS else int(_finite(number))


def _finite(number: str) -> float:
    # Only for the check: the text is what is kept, whatever its numbers.
    return max(-sys.float_info.max, min(sys.float_info.max, float(number)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a key twice")
    return members


def _levels(value: Any) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if members is None else 1 + max(map(_levels, members), default=0)


def _refers_to_itself_only(value: Any) -> bool:
    if isinstance(value, dict):
        return all(
            not (key in {"$ref", "$dynamicRef", "$recursiveRef"} and isinstance(member, str)) or member.startswith("#")
            for key, member in value.items()
        ) and all(map(_refers_to_itself_only, value.values()))
    return not isinstance(value, list) or all(map(_refers_to_itself_only, value))
