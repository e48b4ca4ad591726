"""The paths of the methods over HTTP, as `google.api.http` has them and deploy/envoy/ serves them."""

import re
from collections import Counter

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.contract.methods import DELETES, METHODS, UPDATES, UPLOADS, Method
from tests.rest.paths import VARIABLE, bindings

WELL_KNOWN = {"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"}
"""Messages that are one value in a query."""


def find(message: Descriptor | None, path: str) -> FieldDescriptor | None:
    """Return the field at a path such as `template.id`."""
    name, _, rest = path.partition(".")
    field = None if message is None else message.fields_by_name.get(name)
    return field if field is None or not rest else find(field.message_type, rest)


def unfit_for_a_query(field: FieldDescriptor) -> bool:
    message = field.message_type
    if message is None or message.full_name in WELL_KNOWN:
        return False
    return field.is_repeated or any(map(unfit_for_a_query, message.fields))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_method_has_a_path_that_is_made_of_its_fields(method: Method) -> None:
    request = method.descriptor.input_type
    assert list(bindings(method)), f"{method.name} needs an option (google.api.http)"
    for verb, path, body in bindings(method):
        assert re.fullmatch(r"/v1/[a-z][A-Za-z]*(/\w+|/\{[\w.]+\})*(:[a-z][A-Za-z]*)?", path), path
        for name in VARIABLE.findall(path):
            field = find(request, name)
            assert field is not None, f"{request.name} has no field {name}"
            assert not field.is_repeated, name
            assert field.message_type is None, name
        assert body in {"", "*"} or body in request.fields_by_name, body
        # What is neither in the path nor in the body comes in the query.
        named = {name.partition(".")[0] for name in VARIABLE.findall(path)} | {body}
        queried = [] if body == "*" else [field for field in request.fields if field.name not in named]
        assert [field.name for field in queried if unfit_for_a_query(field)] == []
        if verb == "get":
            assert method.is_read
        assert (verb in {"get", "delete"}) == (body == ""), f"{verb} {path}"


def test_no_two_methods_have_one_path() -> None:
    paths = Counter((verb, VARIABLE.sub("*", path)) for method in METHODS for verb, path, _ in bindings(method))
    assert [path for path, count in paths.items() if count > 1] == []


def test_what_updates_and_deletes_is_named_by_the_path() -> None:
    for method in UPDATES:
        body = method.body.name
        ((verb, path, sent),) = bindings(method)
        assert (verb, sent) == ("patch", body)
        assert path.endswith(f"/{{{body}.id}}")
    for method in DELETES:
        ((verb, path, _),) = bindings(method)
        assert verb == "delete"
        assert path.endswith("}")


@pytest.mark.parametrize("method", UPLOADS, ids=str)
def test_what_a_caller_streams_has_none(method: Method) -> None:
    assert list(bindings(method)) == []
