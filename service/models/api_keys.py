"""API keys. A row has the digest of a secret, never the secret."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import peewee as pw

from service.database.handle import database
from service.models.row import Choice, Moment, Text, Versioned
from service.models.users import User

MAX_GENERATIONS = 8
"""How many keys there may be from one that a session or a service made, down to one that makes no more."""


class Scope(Choice):
    field_type = "api_key_scope"


class ApiKey(Versioned):
    user = pw.ForeignKeyField(User, lazy_load=False, on_delete="CASCADE")
    organization_id = Text(null=True)
    """Refers, together with the user, to a member."""
    name = pw.TextField()
    scope = Scope()
    """`read` or `write`."""
    digest = pw.BlobField()
    """The SHA-256 of the secret."""
    previous_digest = pw.BlobField(null=True)
    previous_expire_time = Moment(null=True)
    expire_time = Moment(null=True)
    last_used_time = Moment(null=True)
    revoke_time = Moment(null=True)
    parent = pw.ForeignKeyField("self", lazy_load=False, null=True, on_delete="CASCADE")
    """The key that it was made with, if it was."""

    class Meta:
        table_name = "api_keys"

    user_id: str
    parent_id: str | None


class Line(NamedTuple):
    """A key together with those above it: its parent, that one's parent, and so on."""

    ids: Sequence[str]
    expire_time: datetime | None
    """When the first of them expires; None for never."""
    is_over: bool
    """Whether one of them was revoked or has expired."""


LINE = """
    with recursive line as (
        select id, parent_id, expire_time, revoke_time from api_keys where id = %s
        union
        select above.id, above.parent_id, above.expire_time, above.revoke_time
        from api_keys above join line on above.id = line.parent_id
    )
    select
      array_agg(id) as ids,
      min(expire_time) as expire_time,
      coalesce(bool_or(revoke_time is not null or coalesce(expire_time <= clock_timestamp(), false)), true) as is_over
    from line
"""
"""The query for the Line of an id. It is over for an id that no key has."""


def line(id: str) -> Line:
    """Return a key with those above it, as they are now."""
    ids, expire_time, is_over = database.execute_prepared(LINE, [id]).fetchone()
    return Line(ids or (), expire_time, is_over)
