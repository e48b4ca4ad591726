"""A template as an assistant of OpenAI's Assistants API."""

import json
from collections.abc import Mapping, Sequence

from service.rendering import families, strict
from service.rendering.responses import FORMAT_NAME, Tool, settings_of

NAME_LENGTH = 256
DESCRIPTION_LENGTH = 512


def render(
    *,
    name: str,
    description: str,
    instructions: str,
    model: str,
    temperature: float | None,
    top_p: float | None,
    reasoning_effort: str | None,
    response_format: str | None,
    tools: Sequence[Tool],
) -> dict[str, str]:
    """Return the JSON of each member, `null` for what the template leaves to the model or the model would refuse."""
    misfits = families.misfits(
        model,
        effort=reasoning_effort,
        temperature=temperature,
        top_p=top_p,
        tools={tool.type for tool in tools},
    )
    taken = [tool for tool in tools if tool.type not in misfits]
    plain = {"reasoning_effort": reasoning_effort, "temperature": temperature, "top_p": top_p}
    return {
        "model": _json(model),
        "name": _json(name[:NAME_LENGTH]),
        "description": _json(description[:DESCRIPTION_LENGTH]),
        "instructions": _json(instructions),
        **{key: _json(None if key in misfits else value) for key, value in plain.items()},
        "response_format": "null" if response_format is None else _format(response_format, model),
        "tools": f"[{', '.join([_tool(tool, model) for tool in taken])}]",
        "tool_resources": _resources(taken),
    }


def joined(members: Mapping[str, str], metadata: Mapping[str, str], *, with_null: bool) -> str:
    """Return the body of a request with these members: an update says as well what there is not."""
    said = {key: text for key, text in members.items() if with_null or text != "null"}
    return _object({**said, "metadata": _json(metadata)})


def _format(schema: str, model: str) -> str:
    is_strict, _ = strict.strictness(schema, model, None)
    inner = _object({"name": _json(FORMAT_NAME), "schema": schema, "strict": _json(is_strict)})
    return _object({"type": '"json_schema"', "json_schema": inner})


def _tool(tool: Tool, model: str) -> str:
    match tool.type:
        case "function":
            is_strict, _ = strict.strictness(tool.schema, model, tool.strict)
            function = {"name": _json(tool.name)}
            if tool.description:
                function["description"] = _json(tool.description)
            # The schema goes in as it is written.
            function |= {"parameters": tool.schema, "strict": _json(is_strict)}
            return _object({"type": '"function"', "function": _object(function)})
        case "file_search":
            settings = settings_of(tool)
            most = settings.get("max_num_results")
            return _json({"type": "file_search"} | ({"file_search": {"max_num_results": most}} if most else {}))
        case _:
            return _json({"type": "code_interpreter"})


def _resources(tools: Sequence[Tool]) -> str:
    """Return what the tools of OpenAI's work with, which stands beside them."""

    def of(type: str, name: str) -> list[str]:
        found = [id for tool in tools if tool.type == type for id in settings_of(tool).get(name) or ()]
        return list(dict.fromkeys(found))

    return _json(
        {
            "code_interpreter": {"file_ids": of("code_interpreter", "file_ids")},
            "file_search": {"vector_store_ids": of("file_search", "vector_store_ids")},
        }
    )


_json = json.JSONEncoder(ensure_ascii=False).encode


def _object(members: Mapping[str, str]) -> str:
    return "{" + ", ".join([f'"{name}": {text}' for name, text in members.items()]) + "}"
