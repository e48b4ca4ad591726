"""The largest request that each method can have, by the rules on its fields."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.api.field_behavior_pb2 import FieldBehavior, field_behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from buf.validate import validate_pb2

SLACK_BYTES = 16 * 1024
"""How much larger a request may be: one that breaks a rule by a little is told which, and not that it is too large."""

SHOWN_BYTES = 64 * 1024
"""What a caller may send back of a message that a response has shown it and that is output only."""

MAP_BYTES = 1_200_000
"""What a map may take in all, however large each of its values may be: no message may have more than a little above."""

_SHORT_BYTES = 1024
"""More than a text takes whose rules give no length, since they list what it may be."""
_NUMBER_BYTES = 10
_FRAME_BYTES = 8
"""The number of a field and its length."""
_CHARACTER_BYTES = 4
_OTHERS = {"google.protobuf.FieldMask": 100 * 80, "google.protobuf.Timestamp": 32, "google.protobuf.Duration": 32}
"""Messages of Google's whose fields have no rules."""


def of_services(services: Iterable[ServiceDescriptor]) -> Mapping[str, int]:
    """Return the most bytes of a request, by the full path of the method."""
    return {
        f"/{service.full_name}/{method.name}": _message(method.input_type) + SLACK_BYTES
        for service in services
        for method in service.methods
    }


def _message(message: Descriptor) -> int:
    if message.full_name in _OTHERS:
        return _OTHERS[message.full_name]
    return sum(map(_field, message.fields))


def _field(field: FieldDescriptor) -> int:
    kind = field.message_type
    if FieldBehavior.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior]:
        return SHOWN_BYTES if kind is not None and kind.full_name not in _OTHERS else _SHORT_BYTES
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if kind is not None and kind.GetOptions().map_entry:
        return MAP_BYTES
    if not field.is_repeated:
        return _FRAME_BYTES + _value(field, rules)
    return int(rules.repeated.max_items) * (_FRAME_BYTES + _value(field, rules.repeated.items))


def _value(field: FieldDescriptor, rules: Any) -> int:
    if field.message_type is not None:
        return _message(field.message_type)
    if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
        return int(
            rules.bytes.max_len or rules.string.max_bytes or _CHARACTER_BYTES * rules.string.max_len or _SHORT_BYTES
        )
    return _NUMBER_BYTES
