"""Runs that the registry does: what callers ask for. Workers do it: see processing_work.py."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import peewee as pw

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import transaction
from service.models.processing_records import USAGE, ProcessingInput, ProcessingRecord
from service.models.row import new_id
from service.operations import processing_records, renderings


@transaction
def add(
    actor: Actor,
    *,
    place: str = "record",
    filename: str,
    user_id: str = "",
    organization_id: str | None = None,
    template_id: str = "",
    template_type: str = "",
    labels: Sequence[str] = (),
    revision: int = 0,
    variables: Mapping[str, str],
    input_text: str = "",
    openai_file_id: str = "",
    hold_seconds: float = 0,
) -> ProcessingRecord:
    """Queue a run on a file at OpenAI: of a template by its id, or of the one that holds for the user and a type.

    The template is rendered now: whatever becomes of it, this is what is sent. Without an id, the file is being
    uploaded, and if nothing is heard of that for so many seconds, it has failed. `place` is where the request names
    the user.
    """
    user_id = processing_records.place(actor, user_id, organization_id, f"{place}.user_id")
    id = new_id()
    metadata = {"processing_record_id": id}
    if template_id:
        made = renderings.render(
            actor, template_id, variables=variables, labels=labels, revision=revision, metadata=metadata
        )
    else:
        made = renderings.resolve(
            actor,
            user_id=user_id,
            organization_id=organization_id,
            template_type=template_type,
            variables=variables,
            labels=labels,
            metadata=metadata,
        )
    template = made.template
    processing_records.require_within(template, organization_id)
    record: ProcessingRecord = (
        ProcessingRecord.insert(
            id=id,
            filename=filename,
            user=user_id,
            organization=organization_id,
            openai_file_id=openai_file_id,
            status="processing" if openai_file_id else "uploading",
            template_id=template.id,
            template_revision=template.revision,
            template_type_revision=made.type_revision,
            model=template.openai_id,
            runner="registry",
            try_time=_in(hold_seconds),
        )
        .returning(ProcessingRecord)
        .execute()[0]
    )
    ProcessingInput.insert(
        record=id, body=made.rendered.body, input_text=input_text, response_format=template.response_format
    ).execute()
    return record


@transaction
def keep_upload(actor: Actor, id: str, hold_seconds: float) -> None:
    """Say that an upload goes on; raise if its record is gone or has ended."""
    _uploading(id).touch(try_time=_in(hold_seconds))


@transaction
def queue(actor: Actor, id: str, openai_file_id: str) -> ProcessingRecord:
    """Queue the run of a file that has been uploaded."""
    processing_records.lock(actor, id, "", "registry")
    return _uploading(id).touch(status="processing", openai_file_id=openai_file_id, owns_file=True, try_time=_in(0))


@transaction
def fail(actor: Actor, id: str, reason: str, message: str) -> None:
    """Write down why an upload failed."""
    _uploading(id).touch(status="failed", error_reason=reason, error_message=message, try_time=None)


@transaction
def drop(actor: Actor, id: str, openai_file_id: str) -> None:
    """Have a file deleted whose run was not queued, and forget its record."""
    ProcessingRecord.delete().where(ProcessingRecord.id == id, ProcessingRecord.status == "uploading").execute()
    processing_records.leave("file", openai_file_id)


def _uploading(id: str) -> ProcessingRecord:
    record = ProcessingRecord.lock_one(ProcessingRecord.id == id)
    if record is None:
        raise errors.not_found("PROCESSING_RECORD", id=id)
    if record.status != "uploading":
        raise processing_records.passed(record)
    return record


def _in(seconds: float) -> pw.Expression:
    """Return the expression for the moment in so many seconds."""
    return pw.fn.clock_timestamp() + timedelta(seconds=seconds)


@transaction
def cancel(actor: Actor, id: str, *, etag: str) -> ProcessingRecord:
    """End a run, unless `etag` is given and no longer current. One that was cancelled before stays as it is."""
    record = processing_records.lock(actor, id, etag, "registry")
    if record.status == "cancelled":
        return record
    if record.status in {"completed", "failed"}:
        raise processing_records.passed(record)
    processing_records.leave_response(record)
    database.execute_sql("delete from processing_output where record_id = %s", (id,))
    return record.touch(status="cancelled", try_time=None, holder=None)


@transaction
def retry(actor: Actor, id: str, *, etag: str) -> ProcessingRecord:
    """Queue a run again that failed or was cancelled, unless `etag` is given and no longer current."""
    record = processing_records.lock(actor, id, etag, "registry")
    if record.status not in {"failed", "cancelled"} or not record.openai_file_id:
        raise errors.FailedPrecondition(
            "PROCESSING_NOT_RETRIABLE",
            "the run has neither failed nor been cancelled, or its file is not at OpenAI",
            {"status": record.status.upper()},
        )
    emptied = dict.fromkeys(("error_reason", "error_message", "results", "output_text", "response_id"), "")
    unset = dict.fromkeys(("processing_time", "sent_time", "holder", *USAGE))
    return record.touch(
        status="processing", attempt=record.attempt + 1, try_time=_in(0), next_event=0, tries=0, **emptied, **unset
    )
