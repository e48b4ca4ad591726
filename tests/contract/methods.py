"""The methods of all services and the fields of their requests, as the descriptors have them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from buf.validate import validate_pb2
from service.server.wiring import SERVICES
from tests.conftest import Api

OUTPUT_ONLY = field_behavior_pb2.FieldBehavior.OUTPUT_ONLY
IMMUTABLE = field_behavior_pb2.FieldBehavior.IMMUTABLE
REQUIRED = field_behavior_pb2.FieldBehavior.REQUIRED
OPTIONAL = field_behavior_pb2.FieldBehavior.OPTIONAL

_NEW_KEYS = {"request_id", "clerk_id", "openai_id", "assistant_id", "openai_file_id", "response_id"}
"""Named like references, but what they name need not exist."""
_SAID = {"record.model"}
"""What a caller says that it used."""


_BOUNDS = {f"{end}_{what}" for end in ("min", "max") for what in ("len", "bytes", "items", "pairs")}
_BOUNDS |= {"gt", "gte", "lt", "lte"}
"""The rules of buf.validate that have a number."""


@dataclass(frozen=True)
class Field:
    """A field of a request, by the fields that lead to it."""

    way: tuple[FieldDescriptor, ...]

    def __str__(self) -> str:
        return ".".join(f"{step.name}[0]" if step.is_repeated else step.name for step in self.way)

    @property
    def last(self) -> FieldDescriptor:
        return self.way[-1]

    @property
    def name(self) -> str:
        return self.last.name

    @property
    def container(self) -> Any:
        """The rules of the field itself, of which a repeated one has some."""
        return self.last.GetOptions().Extensions[validate_pb2.field]

    @property
    def max_items(self) -> int:
        """The most items of a list or a map."""
        return int(self.container.repeated.max_items or self.container.map.max_pairs)

    @property
    def is_map(self) -> bool:
        return self.last.message_type is not None and bool(self.last.message_type.GetOptions().map_entry)

    def value(self, message: Any) -> Any:
        """Return what the field has in a message: of a list on the way, in its first."""
        for step in self.way:
            message = getattr(message[0] if isinstance(message, Sequence) else message, step.name)
        return message

    @property
    def rules(self) -> Any:
        """The rules of a value of the field."""
        return self.container.repeated.items if self.last.is_repeated else self.container

    def put(self, request: Message, *values: Any) -> None:
        """Set the field of the request to the value, or a repeated one to the values."""
        message: Any = request
        for step in self.way[:-1]:
            message = getattr(message, step.name)
            if step.is_repeated:
                message = message[0] if message else message.add()
        if self.last.is_repeated:
            message.ClearField(self.name)
            getattr(message, self.name).extend(values)
        else:
            setattr(message, self.name, *values)


@dataclass(frozen=True)
class Method:
    descriptor: MethodDescriptor

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.descriptor.name

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.name}"

    @property
    def request(self) -> type[Message]:
        return message_factory.GetMessageClass(self.descriptor.input_type)

    @property
    def response(self) -> type[Message]:
        return message_factory.GetMessageClass(self.descriptor.output_type)

    @property
    def is_read(self) -> bool:
        return self.descriptor.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS

    @property
    def body(self) -> FieldDescriptor:
        """The field with the resource that a create or an update is about."""
        return self.descriptor.input_type.fields[0]

    @property
    def resource(self) -> Descriptor:
        """What that field holds."""
        resource = self.body.message_type
        assert resource is not None
        return resource

    @property
    def unkept(self) -> list[str]:
        """The fields of the answer that a replay does not have."""
        return [field.name for field in self.descriptor.output_type.fields if field.name == "secret"]

    def resource_of(self, answer: Any) -> Any:
        """Answer the resource that a write answers, alone or in a response of its own."""
        body = self.body
        is_inside = body.message_type is not None and body.name in self.descriptor.output_type.fields_by_name
        return getattr(answer, body.name) if is_inside else answer

    def on(self, api: Api) -> Any:
        """Answer what makes the call."""
        return self.sends(api, self.request.SerializeToString)

    def sends(self, api: Api, serialize: Callable[[Any], bytes]) -> Any:
        """Answer what makes the call; of a stream it takes the first message alone."""
        if not self.descriptor.server_streaming:
            return api.channel.unary_unary(self.path, serialize, self.response.FromString)
        stream = api.channel.unary_stream(self.path, serialize, self.response.FromString)

        def first(request: Any, **options: Any) -> Message:
            call = stream(request, **options)
            try:
                message: Message = next(call)
            finally:
                call.cancel()
            return message

        return first

    def fields(self) -> list[Field]:
        """Answer every field that a caller may fill in; below what is output only there is none."""
        return [Field(way) for way in _ways(self.descriptor.input_type)]

    def strings(self) -> list[Field]:
        return [field for field in self.fields() if field.last.type == FieldDescriptor.TYPE_STRING]

    def references(self) -> list[Field]:
        """Answer the fields that name what must exist for the call to succeed."""
        return [field for field in self.strings() if self._is_reference(field)]

    def required_references(self) -> list[Field]:
        """Answer those that must not be empty where nobody is authenticated: an empty user is the caller."""
        return [
            field for field in self.references() if field.name != "organization_id" or REQUIRED in behaviour(field.last)
        ]

    def _is_reference(self, field: Field) -> bool:
        # What is used may be gone.
        if self.name.endswith("Usage"):
            return False
        key = field.last.containing_oneof
        if key is not None and key.name == "key":
            return True
        if str(field) in _SAID:
            return False
        if field.name not in {"id", "ids", "template_type", "template_types", "model"} and (
            not field.name.endswith("_id") or field.name in _NEW_KEYS
        ):
            return False
        if len(field.way) == 1:
            # What a list is filtered by need not exist, but for the place where it looks. What has changed may be gone.
            is_place = field.name == "organization_id" and not self.name.endswith("Changes")
            return bool({REQUIRED, OPTIONAL} & set(behaviour(field.last))) or is_place
        if self.name.startswith("Update"):
            return field.name == "id" or not {IMMUTABLE, OUTPUT_ONLY} & set(behaviour(field.last))
        return OUTPUT_ONLY not in behaviour(field.last)


def behaviour(field: FieldDescriptor) -> list[int]:
    """Answer what google.api.field_behavior says of a field."""
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def writable(resource: Descriptor) -> list[FieldDescriptor]:
    """Answer the fields of a resource that an update may write."""
    return [
        field
        for field in resource.fields
        if not {OUTPUT_ONLY, IMMUTABLE} & set(behaviour(field)) and field.name != "etag"
    ]


def bounds(rules: Message) -> Iterator[Any]:
    """Yield the bounds in the rules of a field, with those of its items."""
    for rule, value in rules.ListFields():
        if rule.name in _BOUNDS:
            yield value
        elif isinstance(value, Message):
            yield from bounds(value)


def is_alternative(field: FieldDescriptor) -> bool:
    """Whether the field is one of several of which a message has at most one."""
    # An optional field is alone in a oneof that nobody wrote.
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1


def _ways(message: Descriptor) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in message.fields:
        yield (field,)
        below = field.message_type
        if below is not None and below.GetOptions().map_entry:
            continue
        if below is not None and OUTPUT_ONLY not in behaviour(field) and not below.full_name.startswith("google."):
            yield from ((field, *way) for way in _ways(below))


_ALL = [
    Method(method) for service in SERVICES for method in descriptor_pool.Default().FindServiceByName(service).methods
]
METHODS = [method for method in _ALL if not method.descriptor.client_streaming]
UPLOADS = [method for method in _ALL if method.descriptor.client_streaming]
"""What takes a stream, and has tests of its own."""
READS = [method for method in METHODS if method.is_read]
WRITES = [method for method in METHODS if not method.is_read]
UNRECORDED = [
    method for method in WRITES if method.name in {"RecordUsage", "UpdateProcessingRecord", "RetryProcessing"}
]
"""What is not in the log of changes: usage is no resource, and steps of runs would flood it."""
RECORDED = [method for method in WRITES if method not in UNRECORDED]
# What OpenAI serves are no rows of the database.
LISTS = [method for method in METHODS if method.name.startswith("List") and method.name != "ListAvailableModels"]
REVISIONS = [method for method in LISTS if method.name.endswith("Revisions")]
"""The lists of what has a number instead of an id, and is never taken back."""
CREATES = [method for method in METHODS if method.name.startswith(("Create", "Add", "Invite"))]
UPDATES = [method for method in METHODS if method.name.startswith("Update")]
DELETES = [method for method in METHODS if method.name.startswith(("Delete", "Remove"))]
