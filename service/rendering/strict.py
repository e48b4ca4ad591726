"""What OpenAI takes of the schema of a function: with `strict`, and at all. Pure."""

import functools
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from service.rendering import families

# From OpenAI's guide to Structured Outputs, of February 2026; its error messages of that August name 10 and 5000 too.
MAX_LEVELS = 10
"""The root is none; what stands in properties, items, anyOf or definitions is one more. OpenAI's Java SDK counts so.
Others saw that anyOf is none: who counts it is never refused."""
MAX_PROPERTIES = 5000
MAX_VALUES = 1000
LONG_ENUM = 250
MAX_CHARACTERS_OF_LONG_ENUM = 15_000
MAX_CHARACTERS = 120_000
"""Of all names of properties and definitions, and all texts in enum and const."""

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_LOOKAROUND = re.compile(r"(?<!\\)(?:\\\\)*\(\?<?[=!]")

_ALWAYS = frozenset({"title", "description", "default"})
_OF_ROOT = frozenset({"$schema", "$defs", "definitions"})
_BESIDE_TYPE = frozenset({"type", "enum", "const"})
_OF_TYPE: Mapping[str, frozenset[str]] = {
    "string": frozenset({"pattern", "format", "minLength", "maxLength"}),
    "number": (_NUMBER := frozenset({"multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})),
    "integer": _NUMBER,
    "boolean": frozenset(),
    "null": frozenset(),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
_NEVER_AT_ROOT = ("anyOf", "oneOf", "allOf", "enum", "const", "not")

MAX_TOLD = 200
"""How many characters are told of a place or a text, and are kept of a place: there may be thousands of them."""

# Where schemas stand in a schema.
_NAMED = ("properties", "$defs", "definitions")
_IN_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
_ALONE = ("items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if", "then", "else")


def strictness(text: str, model: str, wish: bool | None) -> tuple[bool, str | None]:
    """Return whether to say `strict` of the text of a function's schema, and why not where it was to be.

    The wish is the tool's own: False says never; None and True, wherever OpenAI takes it.
    """
    if wish is False:
        return False, None
    why = _why_text_not_strict(text, families.is_fine_tuned(model))
    return why is None, why


def why_not_strict(schema: Any, model: str) -> str | None:
    """Return why OpenAI would not take a schema with `strict` for a model, beginning with the place, or None."""
    return next(_reasons(schema, families.is_fine_tuned(model)), None)


def refused(schema: Any) -> tuple[str, str] | None:
    """Return the place in a schema that OpenAI takes under no setting and what is wrong there, or None.

    The schema may be anything that JSON can be.
    """
    if (path := _half_a_pair(schema)) is not None:
        return _short(path), "has half of a surrogate pair"
    if not isinstance(schema, dict):
        return None
    for keyword in _NEVER_AT_ROOT:
        if keyword in schema:
            return "", f"has {keyword} at its root"
    if _is_of(schema, "object") and "properties" not in schema:
        return "", "has no properties at its root"
    nodes = list(_every_node(schema, ""))
    anchors = {anchor for _, node in nodes for anchor in _anchors(node)}
    for path, node in nodes:
        if _is_of(node, "array") and "items" not in node and "prefixItems" not in node:
            return _short(path), "is an array without items"
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in anchors and not _is_there(schema, reference):
            return _short(path), f"refers to {_short(reference)}, which is not there"
    return None


@functools.lru_cache(256)
def _why_text_not_strict(text: str, fine_tuned: bool) -> str | None:
    """Return why, by the text of a schema: there are few, and they are rendered all day."""
    return next(_reasons(json.loads(text, parse_int=float), fine_tuned), None)


def _reasons(schema: Any, fine_tuned: bool) -> Iterator[str]:
    if found := refused(schema):
        yield f"{found[0] or '/'} {found[1]}"
    not_taken = families.refused_of_fine_tuned() if fine_tuned else frozenset[str]()
    properties, characters, values = 0, 0, 0
    for path, node, level in _nodes(schema, "", 0):
        if level > MAX_LEVELS:
            yield f"{_short(path)} is more than {MAX_LEVELS} levels deep"
        if not isinstance(node, dict):
            yield f"{_short(path) or '/'} is no schema with keywords"
            continue
        for why in _reasons_of(node, schema, not_taken):
            yield f"{_short(path) or '/'} {why}"
        enum = node.get("enum", [])
        values += len(enum)
        properties += len(_members(node, "properties"))
        characters += sum(len(name) for group in _NAMED for name in _members(node, group))
        characters += sum(len(value) for value in [*enum, node.get("const")] if isinstance(value, str))
    if properties > MAX_PROPERTIES:
        yield f"/ has {properties} properties, and at most {MAX_PROPERTIES} are strict"
    if values > MAX_VALUES:
        yield f"/ has {values} values in enums, and at most {MAX_VALUES} are strict"
    if characters > MAX_CHARACTERS:
        yield f"/ has {characters} characters in names and values, and at most {MAX_CHARACTERS} are strict"


def _nodes(schema: Any, path: str, level: int) -> Iterator[tuple[str, Any, int]]:
    """Yield the schemas of a schema, each before what stands in it."""
    yield path, schema, level
    if not isinstance(schema, dict):
        return
    for name in _NAMED:
        for key, member in _members(schema, name).items():
            yield from _nodes(member, _below(path, name, key), level + 1)
    for index, member in enumerate(schema.get("anyOf", [])):
        yield from _nodes(member, _below(path, "anyOf", index), level + 1)
    if "items" in schema:
        yield from _nodes(schema["items"], _below(path, "items"), level + 1)


def _reasons_of(node: dict[str, Any], root: Any, not_taken: Collection[str]) -> Iterator[str]:
    if node is root and node.get("type") != "object":
        yield "is no object"
    if "$ref" in node:
        yield from _reasons_of_reference(node)
        return
    types = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", [])
    allowed = _ALWAYS | (_OF_ROOT if node is root else frozenset())
    if "anyOf" in node:
        allowed |= {"anyOf"}
    elif "type" in node or "enum" in node:
        allowed = allowed.union(_BESIDE_TYPE, *(_OF_TYPE.get(type_, ()) for type_ in types))
    else:
        yield "has no type"
    for keyword in node:
        if keyword not in allowed:
            yield f"has {_short(keyword)}, which strict mode does not take there"
        if keyword in not_taken:
            yield f"has {keyword}, which fine-tuned models do not take"
    if "object" in types:
        yield from _reasons_of_object(node)
    yield from _reasons_of_settings(node)
    yield from _reasons_of_values(node, types)


def _reasons_of_reference(node: dict[str, Any]) -> Iterator[str]:
    for keyword in node:
        if keyword != "$ref":
            yield f"has {_short(keyword)} beside $ref"
    if not re.fullmatch(r"#|#/(\$defs|definitions)/[^/]+", str(node["$ref"])):
        yield f"refers to {_short(str(node['$ref']))}, which is no definition at the root"


def _reasons_of_object(node: dict[str, Any]) -> Iterator[str]:
    if node.get("additionalProperties") is not False:
        yield "must have additionalProperties false"
    if "properties" not in node:
        yield "must have properties"
    properties, required = node.get("properties", {}).keys(), set(node.get("required", []))
    for name in sorted(properties - required):
        yield f"must require {_short(name)}"
    for name in sorted(required - properties):
        yield f"requires {_short(name)}, which is no property"


def _reasons_of_settings(node: dict[str, Any]) -> Iterator[str]:
    for keyword in ("$defs", "definitions"):
        if keyword in node and not isinstance(node[keyword], dict):
            yield f"has {keyword} without names"
    if not node.get("anyOf", True):
        yield "has nothing in anyOf"
    for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(node.get(keyword), bool):
            yield f"has {keyword} as draft 4 has it"
    if node.get("format", "date") not in _FORMATS:
        yield f"has format {_short(str(node['format']))}, which is none of {', '.join(sorted(_FORMATS))}"
    if _LOOKAROUND.search(node.get("pattern", "")):
        yield "has a lookaround in its pattern"


def _reasons_of_values(node: dict[str, Any], types: Collection[str]) -> Iterator[str]:
    enum = node.get("enum", [])
    for keyword, values in (("enum", enum), ("const", [node["const"]] if "const" in node else [])):
        for value in values:
            if types and not any(_is(value, type_) for type_ in types):
                yield f"has {_short(json.dumps(value))} in {keyword}, which is no {' or '.join(types)}"
    if len({_kind(value) for value in enum} - {"null"}) > 1:
        yield "has values of several types in enum"
    texts = [value for value in enum if isinstance(value, str)]
    if len(texts) > LONG_ENUM and sum(map(len, texts)) > MAX_CHARACTERS_OF_LONG_ENUM:
        yield f"has {len(texts)} values in enum, which have more than {MAX_CHARACTERS_OF_LONG_ENUM} characters"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _is(value: Any, type: str) -> bool:
    kind = _kind(value)
    return kind == type or (kind == "number" and type == "integer" and float(value).is_integer())


def _is_of(node: Mapping[str, Any], type: str) -> bool:
    types = node.get("type")
    return types == type or (isinstance(types, list) and type in types)


def _half_a_pair(value: Any) -> str | None:
    """Return where a text has half of a surrogate pair, which JSON may escape and UTF-8 has no bytes for."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        pass
    else:
        return None
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        if (path := _half_a_pair(str(key))) is None:
            path = _half_a_pair(member)
        if path is not None:
            return f"/{key}{path}"
    return ""


def _every_node(schema: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the schemas of what may be no good schema, each before what stands in it."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for name in (*_NAMED, "patternProperties", "dependentSchemas"):
        for key, member in _members(schema, name).items():
            yield from _every_node(member, _below(path, name, key))
    for name in (*_IN_LIST, "items"):
        if isinstance(members := schema.get(name), list):
            for index, member in enumerate(members):
                yield from _every_node(member, _below(path, name, index))
    for name in (name for name in _ALONE if name in schema):
        yield from _every_node(schema.get(name), _below(path, name))


def _is_there(root: dict[str, Any], reference: str) -> bool:
    """Return whether a JSON pointer leads to something."""
    if not reference.startswith("#/"):
        return reference == "#"
    value: Any = root
    for step in reference[2:].split("/"):
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return False
    return True


def _anchors(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a $ref may call a schema, in any draft."""
    yield from (f"#{node[keyword]}" for keyword in ("$anchor", "$dynamicAnchor") if keyword in node)
    yield from (node[keyword] for keyword in ("$id", "id") if isinstance(node.get(keyword), str))


def _members(node: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what stands under a keyword by name; a draft that does not know the keyword lets anything stand there."""
    return members if isinstance(members := node.get(name), dict) else {}


def _below(path: str, *steps: object) -> str:
    return "/".join([path, *map(str, steps)])[:MAX_TOLD]


def _short(text: str) -> str:
    """Return the beginning of a text, in such a way that every character can be written as UTF-8."""
    return text[:MAX_TOLD].encode("utf-8", "backslashreplace").decode()
