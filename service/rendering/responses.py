"""A template as the body of OpenAI's `POST /v1/responses`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, Protocol

import orjson

from service.rendering import families, strict

WARN_DAYS = 30
"""How many days before its end a model is warned about."""

FORMAT_NAME = "answer"
"""What OpenAI calls the schema of a response_format by."""

_SETTINGS = ("reasoning_effort", "temperature", "top_p", "verbosity", "parallel_tool_calls")
_MODES = frozenset({"none", "auto", "required"})


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

    @property
    def strict(self) -> Any:
        """A function's own wish: False is never; None and True, wherever OpenAI takes the schema so."""


class Adjustment(NamedTuple):
    """Something of the template that the body does not have."""

    field: str
    reason: str


class Rendered(NamedTuple):
    body: str
    """JSON text."""
    adjustments: list[Adjustment]

    @property
    def size(self) -> int:
        """The bytes of the body and its adjustments, as UTF-8."""
        return sum(len(text.encode()) for text in (self.body, *map("".join, self.adjustments)))


def render(
    *,
    instructions: str,
    model: str,
    temperature: float | None,
    reasoning_effort: str | None,
    tools: Sequence[Tool],
    metadata: Mapping[str, str],
    response_format: str | None = None,
    verbosity: str | None = None,
    max_output_tokens: int | None = None,
    top_p: float | None = None,
    tool_choice: str | None = None,
    parallel_tool_calls: bool | None = None,
) -> Rendered:
    """Return the body, without what the model would refuse, and what that was."""
    types = {tool.type for tool in tools if _is_complete(tool)}
    misfits = families.misfits(
        model,
        effort=reasoning_effort,
        temperature=temperature,
        top_p=top_p,
        verbosity=verbosity,
        parallel_tool_calls=parallel_tool_calls,
        tools=types,
    )
    adjustments = [Adjustment(name, misfits[name]) for name in _SETTINGS if name in misfits]
    members = {"model": _text(model), "instructions": _text(instructions)}
    plain = {"temperature": temperature, "top_p": top_p, "max_output_tokens": max_output_tokens}
    members |= {name: repr(value) for name, value in plain.items() if value is not None and name not in misfits}
    if reasoning_effort is not None and "reasoning_effort" not in misfits:
        members["reasoning"] = _object({"effort": _text(reasoning_effort)})
    text = {} if response_format is None else {"format": _format(response_format, model, adjustments)}
    if verbosity is not None and "verbosity" not in misfits:
        text["verbosity"] = _text(verbosity)
    if text:
        members["text"] = _object(text)
    sent = list(_sent(tools, model, misfits, adjustments))
    if sent:
        members["tools"] = f"[{', '.join([rendered for _, rendered in sent])}]"
    if tool_choice is not None:
        members |= _choice(tool_choice, [tool for tool, _ in sent], adjustments)
    if parallel_tool_calls is not None and "parallel_tool_calls" not in misfits:
        members["parallel_tool_calls"] = _truth(parallel_tool_calls)
    members["metadata"] = _object({name: _text(value) for name, value in metadata.items()})
    return Rendered(_object(members), adjustments)


def days_left(shutdown_date: date | None, today: date) -> int | None:
    """Return the days until OpenAI refuses a model, 0 or less when it does; None unless a warning is due."""
    if shutdown_date is None or (days := (shutdown_date - today).days) > WARN_DAYS:
        return None
    return days


def _is_complete(tool: Tool) -> bool:
    return tool.type != "file_search" or bool(settings_of(tool).get("vector_store_ids"))


def settings_of(tool: Tool) -> dict[str, Any]:
    """Return the settings of a tool of OpenAI's."""
    config: dict[str, dict[str, Any]] = tool.config or {}
    return config.get(tool.type, {})


def _format(schema: str, model: str, adjustments: list[Adjustment]) -> str:
    is_strict, why = strict.strictness(schema, model, None)
    if why:
        adjustments.append(Adjustment("response_format.strict", why))
    # The schema goes in as it is, like that of a function.
    return _object({"type": '"json_schema"', "name": _text(FORMAT_NAME), "schema": schema, "strict": _truth(is_strict)})


def _sent(
    tools: Sequence[Tool], model: str, misfits: Mapping[str, str], adjustments: list[Adjustment]
) -> Iterator[tuple[Tool, str]]:
    """Yield the tools that the model takes, each with its JSON."""
    for tool in tools:
        if not _is_complete(tool):
            adjustments.append(Adjustment(f"tools.{tool.name}", "a file search needs vector_store_ids"))
        elif tool.type in misfits:
            adjustments.append(Adjustment(f"tools.{tool.name}", misfits[tool.type]))
        else:
            yield tool, _tool(tool, model, adjustments)


def _choice(choice: str, tools: Sequence[Tool], adjustments: list[Adjustment]) -> dict[str, str]:
    """Return the member that says which of these tools are called, if there is such a tool."""
    if choice in _MODES and tools:
        return {"tool_choice": _text(choice)}
    for tool in tools:
        if tool.name == choice:
            name = {"name": choice} if tool.type == "function" else {}
            return {"tool_choice": _json({"type": tool.type, **name})}
    adjustments.append(Adjustment("tool_choice", "there is no such tool" if tools else "there are no tools"))
    return {}


def _tool(tool: Tool, model: str, adjustments: list[Adjustment]) -> str:
    match tool.type:
        case "function":
            members = {"type": '"function"', "name": _text(tool.name)}
            if tool.description:
                members["description"] = _text(tool.description)
            # The order of the keys and the spelling of the numbers matter to the model: the text goes in as it is.
            members["parameters"] = tool.schema
            is_strict, why = strict.strictness(tool.schema, model, tool.strict)
            if why:
                adjustments.append(Adjustment(f"tools.{tool.name}.strict", why))
            members["strict"] = _truth(is_strict)
            return _object(members)
        case "file_search":
            return _json({"type": "file_search", **settings_of(tool)})
        case _:
            given = {name: value for name, value in settings_of(tool).items() if value}
            container = _json({"type": "auto", **given}) if given else '{"type": "auto"}'
            return _object({"type": '"code_interpreter"', "container": container})


_json = json.JSONEncoder(ensure_ascii=False).encode
# json.dumps would make another encoder for each value.


def _text(text: str) -> str:
    # In a tenth of the time that `json` takes for a long one, and with the same escapes.
    return orjson.dumps(text).decode()


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _object(members: Mapping[str, str]) -> str:
    """Return an object of its members' JSON; the names are this service's own, and need no escapes."""
    return "{" + ", ".join([f'"{name}": {text}' for name, text in members.items()]) + "}"
