"""Runs of the registry: a worker in this process does them, with a stand-in for OpenAI."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingRunner
from omniflo.templates.v1.processing_service_pb2 import (
    CancelProcessingRequest,
    CreateProcessingRecordRequest,
    DeleteProcessingRecordRequest,
    RetryProcessingRequest,
    UpdateProcessingRecordRequest,
    WatchProcessingRecordRequest,
)
from omniflo.templates.v1.template_pb2 import Variable
from omniflo.templates.v1.template_service_pb2 import DeleteTemplateRequest
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, ListUsersRequest
from service import openai_runs
from service.actor import SYSTEM
from service.database import handle
from service.job_metrics import FileRuns
from service.jobs.processing import _Run
from service.metrics import Metrics
from service.openai_files import Files
from service.openai_gateway import Gateway
from service.openai_runs import Delta, Runs
from service.operations import processing_work, record_watches
from service.operations.processing_work import LONGEST_OUTPUT, Held
from service.server.upkeep import waiting
from tests.conftest import Api, Callers, Database, Failure, fails
from tests.contract.processing import PACE, SECONDS, ended, gateway, read, status, working
from tests.contract.tables import taken_for_small
from tests.e2e.serving import eventually
from tests.openai_stand_in import Fault, StandIn

SCHEMA = (
    '{"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"],'
    ' "additionalProperties": false}'
)
POST = "POST /v1/responses"

__all__ = ["gateway"]


def file(gateway: Gateway, name: str = "invoice.pdf", content: bytes = b"17") -> str:
    return Files(gateway).upload(name, iter([content]))


def retry(api: Api, id: str) -> ProcessingRecord:
    return api.processing.RetryProcessing(RetryProcessingRequest(id=id)).record


def create(api: Api, **fields: Any) -> ProcessingRecord:
    record = fields.pop("record")
    return api.processing.CreateProcessingRecord(CreateProcessingRecordRequest(record=record, **fields))


def test_a_run_sends_the_file_and_what_was_rendered_at_first_and_keeps_what_comes(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway
) -> None:
    template = api.template(instructions="Do it in {{tone}}.", variables=[Variable(name="tone", required=True)])
    sample = ProcessingRecord(
        filename="invoice.pdf",
        openai_file_id=file(gateway),
        template_id=template.id,
        user_id=api.user().id,
        runner=ProcessingRunner.PROCESSING_RUNNER_REGISTRY,
    )
    failure = fails(create, api, record=sample)
    assert failure.violations == {"variables.tone": "is required by the template"}
    queued = create(api, record=sample, variables={"tone": "prose"}, input_text="In one line.")
    assert (queued.status, queued.model) == (status("PROCESSING"), template.model)
    assert (queued.template_revision, queued.template_type_revision) == (1, 1)
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    with working(gateway):
        record = ended(api, queued.id)
    assert record.status == status("COMPLETED")
    assert "Do it in prose." in record.output_text
    assert "In one line." in record.output_text
    assert "invoice.pdf, 2 bytes" in record.output_text
    assert record.results.startswith('{"text": "')
    (run,) = stand_in.runs
    assert run.id == record.response_id
    assert run.metadata["processing_record_id"] == record.id
    assert record.usage.input_tokens == run.usage["input_tokens"]
    assert record.usage.output_tokens == run.usage["output_tokens"]
    assert record.processing_time.ToTimedelta().total_seconds() > 0
    recorded = "select template_id, template_revision, model, user_id, input_tokens, output_tokens, success"
    assert database.query(f"{recorded} from usage_arrivals") == [
        (template.id, 1, template.model, record.user_id, record.usage.input_tokens, record.usage.output_tokens, True)
    ]
    for table in ("processing_inputs", "processing_output", "openai_leftovers"):
        assert database.query(f"select count(*) from {table}") == [(0,)]


def test_runs_are_counted_and_how_long_they_wait_is_seen(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway
) -> None:
    server, worker = Metrics([]), FileRuns()

    def wait() -> float:
        waiting(server).do()
        return server.registry.get_sample_value("omniflo_file_run_wait_seconds") or 0.0

    def value(name: str, **labels: str) -> float | None:
        return worker.registry.get_sample_value(f"omniflo_file_{name}", labels)

    assert wait() == 0
    for _ in range(2):
        queued = api.run(template_id=api.template().id, openai_file_id=file(gateway))
    database.query("update processing_records set try_time = now() - interval '100 s' where id = %s", (queued.id,))
    assert 100 <= wait() < 100 + SECONDS
    stand_in.faults.only = POST
    stand_in.faults.next.append(Fault.UNAUTHORIZED)
    stand_in.event_seconds = 100
    with working(gateway, worker):
        eventually(lambda: value("runs_total", result="failed") == value("runs_in_flight") == 1, within=SECONDS)
        assert wait() == 0
        # A run that OpenAI has not begun yet would be put off.
        eventually(lambda: database.query("select 1 from processing_records where response_id <> ''"), within=SECONDS)
    assert value("runs_in_flight") == 0
    assert {result: value("runs_total", result=result) for result in ("failed", "given_back", "completed")} == {
        "failed": 1,
        "given_back": 1,
        "completed": 0,
    }
    assert value("run_seconds_count") == 2


@pytest.mark.parametrize(
    ("fault", "outcome", "reason", "runs", "again"),
    [
        (None, "COMPLETED", "", 1, None),
        (Fault.RATE_LIMITED, "COMPLETED", "", 1, None),
        (Fault.SERVER_ERROR, "COMPLETED", "", 1, None),
        (Fault.CUT_STREAM, "COMPLETED", "", 1, None),
        (Fault.MUTED_STREAM, "COMPLETED", "", 1, None),
        (Fault.LOST, "FAILED", "PROCESSING_OUTCOME_UNKNOWN", 1, "COMPLETED"),
        (Fault.UNAUTHORIZED, "FAILED", "OPENAI_REFUSED", 0, "COMPLETED"),
        (Fault.FAILED, "FAILED", "server_error", 1, "COMPLETED"),
        (Fault.INCOMPLETE, "FAILED", "max_output_tokens", 1, "COMPLETED"),
        (Fault.NO_JSON, "FAILED", "PROCESSING_RESULTS_INVALID", 1, "COMPLETED"),
    ],
    ids=str,
)
def test_a_run_ends_once_whatever_openai_does(
    api: Api, stand_in: StandIn, gateway: Gateway, fault: Fault | None, outcome: str, reason: str, runs: int, again: str
) -> None:
    stand_in.faults.only, stand_in.faults.retry_after = POST, "0"
    queued = api.run(template_id=api.template(response_format=SCHEMA).id, openai_file_id=file(gateway))
    if fault is not None:
        stand_in.faults.next.append(fault)
    with working(gateway):
        record = ended(api, queued.id)
        assert (record.status, record.error_reason) == (status(outcome), reason)
        assert len(list(stand_in.runs)) == runs
        assert bool(record.results) == (outcome == "COMPLETED")
        assert bool(record.output_text) == (fault not in {Fault.LOST, Fault.UNAUTHORIZED})
        assert bool(record.error_message) == (outcome == "FAILED" and fault is not Fault.INCOMPLETE)
        if again is None:
            assert fails(retry, api, queued.id).reason == "PROCESSING_NOT_RETRIABLE"
            return
        second = retry(api, queued.id)
        assert (second.status, second.error_reason, second.output_text) == (status("PROCESSING"), "", "")
        record = ended(api, queued.id)
    assert (record.status, record.results) == (status(again), '{"total": 17}')
    assert len(list(stand_in.runs)) == runs + 1


def abandon(api: Api, database: Database, steps: str, gateway: Gateway) -> ProcessingRecord:
    """Have a worker die after so many steps of a run, and nobody hear of it for long enough."""
    queued = api.run(openai_file_id=file(gateway))
    (held,) = processing_work.take(SYSTEM, 4)
    sent = processing_work.begin(SYSTEM, held) if steps != "taken" else None
    if steps == "running":
        assert sent is not None
        content = [{"type": "input_file", "file_id": held.file_id}]
        events = Runs(gateway).start(sent.body, content, threading.Event())
        created = next(events)
        assert isinstance(created, openai_runs.Created)
        assert processing_work.note_response(SYSTEM, held, created.response_id, created.sequence + 1)
    assert processing_work.take(SYSTEM, 4) == []
    database.query("update processing_records set try_time = now() where try_time is not null")
    return queued


@pytest.mark.parametrize(
    ("steps", "outcome", "reason"),
    [
        ("taken", "COMPLETED", ""),
        ("sent", "FAILED", "PROCESSING_OUTCOME_UNKNOWN"),
        ("running", "COMPLETED", ""),
    ],
)
def test_a_run_whose_worker_dies_is_taken_over_and_never_sent_again(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway, steps: str, outcome: str, reason: str
) -> None:
    queued = abandon(api, database, steps, gateway)
    with working(gateway):
        record = ended(api, queued.id)
    assert (record.status, record.error_reason) == (status(outcome), reason)
    assert len(list(stand_in.runs)) == (0 if steps == "sent" else 1)


def test_a_run_that_cannot_be_done_fails_in_the_end(api: Api, database: Database, gateway: Gateway) -> None:
    queued = api.run(openai_file_id=file(gateway))
    database.query("delete from processing_inputs")
    database.query("update processing_records set tries = 19")
    with working(gateway):
        eventually(lambda: database.query("select 1 from processing_records where tries = 20"), within=SECONDS)
        database.query("update processing_records set try_time = now()")
        record = ended(api, queued.id)
    assert (record.status, record.error_reason) == (status("FAILED"), "INTERNAL")


def test_a_worker_that_was_taken_for_dead_writes_nothing_any_more(
    api: Api, database: Database, gateway: Gateway
) -> None:
    queued = api.run(openai_file_id=file(gateway))
    (late,) = processing_work.take(SYSTEM, 1)
    database.query("update processing_records set try_time = now()")
    (held,) = processing_work.take(SYSTEM, 1)
    before = database.query("select r::text from processing_records r")
    assert processing_work.keep(SYSTEM, [late]) == set()
    assert processing_work.begin(SYSTEM, late) is None
    assert not processing_work.note_response(SYSTEM, late, "resp_late", 1)
    processing_work.append(SYSTEM, [processing_work.Piece(late.id, late.holder, 5, "late")])
    processing_work.put_off(SYSTEM, late, 5, was_sent=False)
    processing_work.give_back(SYSTEM, late)
    assert processing_work.end(SYSTEM, late, "failed", reason="late") is None
    assert database.query("select r::text from processing_records r") == before
    assert database.query("select count(*) from processing_output") == [(0,)]
    assert database.query("select kind, id from openai_leftovers") == [("response", "resp_late")]
    assert processing_work.keep(SYSTEM, [held]) == {held.holder}
    assert read(api, queued.id).status == status("PROCESSING")


def test_a_worker_that_stops_leaves_its_run_to_the_next(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway
) -> None:
    stand_in.event_seconds = 0.05
    queued = api.run(openai_file_id=file(gateway))
    with working(gateway):
        eventually(lambda: database.query("select 1 from processing_output limit 1"), within=SECONDS)
    assert read(api, queued.id).status == status("PROCESSING")
    with working(gateway):
        record = ended(api, queued.id)
    assert record.status == status("COMPLETED")
    assert len(list(stand_in.runs)) == 1


def told(api: Api, id: str) -> tuple[list[ProcessingRecord], str]:
    """Watch a record to its end."""
    records, text = [], ""
    for message in api.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=id), timeout=60):
        if message.WhichOneof("event") == "record":
            records.append(message.record)
        else:
            text += message.output_delta
    return records, text


@pytest.mark.parametrize("late", [False, True])
def test_a_watch_tells_every_step_and_all_of_the_text(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway, late: bool
) -> None:
    stand_in.event_seconds = 0.03
    queued = api.run(openai_file_id=file(gateway))
    with working(gateway):
        if late:
            eventually(lambda: database.query("select 1 from processing_output limit 1"), within=SECONDS)
        records, text = told(api, queued.id)
    assert [record.status for record in (records[0], records[-1])] == [status("PROCESSING"), status("COMPLETED")]
    assert text == records[-1].output_text != ""
    assert records[-1] == read(api, queued.id)
    assert told(api, queued.id) == ([records[-1]], "")


def test_of_an_answer_that_is_too_large_the_beginning_is_kept_and_told(
    api: Api, stand_in: StandIn, gateway: Gateway
) -> None:
    del stand_in
    template = api.template(instructions="\N{ROCKET}" * 150_000)
    queued = api.run(template_id=template.id, openai_file_id=file(gateway))
    watch = api.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=queued.id), timeout=SECONDS)
    with working(gateway):
        record = ended(api, queued.id)
    assert (record.status, record.error_reason) == (status("FAILED"), "PROCESSING_RESULTS_TOO_LARGE")
    assert LONGEST_OUTPUT - 4 < len(record.output_text.encode()) <= LONGEST_OUTPUT
    assert "".join(message.output_delta for message in watch) == record.output_text


def test_no_more_of_a_text_is_kept_than_its_record_can_have() -> None:
    held = Held("r", "h", "processing", "a.pdf", "file-1", "", was_sent=True, next_event=0, tries=0)
    run = _Run(held)
    run.add(Delta(0, "x" + "\N{ROCKET}" * LONGEST_OUTPUT))
    first = run.piece()
    assert first is not None
    assert LONGEST_OUTPUT - 4 < len(first.text.encode()) <= LONGEST_OUTPUT
    run.add(Delta(1, "more"))
    assert run.piece() is None


def test_a_watch_ends_with_its_record_and_one_of_nothing_is_refused(api: Api) -> None:
    queued = api.run()
    call = api.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=queued.id))
    assert next(call).record == queued
    api.processing.DeleteProcessingRecord(DeleteProcessingRecordRequest(id=queued.id))
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert Failure(caught.value).reason == "PROCESSING_RECORD_NOT_FOUND"
    watch = api.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=queued.id))
    assert fails(lambda: next(watch)).reason == "PROCESSING_RECORD_NOT_FOUND"


def test_a_watch_ends_with_the_rights_of_its_caller(
    api: Api, callers: Callers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_watches, "CHECK_SECONDS", 0)
    program = callers.user("user_admin")
    admin = program.users.ListUsers(ListUsersRequest()).users[0]
    house = api.organization(admin)
    own, foreign = api.user(), api.run(organization_id=house.id, user_id=api.member(house).user_id)
    key = callers.bearing(api.key(user_id=own.id).secret)
    watches = [
        program.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=foreign.id)),
        key.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=api.run(user_id=own.id).id)),
    ]
    assert [next(watch).record.status for watch in watches] == [status("PROCESSING")] * 2
    database.query("update organization_members set role = 'viewer' where user_id = %s", (admin.id,))
    database.query("update api_keys set revoke_time = now()")
    for watch, reason in zip(watches, ("PROCESSING_RECORD_NOT_FOUND", "UNAUTHENTICATED"), strict=True):
        with pytest.raises(grpc.RpcError) as caught:
            list(watch)
        assert Failure(caught.value).reason == reason


def cancel(api: Api, id: str) -> ProcessingRecord:
    return api.processing.CancelProcessing(CancelProcessingRequest(id=id)).record


def test_a_run_that_waits_is_cancelled_and_can_be_retried(api: Api, stand_in: StandIn, gateway: Gateway) -> None:
    queued = api.run(openai_file_id=file(gateway))
    assert cancel(api, queued.id).status == status("CANCELLED")
    assert cancel(api, queued.id) == read(api, queued.id)
    with working(gateway):
        time.sleep(5 * PACE.take)
        assert list(stand_in.runs) == []
        retry(api, queued.id)
        assert ended(api, queued.id).status == status("COMPLETED")
        assert fails(cancel, api, queued.id).reason == "PROCESSING_STATUS_PASSED"
    assert len(list(stand_in.runs)) == 1


@pytest.mark.parametrize("how", ["cancelled", "deleted", "with its user"])
def test_a_run_that_goes_on_ends_at_openai_with_its_record(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway, how: str
) -> None:
    stand_in.event_seconds = 1.0
    user = api.user()
    queued = api.run(openai_file_id=file(gateway), user_id=user.id)
    database.query("update processing_records set owns_file = true")
    with working(gateway):
        eventually(lambda: read(api, queued.id).response_id, within=SECONDS)
        match how:
            case "cancelled":
                assert cancel(api, queued.id).status == status("CANCELLED")
            case "deleted":
                api.processing.DeleteProcessingRecord(DeleteProcessingRecordRequest(id=queued.id))
            case _:
                api.users.DeleteUser(DeleteUserRequest(id=user.id))
        (run,) = stand_in.runs
        eventually(lambda: run.response()["status"] == "cancelled", within=SECONDS)
        eventually(lambda: database.query("select 1 from openai_leftovers") == [], within=SECONDS)
    assert bool(list(stand_in.files)) == (how != "with its user")


def test_a_file_is_deleted_when_that_is_asked_for_and_no_other_record_has_it(
    api: Api, database: Database, stand_in: StandIn, gateway: Gateway
) -> None:
    kept, shared, deleted = (file(gateway, content=name) for name in (b"kept", b"shared", b"deleted"))
    api.record(openai_file_id=shared)
    foreign = DeleteProcessingRecordRequest(id=api.record(openai_file_id=kept).id, delete_file=True)
    failure = fails(api.processing.DeleteProcessingRecord, foreign)
    assert failure.violations == {"delete_file": "is for files that came by UploadFile"}
    for name, asks in ((kept, False), (shared, True), (deleted, True), ("file-gone", True)):
        id = api.record(openai_file_id=name).id
        database.query("update processing_records set owns_file = true where id = %s", (id,))
        api.processing.DeleteProcessingRecord(DeleteProcessingRecordRequest(id=id, delete_file=asks))
    with working(gateway):
        eventually(lambda: database.query("select 1 from openai_leftovers") == [], within=SECONDS)
    assert {left.id for left in stand_in.files} == {kept, shared}


def test_who_does_not_run_a_record_neither_reports_nor_cancels_nor_retries_it(api: Api) -> None:
    own, run = api.record(), api.run()
    body = ProcessingRecord(id=run.id, status=status("COMPLETED"))
    failure = fails(api.processing.UpdateProcessingRecord, UpdateProcessingRecordRequest(record=body))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "PROCESSING_RUNNER_MISMATCH")
    assert failure.metadata == {"runner": "REGISTRY"}
    for call in (cancel, retry):
        failure = fails(call, api, own.id)
        assert (failure.reason, failure.metadata) == ("PROCESSING_RUNNER_MISMATCH", {"runner": "CALLER"})


def test_what_the_registry_sets_is_not_the_callers_to_say_nor_the_other_way_round(api: Api) -> None:
    failure = fails(api.run, results="1", response_id="resp_1")
    assert failure.violations == dict.fromkeys(
        ("record.response_id", "record.results"), "is set by the registry, which runs it"
    )
    assert fails(api.run, openai_file_id="").violations == {"record.openai_file_id": "is required"}
    sample = api.record()
    sample.runner = ProcessingRunner.PROCESSING_RUNNER_CALLER
    failure = fails(create, api, record=sample, input_text="x", labels=["a"], variables={"a": "b"})
    assert failure.violations == dict.fromkeys(("input_text", "labels", "variables"), "is for runs of the registry")


def test_no_more_is_taken_than_asked_for_however_postgresql_joins(api: Api, emptying: Database) -> None:
    runs = [api.run().id for _ in range(4)]
    emptying.query(
        "insert into openai_leftovers (kind, id) select 'file', n::text from generate_series(0, %s) n",
        (processing_work.LEFTOVERS,),
    )
    with taken_for_small(emptying, "processing_records", "openai_leftovers"):
        taken = [[held.id for held in processing_work.take(SYSTEM, 1)] for _ in runs]
        assert len(processing_work.leftovers(SYSTEM)) == processing_work.LEFTOVERS
    assert sorted(taken) == sorted([id] for id in runs)


def runs_of(database: Database, run: ProcessingRecord, count: int, *, age: float = 100) -> None:
    """Queue as many runs like this one, which have waited for so many seconds."""
    database.query(
        "insert into processing_records (id, filename, user_id, status, template_id, runner, openai_file_id, try_time)"
        " select r.id || '-' || n, r.filename, r.user_id, r.status, r.template_id, r.runner, r.openai_file_id,"
        " now() - make_interval(secs => %s + %s - n) from processing_records r, generate_series(1, %s) n where id = %s",
        (age, count, count, run.id),
    )
    database.query("delete from processing_records where id = %s", (run.id,))


def takers(most: int) -> list[str]:
    """Take runs, and answer from whose they are made, in order of their names."""
    return sorted(held.id.partition("-")[0] for held in processing_work.take(SYSTEM, most))


def test_a_user_alone_has_every_slot_with_the_oldest_runs(api: Api, database: Database) -> None:
    run = api.run()
    runs_of(database, run, 40)
    assert {held.id for held in processing_work.take(SYSTEM, 4)} == {f"{run.id}-{n}" for n in range(1, 5)}
    assert {held.id for held in processing_work.take(SYSTEM, 4)} == {f"{run.id}-{n}" for n in range(5, 9)}


def test_the_run_of_a_user_who_has_none_comes_before_the_many_of_another(api: Api, database: Database) -> None:
    many = api.run()
    runs_of(database, many, 40)
    assert takers(4) == [many.id] * 4
    run = api.run()
    assert takers(1) == [run.id]
    assert takers(1) == [many.id]


def test_what_is_taken_at_once_is_spread_over_users(api: Api, database: Database) -> None:
    first, second, third = sorted((api.run() for _ in range(3)), key=lambda run: run.id)
    for run, count in ((first, 40), (second, 40), (third, 1)):
        runs_of(database, run, count, age=1000 if run is first else 100)
    assert takers(5) == [first.id] * 2 + [second.id] * 2 + [third.id]
    database.query("update processing_records set try_time = null, holder = null where id like %s", (f"{second.id}%",))
    runs_of(database, second := api.run(), 40)
    assert takers(2) == [second.id] * 2, "the first has two already"


def test_users_who_have_as_many_runs_as_others_do_not_always_win_by_their_age(api: Api, database: Database) -> None:
    many = api.run()
    runs_of(database, many, 100)
    run = api.run()
    for _ in range(100):
        (held,) = processing_work.take(SYSTEM, 1)
        if held.id == run.id:
            return
        processing_work.end(SYSTEM, held, "failed", reason="x")
    pytest.fail("the other user's runs came first, all of them")


def test_runs_that_nobody_does_any_more_or_that_are_put_off_are_not_held_against_their_user(
    api: Api, database: Database
) -> None:
    unlucky = api.run()
    runs_of(database, unlucky, 8)
    for held in processing_work.take(SYSTEM, 4):
        processing_work.put_off(SYSTEM, held, 10, was_sent=False)
    assert takers(2) == [unlucky.id] * 2
    # Their worker dies.
    database.query("update processing_records set try_time = now() where holder is not null")
    other = api.run()
    runs_of(database, other, 8)
    assert takers(2) == sorted([unlucky.id, other.id])


def test_two_workers_that_take_at_once_take_different_runs(api: Api, database: Database, url: str) -> None:
    many, run = api.run(), api.run()
    runs_of(database, many, 40)
    with closing(Database(url)) as another:
        # It is taking four, and has not committed.
        another.query("begin")
        another.query(
            "select from processing_records where id = any(%s) for update",
            ([run.id, *(f"{many.id}-{n}" for n in range(1, 4))],),
        )
        taken = {held.id for held in processing_work.take(SYSTEM, 4)}
        another.query("rollback")
    assert taken == {f"{many.id}-{n}" for n in range(4, 8)}
    assert takers(1) == [run.id]


def test_workers_that_take_at_once_take_each_run_once(api: Api, database: Database) -> None:
    for _ in range(3):
        runs_of(database, api.run(), 40)
    barrier = threading.Barrier(4)

    def take(_: int) -> list[str]:
        taken: list[str] = []
        barrier.wait()
        for _ in range(40):
            taken += [held.id for held in processing_work.take(SYSTEM, 4)]
        handle.database.drop()
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [id for ids in pool.map(take, range(4)) for id in ids]
    assert len(taken) == len(set(taken)) == 120
