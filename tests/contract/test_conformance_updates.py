"""What every Update promises: it writes what the mask says, all or nothing, and not over somebody else's change."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from grpc import StatusCode

from tests.conftest import Api, Database, fails
from tests.contract import samples
from tests.contract.methods import METHODS, REQUIRED, UPDATES, Method, behaviour, is_alternative, writable
from tests.contract.tables import contents

NAME = "{0.name}".format
CHANGE = {"update_time", "etag"}
"""What differs after any change."""
CHANGES = ("faster", "fastest")

updates = pytest.mark.parametrize("method", UPDATES, ids=NAME)


class Update:
    """An update of a resource that exists, and how to read that."""

    def __init__(self, api: Api, method: Method, *paths: str) -> None:
        request: Any = samples.of(api, method)
        self.request = request
        self.request.update_mask.paths.extend(paths)
        self.body = getattr(self.request, method.body.name)
        self.call = method.on(api)
        self._method = method
        get = next(other for other in METHODS if other.name == method.name.replace("Update", "Get"))
        self._get, self._key = get.on(api), get.request

    def __call__(self) -> Any:
        return self.call(self.request)

    def read(self) -> Any:
        return self._get(self._key(id=self.body.id))

    @property
    def value(self) -> Any:
        """What the body has in the field that stands for all that is writable."""
        return getattr(self.body, a_field(self._method).name)

    def change(self) -> None:
        """Put something else there."""
        field = a_field(self._method)
        values = [value.number for value in field.enum_type.values if value.number] if field.enum_type else CHANGES
        setattr(self.body, field.name, next(value for value in values if value != self.value))


def a_field(method: Method) -> FieldDescriptor:
    """Answer one writable field of the resource: the first of text, or the first where there is none."""
    fields = writable(method.resource)
    return next((field for field in fields if field.type == FieldDescriptor.TYPE_STRING), fields[0])


def differing(before: Any, after: Any) -> set[str]:
    return {
        field.name
        for field in before.DESCRIPTOR.fields
        # What is written may make a revision.
        if (field.name != "revision" and getattr(before, field.name) != getattr(after, field.name))
        or (field.has_presence and before.HasField(field.name) != after.HasField(field.name))
    }


def populated(update: Update, method: Method) -> set[str]:
    return {field.name for field, _ in update.body.ListFields()} & {field.name for field in writable(method.resource)}


@updates
def test_without_a_mask_the_populated_fields_are_written_and_no_other(api: Api, method: Method) -> None:
    update = Update(api, method)
    before = update.read()
    after = update()
    assert after == update.read()
    for name in populated(update, method):
        assert getattr(after, name) == getattr(update.body, name)
    assert CHANGE < differing(before, after) <= populated(update, method) | CHANGE


@pytest.mark.parametrize(
    ("method", "field"),
    [(method, field) for method in UPDATES for field in writable(method.resource) if field.name != "type"],
    ids=lambda value: value.name,
)
def test_a_mask_of_one_path_writes_that_field_alone(api: Api, method: Method, field: FieldDescriptor) -> None:
    update = Update(api, method, field.name)
    before = update.read()
    if field.name not in populated(update, method):
        assert is_alternative(field), f"tests/contract/samples.py: that of {method.name} lacks {field.name}"
        assert update() == before
        return
    after = update()
    assert differing(before, after) == {field.name} | CHANGE, "see encode.py and decode.py in service/servicers"
    assert getattr(after, field.name) == getattr(update.body, field.name)
    assert after == update.read()


@updates
def test_a_mask_may_name_a_path_twice(api: Api, method: Method) -> None:
    name = a_field(method).name
    update = Update(api, method, name, name)
    assert getattr(update(), name) == update.value


@updates
def test_a_star_replaces_all_writable_fields(api: Api, method: Method) -> None:
    update = Update(api, method)
    update()
    for field in writable(method.resource):
        # What a function cannot be without is required as well, but not of every tool.
        if REQUIRED not in behaviour(field) and field.name != "schema":
            update.body.ClearField(field.name)
    update.request.update_mask.paths.append("*")
    after = update()
    empty = method.response()
    for field in writable(method.resource):
        name = field.name
        if REQUIRED in behaviour(field) or name == "schema":
            assert getattr(after, name) == getattr(update.body, name)
        else:
            assert getattr(after, name) == getattr(empty, name)
            assert not (field.has_presence and after.HasField(name))


def _refused(method: Method) -> list[str]:
    names = {field.name for field in writable(method.resource)}
    fields = [field.name for field in method.resource.fields if field.name not in names]
    name = a_field(method).name
    return [*fields, "no_such_field", f"{method.body.name}.{name}", f"{name}.x", name.capitalize(), "", "*"]


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method in UPDATES for path in _refused(method)],
    ids=lambda value: value.name if isinstance(value, Method) else value or "empty",
)
def test_a_path_that_is_not_writable_is_named_and_nothing_is_written(
    api: Api, database: Database, method: Method, path: str
) -> None:
    name = a_field(method).name
    update = Update(api, method, name, path)
    before = contents(database)
    failure = fails(update)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["update_mask.paths[1]"]
    assert f"'{path}'" in failure.violations["update_mask.paths[1]"]
    assert name in failure.violations["update_mask.paths[1]"].removesuffix(f"'{path}'"), "what may be there"
    assert contents(database) == before


@updates
def test_every_wrong_path_is_named(api: Api, method: Method) -> None:
    failure = fails(Update(api, method, "id", a_field(method).name, "create_time", "nothing"))
    assert list(failure.violations) == [f"update_mask.paths[{index}]" for index in (0, 2, 3)]


@pytest.mark.parametrize(
    ("method", "field"),
    [(method, field) for method in UPDATES for field in writable(method.resource) if REQUIRED in behaviour(field)],
    ids=lambda value: value.name,
)
@pytest.mark.parametrize("star", [False, True], ids=["path", "star"])
def test_a_required_field_cannot_be_emptied(
    api: Api, database: Database, method: Method, field: FieldDescriptor, star: bool
) -> None:
    update = Update(api, method, "*" if star else field.name)
    update.body.ClearField(field.name)
    before = contents(database)
    failure = fails(update)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == [f"{method.body.name}.{field.name}"]
    assert contents(database) == before


@updates
def test_a_stale_etag_is_refused_with_the_current_one(api: Api, database: Database, method: Method) -> None:
    name = a_field(method).name
    update = Update(api, method, name)
    update.body.etag = update.read().etag
    current = update().etag
    update.change()
    before = contents(database)
    failure = fails(update)
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
    assert failure.metadata == {"etag": current}
    assert contents(database) == before
    update.body.etag = current
    assert getattr(update(), name) == update.value


@updates
def test_a_stale_etag_is_refused_also_when_nothing_would_change(api: Api, method: Method) -> None:
    update = Update(api, method)
    update.body.etag = update.read().etag
    update()
    assert fails(update).reason == "ETAG_MISMATCH"


@updates
def test_without_an_etag_the_last_writer_wins(api: Api, method: Method) -> None:
    name = a_field(method).name
    update = Update(api, method, name)
    update()
    update.change()
    assert getattr(update(), name) == getattr(update.read(), name) == update.value


@updates
def test_a_change_raises_the_etag_and_the_time(api: Api, method: Method) -> None:
    update = Update(api, method)
    before, after = update.read(), update()
    assert after.etag not in {"", before.etag}
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert after.create_time == before.create_time


@updates
def test_an_update_that_changes_nothing_keeps_the_etag_and_the_time(
    api: Api, database: Database, method: Method
) -> None:
    update = Update(api, method)
    first = update()
    before = contents(database)
    assert update() == first
    assert contents(database) == before


@updates
def test_what_was_read_can_be_sent_back(api: Api, database: Database, method: Method) -> None:
    update = Update(api, method)
    read = update.read()
    before = contents(database)
    update.body.CopyFrom(read)
    assert update() == read
    assert contents(database) == before


@updates
def test_an_update_of_nothing_answers_the_resource(api: Api, method: Method) -> None:
    update = Update(api, method)
    read = update.read()
    id = read.id
    update.body.Clear()
    update.body.id = id
    assert update() == read


@updates
def test_an_update_without_an_id_is_refused(api: Api, method: Method) -> None:
    update = Update(api, method)
    update.body.id = ""
    failure = fails(update)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == [f"{method.body.name}.id"]


@updates
def test_an_immutable_field_is_not_written(api: Api, method: Method) -> None:
    update = Update(api, method)
    before = update.read()
    names = {field.name for field in writable(method.resource)} | {"id", "etag"}
    for field in method.resource.fields:
        if field.type == FieldDescriptor.TYPE_STRING and field.name not in names:
            setattr(update.body, field.name, "other")
    after = update()
    assert differing(before, after) <= names | {"update_time"}
