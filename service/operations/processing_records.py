"""Records of runs, and what callers report of those that they do themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service import errors
from service.actor import Actor
from service.database.transactions import read, refused_by, transaction
from service.models.processing_records import USAGE, ProcessingRecord
from service.models.templates import View
from service.operations import json_text, organizations, processing_rights, quotas, rights, templates, users
from service.operations.listing import Key, Page, Source

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
    user_id = rights.user(actor, user_id, "record.user_id")
    rights.write_own(actor, organization_id)
    users.hold(user_id, mode=quotas.owner_lock(actor))
    quotas.require_room(actor, "processing_records", user_id)
    if organization_id is not None:
        organizations.hold_member(organization_id, user_id)
    template = templates.get(actor, template_id, view=View.SUMMARY, revision=said.get("template_revision", 0))
    if template.organization_id not in {None, organization_id}:
        raise errors.FailedPrecondition(
            "TEMPLATE_ORGANIZATION_MISMATCH",
            "the template belongs to another organization than the record",
            {"organization_id": organization_id or ""},
        )
    return ProcessingRecord.add(template_id=template_id, user=user_id, organization=organization_id, **_columns(said))


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
    record = _locked(actor, id, etag)
    with refused_by(
        "processing_records_status_goes_forward",
        lambda: errors.FailedPrecondition(
            "PROCESSING_STATUS_PASSED",
            "the status of a record only goes forward",
            {"status": record.status.upper()},
        ),
    ):
        return record.change(**_columns(changes))


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Delete a record, unless `etag` is given and no longer current."""
    _locked(actor, id, etag).delete_instance()


def _locked(actor: Actor, id: str, etag: str) -> ProcessingRecord:
    record = ProcessingRecord.lock_one(ProcessingRecord.id == id, mode="FOR UPDATE")
    if record is None:
        raise errors.not_found("PROCESSING_RECORD", id=id)
    processing_rights.write(actor, id, record.user_id, record.organization_id)
    record.require_etag(etag)
    return record


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by column; FIELD_INVALID where the results are no JSON."""
    columns = dict(values)
    if columns.get("results") and not json_text.is_valid(columns["results"]):
        raise errors.field_invalid(("record.results", "must be JSON"))
    if "usage" in columns:
        usage = columns.pop("usage") or {}
        columns |= {name: usage.get(name) for name in USAGE}
    return columns
