"""Files on their way to OpenAI: what is sent, what goes wrong at each moment, and what the record says."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord
from omniflo.templates.v1.processing_service_pb2 import (
    CancelProcessingRequest,
    DeleteProcessingRecordRequest,
    ListProcessingRecordsRequest,
    UploadFileHeader,
    UploadFileRequest,
)
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from service.actor import SYSTEM
from service.config import Settings
from service.interceptors import receiving
from service.openai_gateway import Gateway
from service.operations import processing_work
from service.servicers import uploads
from tests.conftest import READER, WRITER, Api, Callers, Database, Failure, fails
from tests.contract.methods import UPLOADS
from tests.contract.processing import SECONDS, ended, gateway, read, status, working
from tests.e2e.serving import eventually
from tests.openai_stand_in import Fault, StandIn

CHUNK = 1024 * 1024
POST = "POST /v1/files"

__all__ = ["gateway"]


def head(template: Template, **fields: Any) -> UploadFileRequest:
    fields = {"filename": "a.pdf", "user_id": template.user_id, "template_id": template.id} | fields
    return UploadFileRequest(header=UploadFileHeader(**fields))


def chunk(data: bytes) -> UploadFileRequest:
    return UploadFileRequest(chunk=data)


def upload(api: Api, *messages: UploadFileRequest) -> ProcessingRecord:
    return api.processing.UploadFile(iter(messages), timeout=60)


def records(api: Api, user_id: str) -> list[ProcessingRecord]:
    return list(api.processing.ListProcessingRecords(ListProcessingRecordsRequest(user_id=user_id)).records)


def test_nothing_else_takes_a_stream() -> None:
    assert [method.name for method in UPLOADS] == ["UploadFile"]


@pytest.mark.parametrize(
    ("filename", "chunks"),
    [
        ("a.pdf", [b"%PDF", b"-1.7"]),
        ("B.PNG", [b"\x89PNG" * 1000]),
        ("table.csv", [b"a,b\n", b"", b"1,2\n"]),
        ("\N{ROCKET} \u202e%s {} \\ ' \" ; \r\n /../é.pdf", [b"x"]),
        ("large.pdf", [bytes(CHUNK)] * 3),
    ],
)
def test_a_file_goes_on_to_openai_and_is_run(
    api: Api,
    database: Database,
    stand_in: StandIn,
    gateway: Gateway,
    filename: str,
    chunks: list[bytes],
) -> None:
    template = api.template()
    record = upload(api, head(template, filename=filename), *map(chunk, chunks))
    assert (record.filename, record.status) == (filename, status("PROCESSING"))
    (file,) = stand_in.files
    assert (file.id, file.bytes) == (record.openai_file_id, sum(map(len, chunks)))
    assert database.query("select owns_file from processing_records") == [(True,)]
    with working(gateway):
        assert ended(api, record.id).status == status("COMPLETED")
    (run,) = stand_in.runs
    assert run.file_ids == [file.id]


def test_the_template_of_a_type_is_run_that_holds_for_the_user(api: Api, stand_in: StandIn) -> None:
    template = api.template(select=True)
    header = UploadFileHeader(filename="a.pdf", user_id=template.user_id, template_type=template.template_type)
    assert upload(api, UploadFileRequest(header=header), chunk(b"x")).template_id == template.id
    header.template_type = api.type().name
    assert fails(upload, api, UploadFileRequest(header=header), chunk(b"x")).reason == "NO_TEMPLATE_RESOLVED"
    assert len(list(stand_in.files)) == 1


HEADER = UploadFileRequest(header=UploadFileHeader(filename="a.pdf", template_id="t"))
WRONG: dict[str, tuple[list[UploadFileRequest], str, str, str]] = {
    "nothing": ([], "FIELD_INVALID", "header", ""),
    "no header": ([chunk(b"x")], "FIELD_INVALID", "header", ""),
    "an empty message": ([UploadFileRequest()], "FIELD_INVALID", "part", ""),
    "no chunk": ([HEADER], "FIELD_INVALID", "chunk", "FIELD_INVALID"),
    "an empty chunk": ([HEADER, chunk(b"")], "FIELD_INVALID", "chunk", "FIELD_INVALID"),
    "two headers": ([HEADER, chunk(b"x"), HEADER], "FIELD_INVALID", "header", "FIELD_INVALID"),
    "a header twice": ([HEADER, HEADER], "FIELD_INVALID", "header", "FIELD_INVALID"),
    "an empty message later": ([HEADER, UploadFileRequest()], "FIELD_INVALID", "part", "FIELD_INVALID"),
    "a chunk over its limit": ([HEADER, chunk(bytes(CHUNK + 1))], "FIELD_INVALID", "chunk", "FIELD_INVALID"),
    "a file over its limit": ([HEADER, *[chunk(bytes(CHUNK))] * 51], "FILE_TOO_LARGE", "", "FILE_TOO_LARGE"),
    "no template": ([HEADER, chunk(b"x")], "TEMPLATE_NOT_FOUND", "", ""),
}
"""What is sent, what the call says, and what the record says if there is one."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_by_the_call_and_by_the_record(api: Api, stand_in: StandIn, name: str) -> None:
    messages, reason, field, recorded = WRONG[name]
    template = api.template()
    here = [
        head(template, template_id=template.id if name != "no template" else "t") if message is HEADER else message
        for message in messages
    ]
    failure = fails(upload, api, *here)
    assert failure.reason == reason
    assert list(failure.violations) == ([field] if field else [])
    assert [(record.status, record.error_reason) for record in records(api, template.user_id)] == (
        [(status("FAILED"), recorded)] if recorded else []
    )
    assert list(stand_in.files) == []
    if name == "a file over its limit":
        assert (failure.code, failure.metadata) == (StatusCode.RESOURCE_EXHAUSTED, {"limit": str(50 * CHUNK)})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.UNAUTHORIZED, "OPENAI_REFUSED"),
        (Fault.RATE_LIMITED, "OPENAI_RATE_LIMITED"),
        (Fault.LOST, "OPENAI_UNAVAILABLE"),
    ],
)
def test_what_openai_does_not_take_fails_with_its_reason(
    api: Api, stand_in: StandIn, fault: Fault, reason: str
) -> None:
    template = api.template()
    with stand_in.failing(fault, POST):
        assert fails(upload, api, head(template), chunk(b"x")).reason == reason
    (record,) = records(api, template.user_id)
    assert (record.status, record.error_reason) == (status("FAILED"), reason)
    assert upload(api, head(template), chunk(b"x")).status == status("PROCESSING")


class Slow:
    """A caller that sends when it is told to."""

    def __init__(self, api: Api, *messages: UploadFileRequest) -> None:
        self._messages = list(messages)
        self._go_on = threading.Semaphore(len(messages))
        self._is_over = False
        self.call = api.processing.UploadFile.future(self._all())

    def _all(self) -> Iterator[UploadFileRequest]:
        while True:
            self._go_on.acquire()
            if not self._messages:
                return
            yield self._messages.pop(0)

    def send(self, *messages: UploadFileRequest) -> None:
        self._messages += messages
        for _ in messages:
            self._go_on.release()

    def end(self) -> None:
        self._go_on.release()


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_of_a_caller_that_goes_away_the_record_says_so(
    api: Api, database: Database, stand_in: StandIn, sent: int
) -> None:
    template = api.template()
    slow = Slow(api, *[head(template), chunk(b"x")][:sent])
    if sent:
        eventually(lambda: records(api, template.user_id), within=SECONDS)
    slow.call.cancel()
    slow.end()
    if not sent:
        assert records(api, template.user_id) == []
        return
    eventually(lambda: records(api, template.user_id)[0].status == status("FAILED"), within=SECONDS)
    (record,) = records(api, template.user_id)
    assert record.error_reason == "PROCESSING_UPLOAD_ENDED"

    def left() -> set[str]:
        return {id for (id,) in database.query("select id from openai_leftovers")}

    # Where grpcio first said that no message comes any more, workers delete what has come.
    eventually(lambda: {file.id for file in stand_in.files} == left(), within=SECONDS)


def test_half_a_file_of_a_caller_that_goes_away_is_never_run(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway
) -> None:
    template = api.template()
    begun = "select count(*) from processing_records having count(*) = %s"
    for count in range(1, 31):
        slow = Slow(api, head(template), chunk(b"x"))
        eventually(partial(database.query, begun, (count,)), within=SECONDS)
        slow.call.cancel()
        slow.end()
    uploading = "select 1 from processing_records where status = 'uploading'"
    eventually(lambda: not database.query(uploading), within=SECONDS)
    found = records(api, template.user_id)
    assert {(record.status, record.error_reason) for record in found} == {(status("FAILED"), "PROCESSING_UPLOAD_ENDED")}
    with working(gateway):
        eventually(lambda: not list(stand_in.files), within=SECONDS)


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_an_upload_whose_record_ends_meanwhile_queues_nothing_and_leaves_no_file(
    api: Api,
    stand_in: StandIn,
    gateway: Gateway,
    how: str,
) -> None:
    template = api.template()
    slow = Slow(api, head(template), chunk(b"x"))
    eventually(lambda: records(api, template.user_id), within=SECONDS)
    (record,) = records(api, template.user_id)
    if how == "cancelled":
        api.processing.CancelProcessing(CancelProcessingRequest(id=record.id))
    else:
        api.processing.DeleteProcessingRecord(DeleteProcessingRecordRequest(id=record.id))
    slow.end()
    with pytest.raises(grpc.RpcError) as caught:
        slow.call.result(SECONDS)
    reasons = {"cancelled": "PROCESSING_STATUS_PASSED", "deleted": "PROCESSING_RECORD_NOT_FOUND"}
    assert Failure(caught.value).reason == reasons[how]
    with working(gateway):
        eventually(lambda: not list(stand_in.files), within=SECONDS)
    if how == "cancelled":
        assert read(api, record.id).status == status("CANCELLED")


def test_an_upload_whose_server_died_has_failed(api: Api, database: Database, gateway: Gateway) -> None:
    template = api.template()
    slow = Slow(api, head(template), chunk(b"x"))
    eventually(lambda: records(api, template.user_id), within=SECONDS)
    (record,) = records(api, template.user_id)
    assert processing_work.take(SYSTEM, 1) == []
    database.query("update processing_records set try_time = now()")
    with working(gateway):
        found = ended(api, record.id)
    assert (found.status, found.error_reason) == (status("FAILED"), "PROCESSING_UPLOAD_ENDED")
    slow.call.cancel()
    slow.end()


def test_a_retry_has_the_first_response_and_sends_nothing(api: Api, stand_in: StandIn) -> None:
    template = api.template()
    first = upload(api, head(template, request_id="order-17"), chunk(b"x"))
    assert upload(api, head(template, request_id="order-17"), chunk(b"x")) == first
    failure = fails(upload, api, head(template, request_id="order-17", filename="b.pdf"), chunk(b"x"))
    assert failure.reason == "REQUEST_ID_REUSED"
    assert len(list(stand_in.files)) == len(records(api, template.user_id)) == 1
    with stand_in.failing(Fault.UNAUTHORIZED, POST):
        fails(upload, api, head(template, request_id="order-18"), chunk(b"x"))
    assert upload(api, head(template, request_id="order-18"), chunk(b"x")).status == status("PROCESSING")


def test_as_many_files_are_taken_at_once_as_is_set_and_others_go_on_meanwhile(api: Api) -> None:
    template = api.template()
    most = Settings().uploads
    slow = [Slow(api, head(template), chunk(b"x")) for _ in range(most)]
    eventually(lambda: len(records(api, template.user_id)) == most, within=SECONDS)
    failure = fails(upload, api, head(template), chunk(b"x"))
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert failure.retry_seconds == uploads.RETRY_SECONDS
    # Each has a thread, and none a connection.
    for _ in range(50):
        api.user()
    for one in slow:
        one.end()
    assert [one.call.result(SECONDS).status for one in slow] == [status("PROCESSING")] * most
    assert upload(api, head(template), chunk(b"x")).status == status("PROCESSING")


def test_one_user_has_half_of_the_uploads_at_most(api: Api, callers: Callers) -> None:
    people = [callers.user(f"user_{name}") for name in ("busy", "other")]
    busy, other = people
    template = api.template()
    most = Settings().uploads // 2
    slow = [Slow(busy, head(template, user_id=""), chunk(b"x")) for _ in range(most)]
    eventually(lambda: len(records(busy, "")) == most, within=SECONDS)
    assert fails(upload, busy, head(template, user_id=""), chunk(b"x")).reason == "OVERLOADED"
    assert upload(other, head(template, user_id=""), chunk(b"x")).status == status("PROCESSING")
    for one in slow:
        one.end()
    assert [one.call.result(SECONDS).status for one in slow] == [status("PROCESSING")] * most
    assert upload(busy, head(template, user_id=""), chunk(b"x")).status == status("PROCESSING")


def test_a_file_of_more_than_a_caller_may_have_in_memory_goes_through(
    api: Api, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_HELD_BYTES_OF_ONE", 4 * CHUNK)
    record = upload(api, head(api.template()), *[chunk(bytes(CHUNK))] * 20)
    assert [file.bytes for file in stand_in.files] == [20 * CHUNK]
    assert record.status == status("PROCESSING")


def test_who_may_upload_for_whom_and_where(api: Api, callers: Callers, stand_in: StandIn) -> None:
    people = {name: callers.user(f"user_{name}") for name in ("admin", "member", "stranger")}
    users = {name: who.users.ListUsers(ListUsersRequest()).users[0] for name, who in people.items()}
    house: Organization = api.organization(users["admin"])
    api.member(house, users["member"])
    template = api.template(organization_id=house.id, user_id=users["admin"].id)
    cases: list[tuple[Api, str, str]] = [
        (people["member"], "", ""),
        (people["member"], users["member"].id, ""),
        (people["member"], users["admin"].id, "USER_NOT_FOUND"),
        (people["stranger"], "", "ORGANIZATION_NOT_FOUND"),
        (callers.service(WRITER, user=users["member"].id), "", ""),
        (callers.service(WRITER), users["member"].id, "PERMISSION_DENIED"),
        (callers.service(READER), users["member"].id, "PERMISSION_DENIED"),
        (callers.nobody(), users["member"].id, "UNAUTHENTICATED"),
    ]
    for who, user_id, reason in cases:
        messages = head(template, user_id=user_id, organization_id=house.id), chunk(b"x")
        if reason:
            assert fails(upload, who, *messages).reason == reason
        else:
            assert upload(who, *messages).user_id == users["member"].id
    assert len(list(stand_in.files)) == 3
    # In no organization, the template is of another one.
    assert fails(upload, people["member"], head(template, user_id=""), chunk(b"x")).reason == (
        "TEMPLATE_ORGANIZATION_MISMATCH"
    )
