"""What happened, and who did it."""

from collections.abc import Sequence
from datetime import datetime

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
    "selection",
    "template",
    "template_tool",
    "template_type",
    "user",
)
"""Of resources whose changes are recorded: those of record_changes in the migrations."""

_TEXTS = ("resource_id", "actor", "method", "request_id", "tags::text", "before::text", "after::text")

_SOURCE = Source(
    keys="changes t",
    id="t.seq",
    order=("t.time", "t.seq"),
    descending=True,
    message_size=" + ".join([*(f"coalesce(octet_length(t.{text}), 0)" for text in _TEXTS), str(OVERHEAD_BYTES)]),
    rows="changes t on t.seq = page.id",
    select=columns("t"),
    of=Change._make,
    key=lambda change: (change.time, change.seq),
)


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

    Empty and None filter nothing. `by` is the name of an actor.
    """
    rights.administer(actor)
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
    return _SOURCE.page(
        where=list(set_),
        parameters=list(set_.values()),
        after=after,
        size=size,
    )


@read
def get(actor: Actor, seq: int) -> Change | None:
    """Return one change, or None where there is none, or no longer."""
    rights.administer(actor)
    found = database.execute_prepared(f"select {columns('t')} from changes t where t.seq = %s", [seq]).fetchone()
    return None if found is None else Change._make(found)


@read
def since(actor: Actor) -> datetime:
    """Return when the log begins."""
    ((time,),) = database.execute_sql("select create_time from registry").fetchall()
    return time  # type: ignore[no-any-return]
