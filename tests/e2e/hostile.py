"""Requests that no honest client sends, for every method: wrong values, wrong bytes, and noise; all from one seed."""

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.server.wiring import SERVICES
from tests.contract.methods import UPDATES, writable


class Method(NamedTuple):
    path: str
    request: type[Message]


class Call(NamedTuple):
    path: str
    data: bytes


def methods() -> Iterator[Method]:
    """Answer every method of the services of this project that answers once."""
    for service in SERVICES:
        for method in Default().FindServiceByName(service).methods:
            if method.server_streaming:
                continue
            yield Method(f"/{service}/{method.name}", GetMessageClass(method.input_type))


Known = dict[str, list[str]]
"""Values by the name of the field that they are meant for; an `id` stands behind its message, as in `Model.id`."""

KINDS = (
    "Variable",
    "TemplateTool",
    "TemplateType",
    "Template",
    "Model",
    "User",
    "Organization",
    "Invitation",
    "Member",
    "ApiKey",
    "Usage",
    "Processing",
)

ENDS = {
    "DeleteTemplateRequest",
    "DeleteTemplateToolRequest",
    "DeleteSelectionRequest",
    "DeleteOrganizationRequest",
    "RemoveMemberRequest",
    "RevokeApiKeyRequest",
    "DeclineInvitationRequest",
    "DeleteProcessingRecordRequest",
}
"""Requests that nothing forbids; they name the last quarter of what there is, so that the rest stays."""

_SCHEMAS = [
    "",
    '{"type": "object", "properties": {}}',
    '{"type": "object", "properties": {}, "title": "A title"}',
    '{"type": "object", "properties": {"a": {"$ref": "#"}}}',
]

WORDS: Known = {
    "title": ["A title"],
    "description": ["", "What it is for."],
    "instructions": ["Do it in {{a}}, {{b}} and {{c}}."],
    "Variable.name": ["a", "b", "c"],
    "default_value": ["", "", "{{a}}"],
    "tool_choice": ["", "auto", "required", "tool_1"],
    "disabled_tools": ["tool_1", "tool_2"],
    "tags": ["billing/", "billing/invoices", "checked"],
    "key": ["a", "b", "other"],
    "value": ["", "{{a}}", "A value."],
    "query": ["title", "a ti", "it's & !(this) | \\ 'that':*"],
    "request_id": ["", "", "", "one", "two"],
    "page_token": [""],
    "resource_id": ["", "*"],
    "actor": ["", "anonymous", "sql:omniflo"],
    "method": ["", "UpdateTemplate"],
    "etag": ["", "", "stale"],
    "schema": _SCHEMAS,
    "response_format": _SCHEMAS,
    "vector_store_ids": ["vs_1"],
    "file_ids": ["file_1"],
    "memory_limit": ["", "4g"],
    "Usage.id": [""],
    "event_id": ["a", "b", "c"],
    "error_code": ["", "server_error"],
    "filename": ["a.pdf", "A name.png"],
    "openai_file_id": ["", "file-1"],
    "response_id": ["", "resp_1"],
    "input_text": ["", "In one line."],
    "error_reason": ["", "server_error"],
    "error_message": ["", "It broke."],
    "results": ["", '{"total": 17}'],
    "output_text": ["", "Seventeen."],
    "currency_code": ["USD", "USD", "EUR"],
    "paths": [
        "*",
        *sorted({field.name for method in UPDATES for field in writable(method.resource)}),
    ],
}

STRINGS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x7f\x1b[2J",
    "é" * 64,
    "\U0001f600" * 65,
    "a" * 257,
    "a" * 2001,
    "\ud7ff\ue000\uffff\ufeff",
    "\u202e\u200b\u0301",
    "'; drop table users; --",
    "%s %(id)s {0} {id} $1",
    "\\",
    '"',
    "null",
    "-1",
    "1e999",
    "*",
    "template.title",
    "../../etc/passwd",
    "infinity",
    "=" * 64,
    "[" * 3000,
    '{"a":' * 3000,
    '{"type": "object", "\\ud800": 1}',
    '{"type": "object", "properties": {"\\ud800": {"type": "\\udfff"}}}',
    '{"type": "object", "properties": {}, "maximum": 1e999, "minimum": -' + "9" * 5000 + "}",
    '{"type": "object", "pattern": "(a+)+$", "$ref": "#/nowhere", "$id": "http://127.0.0.1:1/"}',
    '{"type": "object", "$schema": "http://127.0.0.1:1/"}',
    '{"type": "object", "type": "object"}',
    '{"type": "object", "minimum": NaN}',
]
LONG_STRINGS = ["a" * 256_000, "\U0001f600" * 256_001, "{" + " " * 65_536]
INTEGERS = [0, 1, -1, 2, 12, 29, 30, 31, 50, 51, 1000, 1001, 9999, 10_000, 2**31 - 1, -(2**31)]
DOUBLES = [0.0, -0.0, 2.0, 2.0000000000000004, -5e-324, 1e308, float("nan"), float("inf"), float("-inf")]
BAD_UTF8 = [b"\xff", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80"]
VARINTS = [b"\x00", b"\x01", b"\xff" * 9 + b"\x01", b"\xff" * 10 + b"\x01", b"\x80" * 9 + b"\x00", b"\x80"]


class Hostile:
    """Makes calls; the same seed and the same known values make the same ones."""

    def __init__(self, seed: int, known: Known) -> None:
        self._random = random.Random(seed)
        self._known = WORDS | known
        self._methods = list(methods())
        self._mutations: list[Callable[[bytes], bytes]] = [
            self._cut,
            self._flip,
            self._splice,
            self._append_field,
            self._append_bad_text,
            self._append_groups,
        ]

    def calls(self, count: int) -> list[Call]:
        return [self._call(self._methods[number % len(self._methods)]) for number in range(count)]

    def _call(self, method: Method) -> Call:
        kind = self._random.random()
        if kind < 0.05:
            return Call(method.path, self._random.randbytes(self._random.randrange(200)))
        # A fourth is honest, so that what only honest requests reach is reached and then refused there.
        wild = self._random.choice([0.0, 0.0, 0.05, 0.3])
        data = self._message(method.request, wild).SerializeToString()
        if kind < 0.5 and wild:
            for _ in range(self._random.randint(1, 3)):
                data = self._random.choice(self._mutations)(data)
        return Call(method.path, data)

    def _message(self, cls: type[Message], wild: float) -> Message:
        """Make a message whose fields are likely ones, each replaced by a wild one with that probability."""
        message = cls()
        for field in message.DESCRIPTOR.fields:
            # Of a oneof there should mostly be one.
            if self._random.random() < (0.1 if field.containing_oneof is None else 0.6):
                continue
            if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
                key, value = field.message_type.fields
                getattr(message, field.name)[self._value(key, wild)] = self._value(value, wild)
            elif field.is_repeated:
                few = self._random.choice([1, 2, 3])
                count = few if self._random.random() >= wild else self._random.choice([0, 20, 51, 100, 101])
                getattr(message, field.name).extend(self._value(field, wild) for _ in range(count))
            elif field.message_type is None:
                setattr(message, field.name, self._value(field, wild))
            elif self._random.random() < wild / 2:
                getattr(message, field.name).SetInParent()
            else:
                getattr(message, field.name).CopyFrom(self._value(field, wild))
        return message

    def _value(self, field: Any, wild: float) -> Any:
        if field.message_type is not None:
            return self._message(GetMessageClass(field.message_type), wild)
        is_wild = self._random.random() < wild
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return self._random.randbytes(self._random.choice([0, 1, 1000, 100_000]))
            case FieldDescriptor.CPPTYPE_STRING:
                if is_wild:
                    return self._random.choice(LONG_STRINGS if self._random.random() < 0.02 else STRINGS)
                values = self._known[_meaning(field)]
                return self._random.choice(
                    values[-len(values) // 4 :] if field.containing_type.name in ENDS else values
                )
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._random.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE:
                return self._random.choice(DOUBLES) if is_wild else 1.0
            case FieldDescriptor.CPPTYPE_ENUM:
                return self._random.choice(INTEGERS if is_wild else range(1, len(field.enum_type.values)))
            case FieldDescriptor.CPPTYPE_INT64 if not is_wild:
                return self._random.randint(0, 2)
            case FieldDescriptor.CPPTYPE_INT64:
                return self._random.choice([*INTEGERS, 2**63 - 1, -(2**63)])
            case _:
                least = 16 if field.name == "max_output_tokens" else 1
                return self._random.choice(INTEGERS) if is_wild else self._random.randint(least, least + 11)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._random.randrange(len(data) + 1)]

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data or b"\0")
        for _ in range(self._random.randint(1, 4)):
            changed[self._random.randrange(len(changed))] = self._random.randrange(256)
        return bytes(changed)

    def _splice(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data) + 1)
        return data[:at] + self._random.randbytes(self._random.randint(1, 9)) + data[at:]

    def _append_field(self, data: bytes) -> bytes:
        """Append a field, known or not, of any wire type, such as a number for a message or an absurd length."""
        number = self._random.choice([1, 2, 3, 4, 5, 8, 18, 1000, 536_870_911])
        tag = varint(number << 3 | self._random.randrange(8))
        return data + tag + self._random.choice([*VARINTS, self._random.randbytes(8)])

    def _append_bad_text(self, data: bytes) -> bytes:
        text = self._random.choice(BAD_UTF8)
        field = varint(self._random.randint(1, 5) << 3 | 2) + varint(len(text)) + text
        # Into a submessage as well.
        inside = varint(1 << 3 | 2) + varint(len(field)) + field
        return data + self._random.choice([field, inside])

    def _append_groups(self, data: bytes) -> bytes:
        """Append unknown groups in groups, closed or not."""
        depth = self._random.choice([1, 50, 99, 100, 101, 5000])
        start, end = varint(900 << 3 | 3), varint(900 << 3 | 4)
        return data + start * depth + end * self._random.choice([depth, depth - 1, 0])


def halves(message: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, bytes]]:
    """Answer the path of each text in a message, and the message with half of a surrogate pair there."""
    for field in message.fields:
        name = (*path, field.name)
        found: list[tuple[str, bytes]] = []
        if field.type == FieldDescriptor.TYPE_STRING:
            found = [(".".join(name), b"a\xed\xa0\xbd")]
        elif field.message_type is not None and field.name not in path:
            found = list(halves(field.message_type, name))
        yield from ((where, varint(field.number << 3 | 2) + varint(len(data)) + data) for where, data in found)


def varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


def _meaning(field: Any) -> str:
    """Answer the key of `Known` for a field."""
    owner: Descriptor = field.containing_type
    name: str = field.name
    match name:
        case "id" | "ids":
            return next(kind for kind in KINDS if kind in owner.name) + ".id"
        case "name":
            # GetTemplateType has one as well.
            return next((kind for kind in KINDS if owner.name.endswith(kind)), "TemplateType") + ".name"
        case "template_types":
            return "template_type"
        case "old_openai_id" | "new_openai_id":
            return "openai_id"
        case _:
            return name
