"""Errors to statuses: what callers see, and how much of it at most."""

from typing import Any, TypeVar, get_args

import pytest
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from omniflo.templates.v1.error_reason_pb2 import ErrorReason
from service import errors, statuses
from service.constraints import CONSTRAINTS

M = TypeVar("M", bound=Message)

ERRORS: dict[str, errors.Error] = {
    "INVALID_ARGUMENT": errors.field_invalid(("template.title", "is required")),
    "UNAUTHENTICATED": errors.Unauthenticated("no_credential"),
    "PERMISSION_DENIED": errors.PermissionDenied("PERMISSION_DENIED", "not allowed"),
    "NOT_FOUND": errors.not_found("TEMPLATE_TYPE", name="data-export"),
    "ALREADY_EXISTS": CONSTRAINTS["openai_models_openai_id_is_unique"],
    "FAILED_PRECONDITION": errors.FailedPrecondition("USER_IN_USE", "in use", {"templates": "3"}),
    "ABORTED": errors.Aborted("ETAG_MISMATCH", "stale", {"etag": "x"}),
    "OUT_OF_RANGE": errors.OutOfRange("RESUME_TOKEN_EXPIRED", "too old"),
    "UNAVAILABLE": errors.Unavailable("DATABASE_UNAVAILABLE", "away"),
    "DEADLINE_EXCEEDED": errors.deadline_exceeded(),
    "RESOURCE_EXHAUSTED": errors.ResourceExhausted("RESPONSE_TOO_LARGE", "large", {"fitting": "3"}),
    "INTERNAL": errors.Internal("INTERNAL", "a fault", {"error_id": "0b5c1a"}),
}


def details(status: Status, kind: type[M]) -> list[M]:
    """Answer the details of that kind."""
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


def test_every_kind_of_error_is_looked_at_here() -> None:
    assert {type(error) for error in ERRORS.values()} == set(errors.Error.__subclasses__())


@pytest.mark.parametrize(("code", "error"), ERRORS.items(), ids=ERRORS)
def test_an_error_has_its_code_its_sentence_and_one_error_info(code: str, error: errors.Error) -> None:
    status = statuses.of(error)
    assert status.code == Code.Value(code)
    assert status.message == error.message
    assert details(status, ErrorInfo) == [
        ErrorInfo(reason=error.reason, domain="templates.omniflo", metadata=error.metadata)
    ]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_only_an_unavailable_service_says_when_to_retry(error: errors.Error) -> None:
    retries: list[Any] = details(statuses.of(error), RetryInfo)
    assert [retry.retry_delay.ToSeconds() for retry in retries] == ([1] if error.code == "UNAVAILABLE" else [])


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_only_broken_rules_come_as_violations(error: errors.Error) -> None:
    bad: list[Any] = details(statuses.of(error), BadRequest)
    assert [(it.field, it.description) for one in bad for it in one.field_violations] == list(error.violations)


@pytest.mark.parametrize(
    ("violations", "named", "more"),
    [
        ([("f", "d")] * 20, 20, ""),
        ([("f", "d")] * 21, 20, "1"),
        ([("f", "d")] * 1000, 20, "980"),
        ([("f", "d" * 1000)] * 4, 3, "1"),
        ([("f" * 1000, "d")] * 20, 3, "17"),
        ([("f", "é" * 10_000)], 0, "1"),
        ([("f", "d"), ("f", "d" * 10_000), ("f", "d")], 1, "2"),
    ],
)
def test_violations_that_do_not_fit_are_counted(violations: list[tuple[str, str]], named: int, more: str) -> None:
    status = statuses.of(errors.field_invalid(*violations))
    (bad,), (info,) = details(status, BadRequest), details(status, ErrorInfo)
    assert [(it.field, it.description) for it in bad.field_violations] == violations[:named]
    assert info.metadata.get("more_violations", "") == more
    assert sum(detail.ByteSize() for detail in status.details) <= 4096


def test_a_status_leaves_its_error_as_it_was() -> None:
    error = errors.field_invalid(*[("f", "d")] * 30)
    assert statuses.of(error) == statuses.of(error)
    assert error.metadata == {}


def test_reasons_are_those_of_the_protos() -> None:
    names = [name.removeprefix("ERROR_REASON_") for name, number in ErrorReason.items() if number]
    assert list(get_args(errors.Reason)) == names


@pytest.mark.parametrize("what", get_args(errors.Entity))
def test_every_entity_has_a_reason_for_not_being_there(what: errors.Entity) -> None:
    assert errors.not_found(what).reason in get_args(errors.Reason)


def test_what_the_database_refuses_has_a_reason_of_the_protos() -> None:
    assert {error.reason for error in CONSTRAINTS.values()} <= set(get_args(errors.Reason))
