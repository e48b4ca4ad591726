"""A template as the body of OpenAI's `POST /v1/responses`. Pure: nothing is read and nothing is sent."""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, NamedTuple, Protocol

WARN_DAYS = 30
"""How many days before its end a model is warned about."""


class Temperature(Enum):
    """When a model takes a temperature; the value says why it was left out."""

    ALWAYS = ""
    NEVER = "the model takes no temperature"
    ONLY_ONE = "the model takes no temperature but 1"
    WITHOUT_REASONING = "the model takes a temperature only with reasoning_effort NONE"


@dataclass(frozen=True)
class Family:
    """What the models of one name pattern take."""

    pattern: re.Pattern[str]
    temperature: Temperature
    reasons: bool


FAMILIES = tuple(
    Family(re.compile(pattern), temperature, reasons)
    for pattern, temperature, reasons in (
        (r"o\d+(-.*)?", Temperature.NEVER, True),
        (r"gpt-5(-mini|-nano)?(-\d{4}-\d\d-\d\d)?", Temperature.ONLY_ONE, True),
        (r"gpt-5\.\d+(-.*)?", Temperature.WITHOUT_REASONING, True),
        # Seen in one well-kept SDK, not on a page of OpenAI's.
        (r"gpt-([6-9]|[1-9]\d+)(\.\d+)?(-.*)?", Temperature.NEVER, True),
        (r"gpt-(4o|4\.1)(-.*)?", Temperature.ALWAYS, False),
    )
)
"""The first that fits a name says what is left out. A name that none fits is sent everything: the server answers."""


class Tool(Protocol):
    """A tool of the template's type."""

    @property
    def name(self) -> Any: ...
    @property
    def type(self) -> Any:
        """`function`, `file_search` or `code_interpreter`."""

    @property
    def description(self) -> Any: ...
    @property
    def schema(self) -> Any:
        """The text of a function's JSON Schema."""

    @property
    def config(self) -> Any:
        """None, or the settings of a tool of OpenAI's, under its type."""


class Adjustment(NamedTuple):
    """Something of the template that the body does not have."""

    field: str
    reason: str


class Rendered(NamedTuple):
    body: str
    """JSON text."""
    adjustments: list[Adjustment]


def render(
    *,
    instructions: str,
    model: str,
    temperature: float | None,
    reasoning_effort: str | None,
    tools: Sequence[Tool],
    metadata: Mapping[str, str],
) -> Rendered:
    """Render the body, without what the model would refuse, and say what that was."""
    adjustments: list[Adjustment] = []
    family = family_of(model)
    members = {"model": _json(model), "instructions": _json(instructions)}
    if temperature is not None:
        if _takes_temperature(family, temperature, reasoning_effort):
            members["temperature"] = _json(temperature)
        else:
            adjustments.append(Adjustment("temperature", family.temperature.value if family else ""))
    if reasoning_effort is not None:
        if family is None or family.reasons:
            members["reasoning"] = _object({"effort": _json(reasoning_effort)})
        else:
            adjustments.append(Adjustment("reasoning_effort", "the model does not reason"))
    rendered = [text for tool in tools if (text := _tool(tool, adjustments)) is not None]
    if rendered:
        members["tools"] = f"[{', '.join(rendered)}]"
    members["metadata"] = _object({name: _json(value) for name, value in metadata.items()})
    return Rendered(_object(members), adjustments)


def family_of(model: str) -> Family | None:
    """Answer the family of a model's name; one that was fine-tuned is of its base's."""
    base = model.removeprefix("ft:").partition(":")[0]
    return next((family for family in FAMILIES if family.pattern.fullmatch(base)), None)


def days_left(shutdown_date: date | None, today: date) -> int | None:
    """Answer the days until OpenAI refuses a model, 0 or less when it does; None unless a warning is due."""
    if shutdown_date is None or (days := (shutdown_date - today).days) > WARN_DAYS:
        return None
    return days


def meets_strict_mode(schema: Any) -> bool:
    """Answer whether OpenAI takes the schema with `strict`: all properties required, no others, known keywords."""
    return all(map(_is_strict, _subschemas(schema)))


@functools.lru_cache(256)
def _text_meets_strict_mode(schema: str) -> bool:
    """As above, of the text of a schema; there are few, and they are rendered all day."""
    return meets_strict_mode(json.loads(schema, parse_int=float))


def _takes_temperature(family: Family | None, temperature: float, reasoning_effort: str | None) -> bool:
    match family.temperature if family else Temperature.ALWAYS:
        case Temperature.NEVER:
            return False
        case Temperature.ONLY_ONE:
            return temperature == 1
        case Temperature.WITHOUT_REASONING:
            return reasoning_effort == "none"
        case _:
            return True


def _tool(tool: Tool, adjustments: list[Adjustment]) -> str | None:
    settings = (tool.config or {}).get(tool.type, {})
    match tool.type:
        case "function":
            members = {"type": '"function"', "name": _json(tool.name)}
            if tool.description:
                members["description"] = _json(tool.description)
            # The order of the keys and the spelling of the numbers matter to the model: the text goes in as it is.
            members["parameters"] = tool.schema
            members["strict"] = _json(_text_meets_strict_mode(tool.schema))
            return _object(members)
        case "file_search":
            if not settings.get("vector_store_ids"):
                adjustments.append(Adjustment(f"tools.{tool.name}", "a file search needs vector_store_ids"))
                return None
            return _json({"type": "file_search", **settings})
        case _:
            given = {name: value for name, value in settings.items() if value}
            return _json({"type": "code_interpreter", "container": {"type": "auto", **given}})


_json = json.JSONEncoder(ensure_ascii=False).encode
# json.dumps would make another encoder for each value.


def _object(members: Mapping[str, str]) -> str:
    """Answer an object of its members' JSON; the names are this service's own, and need no escapes."""
    return "{" + ", ".join([f'"{name}": {text}' for name, text in members.items()]) + "}"


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
