"""The variables of templates: what callers fill into the instructions when a template is rendered."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service import errors

MAX_CHARACTERS = 256_000
"""Of instructions, also with the values of their variables."""

_PLACEHOLDER = re.compile(r"\{\{([a-z][a-z0-9_]{0,63})\}\}")


def check(variables: Sequence[Mapping[str, Any]], instructions: str) -> None:
    """Raise InvalidArgument unless each variable has a name of its own, which the instructions use."""
    used = set(_PLACEHOLDER.findall(instructions))
    if problems := list(_problems(variables, used)):
        raise errors.field_invalid(*problems)


def _problems(variables: Sequence[Mapping[str, Any]], used: set[str]) -> Iterator[tuple[str, str]]:
    names: set[str] = set()
    for index, variable in enumerate(variables):
        name = variable["name"]
        if name in names:
            yield f"template.variables[{index}].name", "must be another name than those before"
        elif name not in used:
            yield f"template.variables[{index}].name", f"must be in the instructions, as {{{{{name}}}}}"
        names.add(name)


def fill(
    instructions: str, variables: Sequence[Mapping[str, Any]], values: Mapping[str, str]
) -> tuple[str, Sequence[str]]:
    """Return the instructions with the values of their variables, and the names of values that no variable has.

    Raise InvalidArgument where a required variable has no value, and where the instructions become too long. What is in
    a value is never looked into.
    """
    missing = [each["name"] for each in variables if each["required"] and each["name"] not in values]
    if missing:
        raise errors.field_invalid(*((f"variables.{name}", "is required by the template") for name in missing))
    given = {variable["name"]: values.get(variable["name"], variable["default_value"]) for variable in variables}
    unknown = sorted(values.keys() - given.keys())
    if not given:
        return instructions, unknown
    # Texts and names by turns.
    parts = _PLACEHOLDER.split(instructions)
    for place in range(1, len(parts), 2):
        parts[place] = given.get(parts[place], f"{{{{{parts[place]}}}}}")
    # Counted before it is made: a value may be there ten thousands of times.
    if sum(map(len, parts)) > MAX_CHARACTERS:
        raise errors.field_invalid(
            ("variables", f"must leave the instructions at most {MAX_CHARACTERS} characters with their values")
        )
    return "".join(parts), unknown
