"""Bytes to messages and back, with the rules that the protos annotate."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from buf.validate import validate_pb2
from service import errors
from service.interceptors import logging
from service.interceptors.errors import malformed
from service.interceptors.interceptor import Interceptor, Send, behaviour_of, is_callback, like


class Messages(Interceptor):
    """Parses and checks every request, and serializes every response: all interceptors outside of it pass bytes."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    def wraps(self, method: str) -> bool:
        del method
        return True

    def wrap(self, method: str, handler: Any) -> Any:
        del method
        behaviour = behaviour_of(handler)
        serialize: Callable[[Any], bytes] = handler.response_serializer
        one = functools.partial(self._read, handler.request_deserializer)

        def read(data: Any) -> Any:
            return map(one, data) if handler.request_streaming else one(data)

        def answer(data: Any, context: grpc.ServicerContext) -> bytes:
            return serialize(behaviour(read(data), context))

        def stream(data: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            return map(serialize, behaviour(read(data), context))

        def callback(data: Any, context: grpc.ServicerContext, send_response_callback: Send) -> None:
            def serialized(message: Any) -> Any:
                return message if message is None or isinstance(message, errors.Error) else serialize(message)

            def send(message: Any) -> None:
                if callable(message):
                    send_response_callback(lambda: serialized(message()))
                else:
                    send_response_callback(serialized(message))

            behaviour(read(data), context, send)

        return like(handler, callback if is_callback(handler) else stream if handler.response_streaming else answer)

    def _read(self, parse: Callable[[bytes], Message], data: bytes) -> Message:
        try:
            request = parse(data)
        except DecodeError:
            # grpcio would end the call with UNKNOWN and the name of a class.
            raise malformed() from None
        # Logged also of a request that is rejected below.
        if request_id := getattr(request, "request_id", ""):
            logging.add(request_id=request_id[:64])
        # The validator looks at every item of a list, also of one that is far too long, and holds all other threads up.
        if _has_limits(request.DESCRIPTOR) and (overfull := list(_overfull(request))):
            raise errors.field_invalid(*overfull)
        violations = self._validator.collect_violations(request)
        if violations:
            raise errors.field_invalid(*map(_violation, violations))
        return request


def _overfull(message: Message, path: str = "") -> Iterator[tuple[str, str]]:
    """Return the lists that have more items than they may."""
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        limit = _max_items(field) if field.is_repeated else 0
        if limit and len(value) > limit:
            yield name, f"must have at most {limit} items"
        elif _leads_to_limits(field):
            for index, item in enumerate(value if field.is_repeated else [value]):
                yield from _overfull(item, f"{name}[{index}]." if field.is_repeated else f"{name}.")


@functools.cache
def _has_limits(descriptor: Descriptor) -> bool:
    """Whether a message has a list in it, or a message with one, that may have only so many items."""
    return any(_max_items(field) or _leads_to_limits(field) for field in descriptor.fields)


@functools.cache
def _leads_to_limits(field: FieldDescriptor) -> bool:
    """Whether there is such a list in the messages of a field."""
    below = field.message_type
    return below is not None and not below.GetOptions().map_entry and _has_limits(below)


@functools.cache
def _max_items(field: FieldDescriptor) -> int:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return int(rules.repeated.max_items or rules.map.max_pairs)


def _violation(violation: protovalidate.Violation) -> tuple[str, str]:
    """Return the path of the field and its rule; a rule of a whole request has the path for its id."""
    proto = violation.proto
    path = ""
    for element in proto.field.elements if proto.field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None and element.subscript.field == "index":
            path += f"[{element.subscript.value}]"
        elif element.subscript is not None and element.subscript.field == "string_key":
            path += f".{element.subscript.value[:64]}"
    # The library's own sentence holds the character.
    rule = "must not contain U+0000" if proto.rule_id == "string.not_contains" else proto.message
    return path or proto.rule_id, rule
