"""What happened, and who did it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from service.actor import Actor
from service.database.changes import Change, columns
from service.database.handle import database
from service.database.transactions import read
from service.models.row import OVERHEAD_BYTES
from service.operations import rights
from service.operations.listing import Key, Page, Source

KINDS = (
    "api_key",
    "invitation",
    "member",
    "model",
    "organization",
    "processing_record",
    "selection",
    "template",
    "template_tool",
    "template_type",
    "user",
)
"""Of resources whose changes are recorded: those of record_changes in the migrations."""

__all__ = ["KINDS", "Change", "begin_time", "get", "page"]

_TEXTS = ("resource_id", "actor", "method", "request_id", "tags::text", "before::text", "after::text")

_SOURCE = Source(
    keys="changes t",
    id="t.seq",
    order=("t.time", "t.seq"),
    descending=True,
    message_size=" + ".join([*(f"coalesce(octet_length(t.{text}), 0)" for text in _TEXTS), str(OVERHEAD_BYTES)]),
    # Restored rows of another epoch may have the same number.
    rows="changes t on t.seq = page.id and t.time = page.k0",
    select=columns("t"),
    of=Change._make,
    key=lambda change: (change.time, change.seq),
)

# What belongs to an organization that the actor administers, and what is about the actor, each by its index. Templates
# and records of runs stay in their organization when their user leaves.
_OWN = replace(
    _SOURCE,
    keys="""(
        select * from changes where part.is_user and user_id = part.id
          and (organization_id is null or organization_id <> all(part.others))
          and (part.within is null or organization_id = part.within)
          and (
            kind not in ('template', 'processing_record')
            or organization_id is null
            or organization_id = any(part.places)
          )
        union all
        select * from changes where not part.is_user and organization_id = part.id
    ) t""",
)
_PARTS = """
    with place as (
        select organization_id as id, role from organization_members
        where user_id = %s and (%s::text is null or organization_id = %s)
    )
    select false as is_user, id, null::text[] as others, null::text[] as places, null::text as within
    from place where role = 'admin'
    union all
    select true, %s::text, array(select id from place where role = 'admin'), array(select id from place), %s::text
"""


@read
def page(
    actor: Actor,
    *,
    kinds: Sequence[str] = (),
    resource_id: str = "",
    organization_id: str = "",
    by: str = "",
    method: str = "",
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    after: Key | None,
    size: int,
) -> Page[Change]:
    """Return the changes that meet all filters, newest first: from `start_time` on, before `end_time`.

    Empty and None filter nothing. `by` is the name of an actor. Administrators of the platform are shown all, others
    what belongs to organizations that they administer, and what is about themselves.
    """
    audits_all = actor.is_trusted or actor.is_admin
    if organization_id and not audits_all:
        rights.read_organization(actor, organization_id)
    filters: dict[str, object] = {
        # How many there are of a kind differs by far, and the planner knows.
        "t.kind = any(%s)": list(kinds),
        "t.resource_id = %s": resource_id,
        "t.organization_id = %s": organization_id,
        "t.actor = %s": by,
        "t.method = %s": method,
        "t.time >= %s": start_time,
        "t.time < %s": end_time,
    }
    set_ = {condition: value for condition, value in filters.items() if value}
    conditions: dict[str, Any] = {"where": list(set_), "parameters": list(set_.values()), "after": after, "size": size}
    if audits_all:
        return _SOURCE.page(**conditions)
    user, within = actor.user_id, actor.organization_id
    return _OWN.page(**conditions, parts=_PARTS, part_parameters=[user, within, within, user, within])


@read
def get(actor: Actor, seq: int) -> Change | None:
    """Return one change, or None where there is none, or no longer."""
    rights.administer(actor)
    newest = f"select {columns('t')} from changes t where t.seq = %s order by t.time desc limit 1"
    found = database.execute_sql(newest, [seq]).fetchone()
    return None if found is None else Change._make(found)


@read
def begin_time(actor: Actor) -> datetime:
    """Return since when the log has every change."""
    del actor
    ((time,),) = database.execute_sql("select begin_time from registry").fetchall()
    return time  # type: ignore[no-any-return]
