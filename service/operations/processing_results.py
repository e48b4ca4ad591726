"""What the text of an answer is: results that fit the template's response_format, or a text."""

import json
from typing import Any, NamedTuple

import jsonschema_rs

from service.operations import json_text

BACKTRACKING = 100_000
"""How far the pattern of a schema may look for a match."""


class Results(NamedTuple):
    text: str
    """JSON."""
    problem: str = ""
    """Why there are none, for people."""


def of(text: str, response_format: str | None) -> Results:
    """Return the results of an answer, or what is wrong with it."""
    if response_format is None:
        return Results(json.dumps({"text": text}, ensure_ascii=False))
    try:
        answer = json.loads(text, parse_constant=json_text.refuse)
        schema = json.loads(response_format)
    except (ValueError, RecursionError):
        return Results("", "the answer is not JSON")
    try:
        _validator(schema).validate(answer)
    except jsonschema_rs.ValidationError as error:
        place = "/".join(str(step) for step in error.instance_path)
        rule = "/".join(str(step) for step in error.schema_path)
        # Neither the answer nor the schema: it may be in a log of the caller's.
        return Results("", f"the answer does not fit the response_format: /{place[:200]} breaks /{rule[:200]}")
    except (ValueError, OverflowError, RecursionError):
        return Results("", "the answer cannot be compared with the response_format")
    return Results(text)


def _validator(schema: Any) -> Any:
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKING)
    return jsonschema_rs.validator_for(schema, pattern_options=options, offline=True)
