"""Records of runs: what callers report, in which order, where and for how long."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from omniflo.templates.v1.change_service_pb2 import ListChangesRequest
from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingStatus
from omniflo.templates.v1.processing_service_pb2 import (
    GetProcessingRecordRequest,
    ListProcessingRecordsRequest,
    UpdateProcessingRecordRequest,
)
from omniflo.templates.v1.template_service_pb2 import DeleteTemplateRequest
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, ListUsersRequest
from service.actor import SYSTEM
from service.operations import maintenance
from tests.conftest import Api, Callers, Database, fails

STATUSES = ["UPLOADING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"]
LAST = ["COMPLETED", "FAILED", "CANCELLED"]
CANARY = "canary-of-a-user"


def status(name: str) -> ProcessingStatus.ValueType:
    return ProcessingStatus.Value(f"PROCESSING_STATUS_{name}")


def update(api: Api, id: str, **fields: object) -> ProcessingRecord:
    body = ProcessingRecord(id=id, **fields)  # type: ignore[arg-type]
    return api.processing.UpdateProcessingRecord(UpdateProcessingRecordRequest(record=body))


def listed(api: Api, **filters: object) -> list[str]:
    request = ListProcessingRecordsRequest(**filters)  # type: ignore[arg-type]
    return [record.id for record in api.processing.ListProcessingRecords(request).records]


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_a_status_only_goes_forward(api: Api, database: Database, before: str, after: str) -> None:
    record = api.record(status=status(before))
    is_forward = before == after or (before not in LAST and STATUSES.index(before) < STATUSES.index(after))
    sql = f"update processing_records set status = '{after.lower()}' where id = '{record.id}'"
    if is_forward:
        found = update(api, record.id, status=status(after))
        assert (found.status, found.HasField("complete_time")) == (status(after), after in LAST)
        database.query(sql)
        return
    failure = fails(update, api, record.id, status=status(after), output_text="Late.")
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "PROCESSING_STATUS_PASSED")
    assert failure.metadata == {"status": before}
    with pytest.raises(Exception, match="goes forward only"):
        database.query(sql)
    assert api.processing.GetProcessingRecord(GetProcessingRecordRequest(id=record.id)) == record


def test_who_runs_a_record_stays_and_does_it_also_by_sql(api: Api, database: Database) -> None:
    api.record()
    with pytest.raises(Exception, match="the runner of a record stays"):
        database.query("update processing_records set runner = 'registry'")
    with pytest.raises(Exception, match="the registry does not run what a caller runs"):
        database.query("update processing_records set try_time = now()")


def test_what_was_made_of_a_file_can_be_written_after_the_end(api: Api) -> None:
    record = update(api, api.record().id, status=status("COMPLETED"))
    found = update(api, record.id, results='{"total": 17}')
    assert (found.results, found.complete_time) == ('{"total": 17}', record.complete_time)


@pytest.mark.parametrize("results", ["{", "NaN", "[1,]", "[" * 100_000, "nothing"])
def test_results_are_json(api: Api, results: str) -> None:
    record = api.record()
    failure = fails(update, api, record.id, results=results)
    assert failure.violations == {"record.results": "must be JSON"}
    assert fails(api.record, results=results).violations == {"record.results": "must be JSON"}


@pytest.mark.parametrize("results", ["9" * 5000, "1e999", '"\\ud800"', " null "])
def test_whatever_is_json_is_kept_as_it_was_sent(api: Api, results: str) -> None:
    assert update(api, api.record().id, results=results).results == results


def test_a_mask_takes_back_what_was_reported(api: Api) -> None:
    record = update(api, api.record().id, results="1", usage={"input_tokens": 5})
    assert record.usage.input_tokens == 5
    request = UpdateProcessingRecordRequest(
        record=ProcessingRecord(id=record.id), update_mask=FieldMask(paths=["results", "usage"])
    )
    found = api.processing.UpdateProcessingRecord(request)
    assert (found.results, found.HasField("usage")) == ("", False)


def test_a_record_outlives_its_template_and_not_its_user(api: Api) -> None:
    template, user = api.template(), api.user()
    record = api.record(template_id=template.id, template_revision=1, user_id=user.id)
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    request = GetProcessingRecordRequest(id=record.id)
    assert api.processing.GetProcessingRecord(request) == record
    assert listed(api, user_id=user.id, template_id=template.id) == [record.id]
    api.users.DeleteUser(DeleteUserRequest(id=user.id))
    assert fails(api.processing.GetProcessingRecord, request).reason == "PROCESSING_RECORD_NOT_FOUND"


def test_a_record_is_of_a_revision_that_there_is_and_of_a_template_within_reach(api: Api) -> None:
    failure = fails(api.record, template_revision=2)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_REVISION_NOT_FOUND")
    user = api.user()
    house = api.organization(user)
    template = api.template(organization_id=house.id)
    assert fails(api.record, template_id=template.id, user_id=user.id).reason == "TEMPLATE_ORGANIZATION_MISMATCH"
    assert api.record(template_id=template.id, user_id=user.id, organization_id=house.id).organization_id == house.id
    assert fails(api.record, organization_id=house.id).reason == "ORGANIZATION_NOT_FOUND"


def test_a_list_has_what_every_filter_lets_through(api: Api) -> None:
    user, template = api.user(), api.template()
    house = api.organization(user)
    wide = api.record(user_id=user.id, template_id=template.id, status=status("FAILED"))
    inside = api.record(user_id=user.id, organization_id=house.id)
    api.record()
    assert listed(api, user_id=user.id) == [inside.id, wide.id]
    assert listed(api, user_id=user.id, organization_id=house.id) == [inside.id]
    assert listed(api, user_id=user.id, template_id=template.id) == [wide.id]
    assert listed(api, user_id=user.id, status=status("FAILED")) == [wide.id]
    assert listed(api, user_id=user.id, status=status("CANCELLED")) == []
    assert listed(api, user_id=user.id, start_time=inside.create_time) == [inside.id]
    assert listed(api, user_id=user.id, end_time=inside.create_time) == [wide.id]


def test_an_admin_finds_the_records_of_all_and_a_member_its_own(api: Api, callers: Callers) -> None:
    programs = {name: callers.user(f"user_{name}") for name in ("admin", "member")}
    users: dict[str, User] = {
        name: program.users.ListUsers(ListUsersRequest()).users[0] for name, program in programs.items()
    }
    house = api.organization(users["admin"])
    api.member(house, users["member"])
    ids = {name: api.record(user_id=user.id, organization_id=house.id).id for name, user in users.items()}
    api.record(user_id=users["member"].id)
    assert listed(programs["admin"], organization_id=house.id) == [ids["member"], ids["admin"]]
    assert listed(programs["admin"], organization_id=house.id, user_id=users["member"].id) == [ids["member"]]
    assert listed(programs["admin"], organization_id=house.id, user_id="nobody") == []
    assert listed(programs["member"], organization_id=house.id) == [ids["member"]]
    assert update(programs["admin"], ids["member"], status=status("CANCELLED")).user_id == users["member"].id


def test_the_log_has_that_a_record_came_was_cancelled_and_went_and_nothing_of_its_file(
    api: Api, database: Database
) -> None:
    text = {
        "filename": CANARY,
        "error_message": CANARY,
        "error_reason": CANARY,
        "results": f'"{CANARY}"',
        "output_text": CANARY,
    }
    record = api.record(**text)
    for name in ("PROCESSING", "CANCELLED"):
        update(api, record.id, status=status(name), output_text=f"{CANARY} {name}")
    update(api, record.id, results='"late"')
    database.query("delete from processing_records")
    found = database.query(
        "select action, before::text, after::text from changes where kind = 'processing_record' order by seq"
    )
    assert [action for action, *_ in found] == ["create", "update", "delete"]
    assert CANARY not in str(found)
    told = api.changes.ListChanges(ListChangesRequest(resource_id=record.id)).changes
    assert len(told) == 3


def test_a_record_is_purged_when_its_days_are_over(api: Api, database: Database) -> None:
    old, young = api.record(), api.record()
    database.query("update processing_records set create_time = now() - interval '8 days' where id = %s", (old.id,))
    database.query("update processing_records set create_time = now() - interval '6 days' where id = %s", (young.id,))
    assert maintenance.purge_processing_records(SYSTEM, 7) == 1
    assert database.query("select id from processing_records") == [(young.id,)]


@pytest.mark.parametrize(("days", "left"), [(8, [("file-1",)]), (31, [])])
def test_the_file_of_a_record_that_is_purged_is_deleted_unless_openai_has_done_so(
    api: Api, database: Database, days: int, left: list[tuple[str]]
) -> None:
    ids = [api.record().id for _ in range(2)]
    for id, file, owns in zip(ids, ("file-1", "file-2"), (True, False), strict=True):
        database.query(
            "update processing_records set openai_file_id = %s, owns_file = %s,"
            " create_time = now() - make_interval(days => %s) where id = %s",
            (file, owns, days, id),
        )
    assert maintenance.purge_processing_records(SYSTEM, 7) == 2
    assert database.query("select id from openai_leftovers") == left
