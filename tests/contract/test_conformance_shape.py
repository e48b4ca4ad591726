"""What the descriptors of all services promise, and what is true of every method."""

from importlib import import_module
from typing import get_args

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from omniflo.templates.v1.error_reason_pb2 import ErrorReason
from service import errors
from tests.conftest import ROOT, Api, Database, fails
from tests.contract import samples
from tests.contract.methods import (
    CREATES,
    DELETES,
    LISTS,
    METHODS,
    OUTPUT_ONLY,
    READS,
    UPDATES,
    WRITES,
    Method,
    behaviour,
)
from tests.contract.tables import contents

NAME = "{0.name}".format
MESSAGES = [message for method in METHODS for message in (method.descriptor.input_type, method.descriptor.output_type)]
FILES = {message.file.name: message.file for message in MESSAGES}
ENUMS = [enum for file in FILES.values() for enum in file.enum_types_by_name.values()]


@pytest.mark.modes
@pytest.mark.parametrize("method", METHODS, ids=NAME)
def test_every_method_has_a_sample_that_succeeds(api: Api, method: Method) -> None:
    assert method.name in (samples.ROWS if method in LISTS else samples.SAMPLES), "add one to tests/contract/samples.py"
    request = samples.of(api, method)
    assert isinstance(request, method.request)
    assert isinstance(method.on(api)(request), method.response)


def test_no_sample_is_of_a_method_that_is_gone() -> None:
    assert {*samples.ROWS, *samples.SAMPLES} == {method.name for method in METHODS}


def test_every_kind_of_method_is_found() -> None:
    assert len({method.name for method in METHODS}) == len(METHODS)
    assert all([READS, WRITES, LISTS, CREATES, UPDATES, DELETES])


@pytest.mark.parametrize("method", METHODS, ids=NAME)
def test_only_what_reads_by_its_name_is_marked_without_side_effects(method: Method) -> None:
    reads = method.name.startswith(
        ("Get", "List", "Watch", "BatchGet", "Diff", "Resolve", "BatchResolve", "Render", "BatchRender", "Query")
    )
    assert method.is_read == reads, "see `idempotency_level`, and the verbs above and in deploy/envoy/rest.yaml"


@pytest.mark.parametrize("method", METHODS, ids=NAME)
def test_only_writes_have_a_request_id(method: Method) -> None:
    field = method.descriptor.input_type.fields_by_name.get("request_id")
    assert (field is not None) == (not method.is_read)
    assert field is None or field.type == FieldDescriptor.TYPE_STRING


@pytest.mark.parametrize("method", READS, ids=NAME)
def test_a_read_changes_nothing(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    before = contents(database)
    method.on(api)(request)
    assert contents(database) == before


@pytest.mark.parametrize("method", WRITES, ids=NAME)
def test_a_write_changes_something(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    before = contents(database)
    method.on(api)(request)
    assert contents(database) != before


@pytest.mark.parametrize("method", METHODS, ids=NAME)
def test_requests_and_responses_are_named_after_the_method(method: Method) -> None:
    assert method.descriptor.input_type.name == f"{method.name}Request"
    answer = method.descriptor.output_type.name
    verbs = ("Get", "Create", "Add", "Update", "Provision", "Import", "Set", "Undelete")
    verb = next((verb for verb in verbs if method.name.startswith(verb)), "")
    if method in DELETES:
        assert answer == "Empty"
    elif verb and not method.unkept:
        assert answer == method.name.removeprefix(verb)
    else:
        assert answer == f"{method.name}Response"


def test_only_what_makes_a_secret_answers_one() -> None:
    assert [method.name for method in METHODS if method.unkept] == ["CreateApiKey", "RotateApiKey"]
    assert [message.name for message in MESSAGES if "secret" in message.fields_by_name] == [
        "CreateApiKeyResponse",
        "RotateApiKeyResponse",
    ]


@pytest.mark.parametrize("method", LISTS, ids=NAME)
def test_a_list_takes_and_answers_pages(method: Method) -> None:
    request, response = method.descriptor.input_type, method.descriptor.output_type
    assert request.fields_by_name["page_size"].type == FieldDescriptor.TYPE_INT32
    assert request.fields_by_name["page_token"].type == FieldDescriptor.TYPE_STRING
    rows, token, *_ = response.fields
    assert rows.number == 1
    assert rows.is_repeated
    assert rows.type == FieldDescriptor.TYPE_MESSAGE
    assert (token.number, token.name, token.type) == (2, "next_page_token", FieldDescriptor.TYPE_STRING)


@pytest.mark.parametrize("method", UPDATES, ids=NAME)
def test_an_update_takes_a_resource_with_an_etag_and_a_mask(method: Method) -> None:
    assert method.resource == method.descriptor.output_type
    assert "etag" in method.resource.fields_by_name
    mask = method.descriptor.input_type.fields_by_name["update_mask"]
    assert mask.message_type == FieldMask.DESCRIPTOR


PROTOS = sorted(path.relative_to(ROOT / "protos").as_posix() for path in (ROOT / "protos").rglob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS)
def test_every_file_says_where_its_code_goes(proto: str) -> None:
    options = import_module(proto.replace("/", ".").replace(".proto", "_pb2")).DESCRIPTOR.GetOptions()
    assert {field.name: value for field, value in options.ListFields()} == {
        "csharp_namespace": "Omniflo.Templates.V1",
        "go_package": "github.com/omniflo/templates/gen/go/omniflo/templates/v1;templatesv1",
        "java_multiple_files": True,
        "java_package": "com.omniflo.templates.v1",
    }


@pytest.mark.parametrize("enum", ENUMS, ids=NAME)
def test_an_enum_starts_with_unspecified(enum: EnumDescriptor) -> None:
    first = enum.values[0]
    prefix = first.name.removesuffix("UNSPECIFIED")
    assert (first.number, first.name) == (0, f"{prefix}UNSPECIFIED")
    assert all(value.name.startswith(prefix) for value in enum.values)


def test_the_reasons_in_the_protos_are_those_of_the_service() -> None:
    reasons = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()]  # noqa: SIM118 - no mapping
    assert reasons == ["UNSPECIFIED", *get_args(errors.Reason)]


@pytest.mark.parametrize("method", METHODS, ids=NAME)
def test_bytes_that_are_no_message_are_refused(api: Api, method: Method) -> None:
    failure = fails(method.sends(api, bytes), b"\xff\xff")
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
    assert failure.metadata == {}


@pytest.mark.parametrize("method", [*CREATES, *UPDATES], ids=NAME)
def test_a_write_wants_a_body(api: Api, method: Method) -> None:
    failure = fails(method.on(api), method.request())
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert method.body.name in failure.violations


def _fill(message: Message, field: FieldDescriptor) -> None:
    """Put something into the field that no answer holds."""
    value = getattr(message, field.name)
    if field.is_repeated:
        name = "id" if hasattr(value.add(), "id") else "label"
        setattr(value[0], name, "mine")
    elif isinstance(value, Timestamp):
        value.seconds = 1
    elif field.message_type is not None:
        value.id = "mine"
    elif isinstance(value, str):
        setattr(message, field.name, "mine")
    else:
        setattr(message, field.name, field.enum_type.values[-1].number if field.enum_type else 4711)


@pytest.mark.parametrize("method", [*CREATES, *UPDATES], ids=NAME)
def test_what_is_output_only_is_ignored(api: Api, method: Method) -> None:
    request = samples.of(api, method)
    body = getattr(request, method.body.name)
    fields = [field for field in method.resource.fields if OUTPUT_ONLY in behaviour(field)]
    fields = [field for field in fields if field.name != "id" or method in CREATES]
    assert fields
    for field in fields:
        _fill(body, field)
    response = method.resource_of(method.on(api)(request))
    assert [field.name for field in fields if getattr(response, field.name) == getattr(body, field.name)] == []
