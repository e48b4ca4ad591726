"""The log of changes: a row for each, which migrations/0024_change_log.up.sql writes."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple


class Change(NamedTuple):
    """What happened to a resource, and who did it."""

    seq: int
    """Of two changes of one resource, the later one has the greater."""
    transaction_id: int
    time: datetime
    kind: str
    resource_id: str
    """`*` for all of the kind."""
    action: str
    """`create`, `update` or `delete`."""
    organization_id: str | None
    """Where the resource belongs; None for the platform."""
    user_id: str | None
    """The user whom it is about, if it is about one."""
    template_type_id: str | None
    tags: Sequence[str]
    """What it changes for caches, as `service.tags` names it."""
    actor: str
    api_key_id: str | None
    method: str
    request_id: str
    before: str | None
    """The columns that differ, as JSON; all of them of a resource that is deleted."""
    after: str | None


_EXPRESSIONS = {name: f"{{0}}.{name}" for name in Change._fields} | {
    "transaction_id": "{0}.transaction_id::text::bigint",
    "before": "{0}.before::text",
    "after": "{0}.after::text",
}


def columns(alias: str) -> str:
    """Return the select list of a Change, of the table `changes` under an alias."""
    return ", ".join(expression.format(alias) for expression in _EXPRESSIONS.values())
