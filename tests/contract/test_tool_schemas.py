"""What the schema of a function may be, through TemplateTypeService: JSON Schema, kept byte for byte."""

import json
from typing import Any

import pytest
from grpc import StatusCode

from omniflo.templates.v1.template_type_pb2 import TemplateTool
from omniflo.templates.v1.template_type_service_pb2 import (
    GetTemplateToolRequest,
    GetTemplateTypeRequest,
    ListTemplateToolsRequest,
    ListTemplateTypesRequest,
    UpdateTemplateToolRequest,
)
from tests.conftest import Api, fails
from tests.contract.samples import FUNCTION, SCHEMA

CATASTROPHIC = "(a+)+$"
ENDLESS_FOR = "a" * 64 + "!"


def nested(levels: int) -> str:
    """Answer a schema of that many levels: properties are one level and the schema in them is another."""
    inner: Any = {"type": "object"} if levels % 2 else {"type": "object", "required": []}
    for _ in range((levels - 1) // 2):
        inner = {"type": "object", "properties": {"a": inner}}
    return json.dumps(inner)


def objects(count: int) -> str:
    """Return a schema of that many objects in each other."""
    inner: Any = {"type": "string"}
    for _ in range(count):
        inner = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    return json.dumps(inner)


def function(api: Api, schema: str) -> TemplateTool:
    return api.tool(type=FUNCTION, schema=schema)


def object_with(**members: Any) -> str:
    return json.dumps({"type": "object", **members})


TAKEN = {
    "the least": '{"type":"object","properties":{}}',
    "keys in an order of their own": '{"type": "object", "z": 1, "a": 2, "properties": {"b": {}, "a": {}}}',
    "type last": '{"properties": {}, "type": "object"}',
    "spaces and line ends": ' \r\n\t{ "type" :\n"object", "properties":{} } \n',
    "a whole number with a fraction": '{"type": "object", "properties": {}, "maxProperties": 1.0}',
    "a number in another spelling": '{"type": "object", "properties": {}, "default": [1.50, 1E2, -0, -0.0, 1e-7]}',
    "a number beyond floats": '{"type": "object", "properties": {}, "maximum": 1e400, "minimum": -1e400}',
    "a number beyond 64 bits": '{"type": "object", "properties": {}, "maximum": 10000000000000000000}',
    "a number of 5,000 digits": f'{{"type": "object", "properties": {{}}, "maximum": {"9" * 5000}}}',
    "escapes": r'{"type": "object", "properties": {}, "title": "\u00e9 \/ \" \\ \n \ud83d\ude00"}',
    "an escaped character zero": r'{"type": "object", "properties": {}, "title": "a\u0000b"}',
    "text that is no ASCII": '{"type": "object", "properties": {}, "title": "é \N{ROCKET} \u05e9\u05dc\u05d5 \u2028"}',
    "an empty key": '{"type": "object", "properties": {"": {}}}',
    "a member that no draft has": '{"type": "object", "properties": {}, "strict": true, "x-more": [1, 2]}',
    "a pattern that never ends": object_with(properties={"a": {"pattern": CATASTROPHIC, "default": ENDLESS_FOR}}),
    "a pattern of keys that never ends": object_with(
        patternProperties={CATASTROPHIC: {"type": "string"}}, properties={ENDLESS_FOR: {"default": ENDLESS_FOR}}
    ),
    "a reference to itself": object_with(**{"$defs": {"a": {}}, "properties": {"b": {"$ref": "#/$defs/a"}}}),
    "a reference to its root": object_with(properties={"child": {"$ref": "#"}}),
    "an anchor": object_with(properties={"a": {"$anchor": "here"}, "b": {"$ref": "#here"}}),
    "a property that is called $ref": object_with(properties={"$ref": {"type": "string"}}),
    "an id that nobody fetches": object_with(properties={}, **{"$id": "http://127.0.0.1:1/schema"}),
    "32 levels": nested(32),
    "ten objects in each other": objects(10),
    "what is there behind two backslashes": r'{"type": "object", "properties": {}, "title": "\\ud800"}',
    **{
        f"the draft {draft}": object_with(**{"$schema": draft, "properties": {"a": {"minLength": 1}}})
        for draft in (
            "http://json-schema.org/draft-04/schema#",
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-07/schema#",
            "http://json-schema.org/draft-07/schema",
            "https://json-schema.org/draft/2019-09/schema",
            "https://json-schema.org/draft/2020-12/schema",
        )
    },
}

REFUSED = {
    "no JSON": "type: object",
    "half of it": '{"type": "object"',
    "more behind it": '{"type": "object"} {}',
    "spaces alone": "  ",
    "a comment": '{"type": "object" /* here */}',
    "a comma too many": '{"type": "object",}',
    "single quotes": "{'type': 'object'}",
    "a byte order mark": '\ufeff{"type": "object"}',
    "a control character in a text": '{"type": "object", "title": "\x01"}',
    "a list": '[{"type": "object"}]',
    "a text": '"object"',
    "true": "true",
    "null": "null",
    "no type": '{"properties": {}}',
    "another type": '{"type": "string"}',
    "several types": '{"type": ["object", "null"]}',
    "NaN": '{"type": "object", "default": NaN}',
    "Infinity": '{"type": "object", "maximum": Infinity}',
    "-Infinity": '{"type": "object", "minimum": -Infinity}',
    "a key twice": '{"type": "object", "type": "object"}',
    "a key twice in another spelling": r'{"type": "object", "properties": {"a": {}, "\u0061": {}}}',
    "33 levels": nested(33),
    "33 levels of lists": object_with(default=json.loads("[" * 32 + "]" * 32)),
    "very many levels": '{"type": "object", "default": ' + "[" * 30_000 + "]" * 30_000 + "}",
    "very many levels of objects": '{"type": "object", "a": ' + '{"a":' * 8_000 + "1" + "}" * 8_000 + "}",
    "a reference elsewhere": object_with(properties={"a": {"$ref": "http://127.0.0.1:1/schema"}}),
    "a reference to a file": object_with(properties={"a": {"$ref": "file:///etc/passwd"}}),
    "a relative reference": object_with(properties={"a": {"$ref": "other.json#/a"}}),
    "an empty reference": object_with(properties={"a": {"$ref": ""}}),
    "a dynamic reference elsewhere": object_with(properties={"a": {"$dynamicRef": "http://127.0.0.1:1/schema#a"}}),
    "a reference deep in a list": object_with(allOf=[{"anyOf": [{}, {"$ref": "http://127.0.0.1:1/schema"}]}]),
    "a reference that is no text": object_with(properties={"a": {"$ref": 5}}),
    "a draft that nobody published": object_with(**{"$schema": "https://json-schema.org/draft/2031-01/schema"}),
    "a meta-schema of somebody": object_with(**{"$schema": "http://127.0.0.1:1/schema"}),
    "a $schema that is no text": object_with(**{"$schema": 7}),
    "a type that does not exist": object_with(properties={"a": {"type": "text"}}),
    "required that is no list": object_with(required="a"),
    "a negative length": object_with(properties={"a": {"minLength": -1}}),
    "a length with a fraction": object_with(properties={"a": {"minLength": 1.5}}),
    "half of a pair": r'{"type": "object", "title": "\ud800"}',
    "half of a pair for a key": r'{"type": "object", "properties": {"\udc00": {"type": "string"}}}',
    "half of a pair beside a text that looks like one": r'{"type": "object", "\udc00": 1, "title": "\\ud800"}',
    "a reference to what is not there": object_with(properties={"a": {"$ref": "#/$defs/none"}}),
    "an array without items": object_with(properties={"a": {"type": "array"}}),
    **{f"{keyword} at the root": object_with(**{keyword: [{}]}) for keyword in ("anyOf", "oneOf", "allOf", "enum")},
    "no more than the type": '{"type": "object"}',
    "no properties at the root": object_with(additionalProperties={"type": "string"}),
    "not at the root": object_with(**{"not": {}}),
    "half of a pair for a wrong key": r'{"type": "object", "properties": {"\udc00": {"type": "text"}}}',
    "a wrong key of a control character": r'{"type": "object", "properties": {"\u0000": {"type": "text"}}}',
}


@pytest.mark.parametrize("schema", TAKEN.values(), ids=TAKEN)
def test_a_schema_is_kept_byte_for_byte(api: Api, schema: str) -> None:
    tool = function(api, schema)
    assert tool.schema == schema
    name = tool.template_type
    assert api.types.GetTemplateTool(GetTemplateToolRequest(id=tool.id)).schema == schema
    assert api.types.GetTemplateType(GetTemplateTypeRequest(name=name)).tools[0].schema == schema
    listed = api.types.ListTemplateTools(ListTemplateToolsRequest(template_type=name)).template_tools
    assert [found.schema for found in listed] == [schema]
    assert api.types.ListTemplateTypes(ListTemplateTypesRequest()).template_types[0].tools[0].schema == schema


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_what_is_no_schema_is_refused(api: Api, schema: str) -> None:
    name = api.type().name
    failure = fails(api.tool, template_type=name, type=FUNCTION, schema=schema)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["template_tool.schema"]
    assert not api.types.ListTemplateTools(ListTemplateToolsRequest(template_type=name)).template_tools


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_an_update_refuses_the_same(api: Api, schema: str) -> None:
    tool = function(api, SCHEMA)
    request = UpdateTemplateToolRequest(template_tool=TemplateTool(id=tool.id, schema=schema))
    failure = fails(api.types.UpdateTemplateTool, request)
    assert list(failure.violations) == ["template_tool.schema"]
    assert api.types.GetTemplateTool(GetTemplateToolRequest(id=tool.id)) == tool


def test_a_schema_in_another_spelling_is_a_change(api: Api) -> None:
    tool = function(api, '{"type": "object", "properties": {}, "maxProperties": 1}')
    other = '{"maxProperties": 1.0, "type": "object", "properties": {}}'
    request = UpdateTemplateToolRequest(template_tool=TemplateTool(id=tool.id, schema=other))
    after = api.types.UpdateTemplateTool(request)
    assert after.schema == other
    assert after.etag != tool.etag


@pytest.mark.parametrize("character", [" ", "é", "\N{ROCKET}"])
def test_a_schema_has_65536_bytes_at_most(api: Api, character: str) -> None:
    start, end = '{"type": "object", "properties": {}, "title": "', '"}'
    room = 65536 - len(start + end)
    size = len(character.encode())
    full = start + "x" * (room % size) + character * (room // size) + end
    assert len(full.encode()) == 65536
    assert function(api, full).schema == full
    failure = fails(function, api, full.replace('"title"', '"title" '))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["template_tool.schema"]
