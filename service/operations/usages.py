"""What templates and models are used for, as it is recorded: each usage once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from typing import NamedTuple

import orjson

from service import errors
from service.actor import SYSTEM, Actor
from service.database.handle import database
from service.database.transactions import transaction
from service.operations import quotas, rights, usage_rights, users

MOST_AHEAD = timedelta(minutes=10)
"""How far ahead of the database's clock a usage may be."""
KEEP_EVENT_HOURS = 48

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Usage(NamedTuple):
    """One request to a model. Empty texts and 0 are unknown, or none."""

    event_id: str
    """Names it among those of the caller."""
    duration: timedelta
    template_id: str = ""
    template_revision: int = 0
    user_id: str = ""
    organization_id: str = ""
    model: str = ""
    """As OpenAI names it."""
    time: datetime | None = None
    """None is now."""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    token_count: int = 0
    """0 is the sum of input and output."""
    success: bool = True
    error_code: str = ""


class Recorded(NamedTuple):
    recorded: int
    duplicates: int


class _Now:
    """What holds in this process."""

    days = 60


def configure(days: int) -> None:
    """Set for how many days usages are kept."""
    _Now.days = days


def days() -> int:
    return _Now.days


# Of few texts, so that each is planned once. Calls with the same events wait for each other in the order of the events.
# Whoever is deleted meanwhile waits for the end of this, and is forgotten then.
_INSERT = """
    with {readable}sent as materialized (
        select distinct on (event_id) *
        from rows from (json_to_recordset(%s::text::json) as (
            event_id text, template_id text, template_revision bigint, user_id text, organization_id text, model text,
            time bigint, duration bigint, input_tokens bigint, cached_tokens bigint, output_tokens bigint,
            reasoning_tokens bigint, token_count bigint, success boolean, error_code text
        )) with ordinality
        order by event_id, ordinality
    ),
    fresh as (
        insert into usage_events (caller, event_id) select %s::bytea, event_id from sent order by event_id
        on conflict do nothing returning event_id
    ),
    known as materialized (
        select id from users where id in (select user_id from sent) order by id for key share
    ),
    named as materialized (
        select t.id, o.name from templates t join template_types o on o.id = t.template_type_id
        where t.id in (select template_id from sent){named}
    )
    insert into usage_arrivals (
        time, template_id, template_revision, template_type, model, user_id, organization_id, duration, input_tokens,
        cached_tokens, output_tokens, reasoning_tokens, token_count, success, error_code
    )
    select
        coalesce('epoch'::timestamptz + sent.time * interval '1 microsecond', clock_timestamp()),
        sent.template_id, sent.template_revision,
        coalesce(
            named.name,
            (
                select says ->> 'template_type' from template_revisions r
                where r.template_id = sent.template_id and r.revision = greatest(sent.template_revision, 1){deleted}
            ),
            ''
        ),
        sent.model, coalesce(known.id, ''), sent.organization_id, sent.duration, sent.input_tokens, sent.cached_tokens,
        sent.output_tokens, sent.reasoning_tokens,
        case sent.token_count when 0 then sent.input_tokens + sent.output_tokens else sent.token_count end,
        sent.success, sent.error_code
    from fresh
    join sent on sent.event_id = fresh.event_id
    left join known on known.id = sent.user_id
    left join named on named.id = sent.template_id
"""
_NAMED = " and t.scope in (select scope from readable)"
# What a deleted template was of, its revisions do not say, and the log does.
_DELETED = """
                    and not exists (select from templates t where t.id = sent.template_id)
                    and (
                        select coalesce(c.organization_id, '') from changes c
                        where c.resource_id = sent.template_id and c.kind = 'template' and c.action = 'delete'
                        order by c.time desc, c.seq desc limit 1
                    ) in (select scope from readable)"""


@transaction
def record(actor: Actor, usages: Sequence[Usage]) -> Recorded:
    """Record usages whose events the actor has not recorded before. An empty user is the one who calls."""
    usages = [usage if usage.user_id else usage._replace(user_id=actor.user_id or "") for usage in usages]
    # Nobody gets new room by being deleted and coming back.
    caller = _digest(actor.lasting_name)
    scopes = None
    if not usage_rights.records_for_anybody(actor):
        for user_id, organization_id in sorted({(usage.user_id, usage.organization_id) for usage in usages}):
            usage_rights.record_own(actor, user_id, organization_id or None)
        users.hold(actor.user_id or "", mode=quotas.owner_lock(actor))
        quotas.require_room(actor, "usages", caller, more=_new(caller, usages))
        scopes = rights.scopes(actor)
    _require_times(usages)
    return _insert(caller, usages, scopes)


@transaction
def record_run(actor: Actor, usage: Usage) -> bool:
    """Record what a run of the registry used, in the transaction of the run; return whether it was not recorded yet.

    Its event is the run and the attempt.
    """
    return bool(_insert(_digest(SYSTEM.name), [usage]).recorded)


def _new(caller: bytes, usages: Sequence[Usage]) -> int:
    """Return how many of the events are not recorded yet: a call that is sent again needs no more room."""
    (found,) = database.execute_prepared(
        "select count(*) from (select distinct unnest(%s::text[]) as event_id) sent"
        " where not exists (select from usage_events e where (e.caller, e.event_id) = (%s::bytea, sent.event_id))",
        [[usage.event_id for usage in usages], caller],
    ).fetchone()
    return int(found)


def _insert(caller: bytes, usages: Sequence[Usage], scopes: tuple[str, list[str]] | None = None) -> Recorded:
    """Insert what is new. Only templates of the scopes, a query and its parameters, tell their types; None is all."""
    sent = orjson.dumps([_columns(usage) for usage in usages]).decode()
    query, parameters = scopes or (None, [])
    inserted: int = database.execute_prepared(_insertion(query), [*parameters, sent, caller]).rowcount
    return Recorded(inserted, len(usages) - inserted)


@cache
def _insertion(scopes: str | None) -> str:
    if scopes is None:
        return _INSERT.format(readable="", named="", deleted="")
    readable = f"readable (scope) as materialized ({scopes}),\n    "
    return _INSERT.format(readable=readable, named=_NAMED, deleted=_DELETED)


def _columns(usage: Usage) -> dict[str, object]:
    time = None if usage.time is None else (usage.time - _EPOCH) // _MICROSECOND
    return usage._asdict() | {"time": time, "duration": usage.duration // _MICROSECOND}


def _require_times(usages: Sequence[Usage]) -> None:
    """Raise for what is not within the days of which single usages are kept."""
    times = [usage.time for usage in usages if usage.time is not None]
    if not times:
        return
    ((now,),) = database.execute_sql("select clock_timestamp()").fetchall()
    earliest, latest = now - timedelta(days=_Now.days), now + MOST_AHEAD
    if min(times) >= earliest and max(times) <= latest:
        return
    raise errors.field_invalid(
        *(
            (
                f"usages[{index}].time",
                f"must be within the last {_Now.days} days, and at most 10 minutes ahead",
            )
            for index, usage in enumerate(usages)
            if usage.time is not None and not earliest <= usage.time <= latest
        )
    )


def _digest(caller: str) -> bytes:
    return blake2b(caller.encode(), digest_size=16).digest()
