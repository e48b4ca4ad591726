"""Records of runs, and what callers report of those that they do themselves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, refused_by, transaction
from service.models.processing_records import USAGE, ProcessingRecord
from service.models.templates import Template, View
from service.operations import json_text, organizations, processing_rights, quotas, rights, templates, users
from service.operations.listing import Key, Page, Source

DELETE_AT_ONCE = 100
"""Records in a transaction. Each may have a megabyte."""

_SOURCE = Source(
    keys="processing_records t",
    id="t.id",
    order=("t.create_time", "t.id"),
    descending=True,
    message_size=ProcessingRecord.message_size("t"),
    rows="processing_records t on t.id = page.id",
    select=ProcessingRecord.columns("t"),
    of=ProcessingRecord.of,
    key=lambda record: (record.create_time, record.id),
)


@transaction
def create(
    actor: Actor, *, template_id: str, user_id: str = "", organization_id: str | None = None, said: Mapping[str, Any]
) -> ProcessingRecord:
    """Add the record of a run of a user, or of the caller for an empty one, with what the caller said of it."""
    user_id = place(actor, user_id, organization_id, "record.user_id")
    template = templates.get(actor, template_id, view=View.SUMMARY, revision=said.get("template_revision", 0))
    require_within(template, organization_id)
    return ProcessingRecord.add(template_id=template_id, user=user_id, organization=organization_id, **_columns(said))


def place(actor: Actor, user_id: str, organization_id: str | None, field: str) -> str:
    """Return the id of the user, or of the caller for an empty one, who has room for one more record there."""
    user_id = rights.user(actor, user_id, field)
    rights.write_own(actor, organization_id)
    users.hold(user_id, mode=quotas.owner_lock(actor))
    quotas.require_room(actor, "processing_records", user_id)
    if organization_id is not None:
        organizations.hold_member(organization_id, user_id)
    return user_id


def require_within(template: Template, organization_id: str | None) -> None:
    """Raise for a template of another organization than the record."""
    if template.organization_id not in {None, organization_id}:
        raise errors.FailedPrecondition(
            "TEMPLATE_ORGANIZATION_MISMATCH",
            "the template belongs to another organization than the record",
            {"organization_id": organization_id or ""},
        )


@read
def get(actor: Actor, id: str) -> ProcessingRecord:
    """Return one record."""
    record = ProcessingRecord.fetch_one("where t.id = %s", [id])
    if record is None or not processing_rights.reads(actor, record.user_id, record.organization_id):
        raise errors.not_found("PROCESSING_RECORD", id=id)
    return record


@read
def page(
    actor: Actor,
    *,
    user_id: str = "",
    organization_id: str | None = None,
    template_id: str = "",
    status: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    after: Key | None,
    size: int,
) -> Page[ProcessingRecord]:
    """Return the records of a user, or of the caller for an empty one, newest first.

    In an organization, its ADMINs find the records of all users for an empty one.
    """
    is_of_all = organization_id is not None and processing_rights.reads_all(actor, organization_id)
    if not is_of_all:
        user_id = rights.user(actor, user_id)
    if organization_id is not None:
        organizations.get(actor, organization_id)
    scopes, parameters = rights.scopes(actor)
    filters = {
        "t.organization_id = %s": organization_id,
        "t.user_id = %s": user_id or None,
        "t.template_id = %s": template_id or None,
        "t.status = %s": status,
        "t.create_time >= %s": start,
        "t.create_time < %s": end,
    }
    given = {condition: value for condition, value in filters.items() if value is not None}
    found = _SOURCE.page(
        where=[*given, f"coalesce(t.organization_id, '') in ({scopes})"],
        parameters=[*given.values(), *parameters],
        after=after,
        size=size,
    )
    if not (is_of_all or found.rows):
        users.get(actor, id=user_id)
    return found


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, Any], *, etag: str) -> ProcessingRecord:
    """Write what a caller reports, unless `etag` is given and no longer current."""
    record = lock(actor, id, etag, "caller")
    with refused_by("processing_records_status_goes_forward", lambda: passed(record)):
        return record.change(**_columns(changes))


@transaction
def delete(actor: Actor, id: str, *, etag: str, with_file: bool) -> None:
    """Delete a record, and later its file at OpenAI, unless `etag` is given and no longer current."""
    record = lock(actor, id, etag)
    leave_response(record)
    if with_file:
        if not record.owns_file:
            # Anybody may name a file that is not its own.
            raise errors.field_invalid(("delete_file", "is for files that came by UploadFile"))
        leave("file", record.openai_file_id)
    record.delete_instance()


def delete_some_of(user_id: str, organization_ids: Sequence[str]) -> int:
    """Delete some records of a user or of organizations, and have what is theirs at OpenAI deleted; return how many."""
    ((deleted,),) = database.execute_sql(
        """
        with deleted as (
            delete from processing_records where id = any(array(
                select id from processing_records where user_id = %s or organization_id = any(%s)
                limit %s for update
            ))
            returning openai_file_id, owns_file, response_id, runner, status
        ),
        left_there as (
            insert into openai_leftovers (kind, id)
            select distinct 'file'::openai_leftover_kind, openai_file_id from deleted
            where owns_file and openai_file_id <> ''
            union all
            select 'response', response_id from deleted
            where response_id <> '' and runner = 'registry' and status = 'processing'
            on conflict do nothing
        )
        select count(*) from deleted
        """,
        (user_id, list(organization_ids), DELETE_AT_ONCE),
    ).fetchall()
    return int(deleted)


def lock(actor: Actor, id: str, etag: str, runner: str = "") -> ProcessingRecord:
    """Lock a record that the actor may write, and that is run by the runner, if one is given."""
    record = ProcessingRecord.lock_one(ProcessingRecord.id == id, mode="FOR UPDATE")
    if record is None:
        raise errors.not_found("PROCESSING_RECORD", id=id)
    processing_rights.write(actor, id, record.user_id, record.organization_id)
    record.require_etag(etag)
    if runner not in {"", record.runner}:
        raise errors.FailedPrecondition(
            "PROCESSING_RUNNER_MISMATCH",
            "the registry runs the record" if runner == "caller" else "a caller runs the record",
            {"runner": record.runner.upper()},
        )
    return record


def leave_response(record: ProcessingRecord) -> None:
    """Have what goes on at OpenAI cancelled there."""
    if record.runner == "registry" and record.status == "processing" and record.response_id:
        leave("response", record.response_id)


def passed(record: ProcessingRecord) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(
        "PROCESSING_STATUS_PASSED", "the status of a record only goes forward", {"status": record.status.upper()}
    )


def leave(kind: str, id: str) -> None:
    """Have a file deleted at OpenAI, or a response cancelled."""
    database.execute_sql("insert into openai_leftovers (kind, id) values (%s, %s) on conflict do nothing", (kind, id))


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by column; FIELD_INVALID where the results are no JSON."""
    columns = dict(values)
    if columns.get("results") and not json_text.is_valid(columns["results"]):
        raise errors.field_invalid(("record.results", "must be JSON"))
    if "usage" in columns:
        usage = columns.pop("usage") or {}
        columns |= {name: usage.get(name) for name in USAGE}
    return columns
