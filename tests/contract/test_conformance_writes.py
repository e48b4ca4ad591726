"""What every write promises: one effect and one answer for each request_id, and nothing half done."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc import StatusCode

from service.database import handle
from tests.conftest import Api, Database, fails
from tests.contract import samples
from tests.contract.methods import CREATES, DELETES, WRITES, Method, is_alternative, writable
from tests.contract.tables import RESOURCES, contents, saved, totals

NAME = "{0.name}".format
TWINS = 8

writes = pytest.mark.parametrize("method", WRITES, ids=NAME)
ARGUED = [method for method in WRITES if len(method.fields()) > 1]
"""Those whose requests have more than a request_id."""


def keyed(request: Message, request_id: str) -> Any:
    changed = type(request)()
    changed.CopyFrom(request)
    changed.request_id = request_id  # type: ignore[attr-defined]
    return changed


def kept(method: Method, answer: Any) -> Any:
    """Answer what a replay answers: all but a secret."""
    rest = type(answer)()
    rest.CopyFrom(answer)
    for name in method.unkept:
        rest.ClearField(name)
    return rest


@writes
def test_a_replay_has_the_same_answer_and_no_effect(api: Api, database: Database, method: Method) -> None:
    request = keyed(samples.of(api, method), "order-17")
    answer = method.on(api)(request)
    assert all(getattr(answer, name) for name in method.unkept)
    after = contents(database)
    assert method.on(api)(request) == kept(method, answer)
    assert method.on(api)(request) == kept(method, answer)
    assert contents(database) == after
    assert saved(database) == 1


@writes
def test_a_replay_answers_as_then_whatever_happened_since(api: Api, database: Database, method: Method) -> None:
    request = keyed(samples.of(api, method), "order-17")
    answer = method.on(api)(request)
    database.query(f"truncate {', '.join(RESOURCES)}")
    assert method.on(api)(request) == kept(method, answer)


@pytest.mark.parametrize("method", ARGUED, ids=NAME)
def test_a_request_id_is_of_one_request(api: Api, database: Database, method: Method) -> None:
    method.on(api)(keyed(samples.of(api, method), "order-17"))
    other = keyed(samples.of(api, method), "order-17")
    before = contents(database)
    failure = fails(method.on(api), other)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert failure.metadata == {"request_id": "order-17"}
    assert contents(database) == before


@writes
def test_without_a_request_id_nothing_is_kept(api: Api, database: Database, method: Method) -> None:
    method.on(api)(samples.of(api, method))
    assert saved(database) == 0


def test_a_request_id_is_of_one_method(api: Api, database: Database) -> None:
    for method in WRITES:
        method.on(api)(keyed(samples.of(api, method), "order-17"))
    assert saved(database) == len(WRITES)


@writes
def test_twins_at_once_have_one_effect_and_one_answer(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    before = totals(database)
    method.on(api)(request)
    effect = totals(database) - before, before - totals(database)

    request = keyed(samples.of(api, method), "order-17")
    before = totals(database)
    start = threading.Barrier(TWINS)

    def twin(_: int) -> Any:
        start.wait(10)
        return method.on(api)(request)

    with ThreadPoolExecutor(TWINS) as pool:
        answers = list(pool.map(twin, range(TWINS)))
    assert [kept(method, answer) for answer in answers] == [kept(method, answers[0])] * TWINS
    # Whoever made a secret knows it, and no twin does.
    assert all([bool(getattr(answer, name)) for answer in answers].count(True) == 1 for name in method.unkept)
    assert (totals(database) - before, before - totals(database)) == effect
    assert saved(database) == 1


@pytest.mark.parametrize("method", ARGUED, ids=NAME)
def test_a_failure_is_not_kept(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    spoiled = keyed(request, "order-17")
    for reference in method.references() or [field for field in method.strings() if field.name != "request_id"]:
        reference.put(spoiled, "nobody" if method.references() else "x" * 3000)
    fails(method.on(api), spoiled)
    assert saved(database) == 0
    method.on(api)(keyed(request, "order-17"))
    assert saved(database) == 1


@pytest.mark.parametrize(
    "method", [method for method in WRITES if method in CREATES or method.name.startswith("Provision")], ids=NAME
)
def test_what_is_new_was_last_changed_when_it_was_created(api: Api, method: Method) -> None:
    answers = [method.resource_of(method.on(api)(samples.of(api, method))) for _ in range(20)]
    changes = "update_time" in answers[0].DESCRIPTOR.fields_by_name
    assert [answer.id for answer in answers if changes and answer.create_time != answer.update_time] == []


MANY_OF_ONE_NAME = {"CreateTemplate", "CreateOrganization", "CreateApiKey", "CreateProcessingRecord"}


@pytest.mark.parametrize(
    ("method", "field"), [(method, field) for method in CREATES for field in writable(method.resource)], ids=NAME
)
def test_what_is_created_has_every_field_as_it_was_sent(api: Api, method: Method, field: FieldDescriptor) -> None:
    request = samples.of(api, method)
    body = getattr(request, method.body.name)
    is_populated = field.name in {populated.name for populated, _ in body.ListFields()}
    assert is_populated or is_alternative(field), f"tests/contract/samples.py: that of {method.name} lacks {field.name}"
    answered = getattr(method.resource_of(method.on(api)(request)), field.name)
    assert answered == getattr(body, field.name), "see the operation, and encode.py and decode.py in service/servicers"


@pytest.mark.parametrize("method", [method for method in CREATES if method.name not in MANY_OF_ONE_NAME], ids=NAME)
def test_what_exists_already_is_refused_whole(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    method.on(api)(request)
    before = contents(database)
    failure = fails(method.on(api), keyed(request, "order-17"))
    assert failure.code == StatusCode.ALREADY_EXISTS
    assert failure.reason.endswith("_ALREADY_EXISTS")
    assert failure.metadata["field"].startswith(f"{method.body.name}.")
    assert contents(database) == before
    assert saved(database) == 0


@pytest.mark.parametrize("method", [method for method in CREATES if method.name in MANY_OF_ONE_NAME], ids=NAME)
def test_what_has_no_name_of_its_own_is_created_again(api: Api, method: Method) -> None:
    request = samples.of(api, method)
    first, second = (method.resource_of(method.on(api)(request)) for _ in range(2))
    assert first.id != second.id


@pytest.mark.parametrize("method", DELETES, ids=NAME)
def test_what_is_deleted_is_gone(api: Api, method: Method) -> None:
    request = samples.of(api, method)
    method.on(api)(request)
    failure = fails(method.on(api), request)
    assert failure.code == StatusCode.NOT_FOUND
    assert failure.reason.endswith("_NOT_FOUND")


@pytest.mark.parametrize("method", [method for method in DELETES if method.name != "DeleteUser"], ids=NAME)
def test_a_deletion_with_a_stale_etag_is_refused_with_the_current_one(
    api: Api, database: Database, method: Method
) -> None:
    request: Any = samples.of(api, method)
    before = contents(database)
    request.etag = "stale"
    failure = fails(method.on(api), request)
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
    assert contents(database) == before
    request.etag = failure.metadata["etag"]
    method.on(api)(request)
    assert contents(database) != before


@contextmanager
def held(database: Database, *statements: str) -> Iterator[None]:
    """Hold what the statements lock, in a transaction of their own."""
    other = Database(database.url)
    other.query("begin")
    try:
        for statement in statements:
            other.query(statement)
        yield
    finally:
        other.query("rollback")
        other.close()


@writes
def test_rows_that_stay_locked_end_the_call_and_nothing_is_written(
    api: Api, database: Database, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = keyed(samples.of(api, method), "order-17")
    before = contents(database)
    monkeypatch.setattr(handle, "LOCK_SECONDS", 0.05)
    with held(database, f"lock table {', '.join(RESOURCES)} in exclusive mode"):
        failure = fails(method.on(api), request)
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "CONFLICT")
    assert failure.metadata == {}
    assert contents(database) == before
    method.on(api)(request)


@writes
def test_a_twin_that_is_still_running_is_told_apart(
    api: Api, database: Database, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = keyed(samples.of(api, method), "order-17")
    before = contents(database)
    monkeypatch.setattr(handle, "LOCK_SECONDS", 0.05)
    name = method.request.DESCRIPTOR.full_name.removesuffix("Request")
    with held(database, f"insert into idempotency_keys values ('anonymous', '{name}', 'order-17', '')"):
        failure = fails(method.on(api), request)
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "REQUEST_IN_PROGRESS")
    assert failure.metadata == {"request_id": "order-17"}
    assert contents(database) == before
    method.on(api)(request)
