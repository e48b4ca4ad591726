"""What workers do with the runs of the registry. Each statement counts only while the worker still has the run."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple

from service.actor import SYSTEM, Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.processing_records import USAGE, ProcessingRecord
from service.models.row import new_id
from service.operations import processing_records, usages

HOLD_SECONDS = 30.0
"""For how long nobody takes over a run whose worker says nothing."""
LONGEST_OUTPUT = 524_288
LONGEST_RESULTS = 786_432
"""In bytes, as the database has it."""
LEFTOVERS = 20
"""At once."""
LEFTOVER_SECONDS = 300.0
"""Before what could not be deleted or cancelled is tried again; twice as long after each try, up to a day."""
LEFTOVER_TRIES = 20


class Held(NamedTuple):
    """A run that a worker has."""

    id: str
    holder: str
    status: str
    filename: str
    file_id: str
    response_id: str
    was_sent: bool
    """Whether a request to OpenAI was begun."""
    next_event: int
    tries: int
    """How often OpenAI has put it off."""


class Input(NamedTuple):
    """What is sent with the file."""

    body: str
    text: str
    response_format: str | None


class Piece(NamedTuple):
    """Text that is new, and what is kept with it."""

    id: str
    holder: str
    next_event: int
    text: str


class Leftover(NamedTuple):
    kind: str
    id: str
    tries: int
    is_used: bool
    """Whether some record still has the file."""


@transaction
def take(actor: Actor, most: int) -> list[Held]:
    """Take up to so many runs that wait, or that nobody does any more, of those users first who have the fewest now."""
    # Each user with runs is found by a step in the index, and only the oldest runs of each are looked at: one user may
    # have thousands. Twice as many as are taken, since another worker may be taking the first ones at this moment.
    # Between users who have as many runs, chance decides: if it were time, a few users with old runs would always win.
    # What PostgreSQL knows of the table may be from when no run waited. So `held` is in the order of the index that is
    # to be read for it, and `is true` keeps `waiting` from being found by any index but that of the ids.
    # Materialized: PostgreSQL may execute a subquery once for each row that it is joined with, and each time take
    # another row.
    rows = database.execute_sql(
        """
        with recursive owners as (
            (select user_id from processing_records where try_time is not null order by user_id, try_time limit 1)
            union all
            select (
                select r.user_id from processing_records r
                where r.user_id > o.user_id and r.try_time is not null order by r.user_id, r.try_time limit 1
            ) from owners o where o.user_id is not null
        ), held as materialized (
            -- No worker holds a run for longer; what was put off may be further away, and is not looked at.
            select user_id from processing_records
            where try_time > now() and try_time <= now() + make_interval(secs => 2 * %s) and holder is not null
            order by try_time
        ), due as materialized (
            select o.user_id, first.id, first.try_time from owners o cross join lateral (
                select id, try_time from processing_records r
                where r.user_id = o.user_id and r.try_time <= now() order by r.try_time limit 2 * %s
            ) first
        ), chosen as materialized (
            select array(
                select id from due
                left join (select user_id, count(*) as runs from held group by user_id) held using (user_id)
                order by coalesce(runs, 0) + row_number() over (partition by user_id order by try_time), random()
                limit 2 * %s
            ) as ids
        ), waiting as materialized (
            select id from processing_records
            where id = any((select ids from chosen)::text[]) and (try_time <= now()) is true
            order by array_position((select ids from chosen), id) limit %s for update skip locked
        )
        update processing_records r set holder = %s || r.id, try_time = clock_timestamp() + make_interval(secs => %s)
        from waiting
        where r.id = waiting.id
        returning r.id, r.holder, r.status::text, r.filename, r.openai_file_id, r.response_id,
          r.sent_time is not null, r.next_event, r.tries
        """,
        (HOLD_SECONDS, most, most, most, new_id(), HOLD_SECONDS),
    )
    return [Held(*row) for row in rows.fetchall()]


@transaction
def keep(actor: Actor, runs: Collection[Held]) -> set[str]:
    """Say that these runs go on; return the holders of those that this worker still has."""
    rows = database.execute_sql(
        "update processing_records set try_time = clock_timestamp() + make_interval(secs => %s)"
        " where id = any(%s) and holder = any(%s) returning holder",
        (HOLD_SECONDS, [run.id for run in runs], [run.holder for run in runs]),
    )
    return {holder for (holder,) in rows.fetchall()}


@read
def longest_wait(actor: Actor) -> float:
    """Return for how many seconds the run has been due that nobody does for the longest time; 0 if there is none."""
    ((seconds,),) = database.execute_sql(
        "select coalesce(extract(epoch from now() - min(try_time)), 0) from processing_records where try_time <= now()"
    ).fetchall()
    return float(seconds)


@transaction
def begin(actor: Actor, run: Held) -> Input | None:
    """Write down that the request is being sent, and return what is sent; None if the run is another's by now."""
    sent = database.execute_sql(
        "update processing_records set sent_time = clock_timestamp() where (id, holder) = (%s, %s) returning id",
        (
            run.id,
            run.holder,
        ),
    )
    if not sent.rowcount:
        return None
    found = database.execute_sql(
        "select body, input_text, response_format from processing_inputs where record_id = %s", (run.id,)
    ).fetchone()
    return Input(*found)


@transaction
def note_response(actor: Actor, run: Held, response_id: str, next_event: int) -> bool:
    """Keep the id of the response; False if the run is another's by now, or was cancelled: the response is to end."""
    done = database.execute_sql(
        f"update processing_records set response_id = %s, next_event = %s, {_CHANGED} where (id, holder) = (%s, %s)",
        (response_id, next_event, run.id, run.holder),
    )
    if done.rowcount:
        return True
    processing_records.leave("response", response_id)
    return False


@transaction
def append(actor: Actor, pieces: Sequence[Piece]) -> None:
    """Add what is new to the texts of runs."""
    database.execute_sql(
        """
        with piece as (
            select * from unnest(%s::text[], %s::text[], %s::bigint[], %s::text[]) p (id, holder, next_event, text)
        ), kept as (
            update processing_records r set next_event = p.next_event from piece p
            where r.id = p.id and r.holder = p.holder
            returning r.id, r.next_event, p.text
        )
        insert into processing_output (record_id, seq, text) select id, next_event, text from kept
        """,
        tuple(map(list, zip(*pieces, strict=True))),
    )


@transaction
def put_off(actor: Actor, run: Held, seconds: float, *, was_sent: bool) -> None:
    """Have the run taken again after so many seconds; from its beginning, unless OpenAI has it."""
    database.execute_sql(
        "update processing_records set holder = null, tries = tries + 1,"
        " try_time = clock_timestamp() + make_interval(secs => %s),"
        " sent_time = case when %s then sent_time end where (id, holder) = (%s, %s)",
        (seconds, was_sent, run.id, run.holder),
    )


@transaction
def give_back(actor: Actor, run: Held) -> None:
    """Have another worker go on with a run that OpenAI has."""
    database.execute_sql(
        "update processing_records set holder = null, try_time = clock_timestamp() where (id, holder) = (%s, %s)",
        (
            run.id,
            run.holder,
        ),
    )


@transaction
def end(
    actor: Actor,
    run: Held,
    status: str,
    *,
    reason: str = "",
    message: str = "",
    results: str = "",
    output_text: str = "",
    usage: Sequence[int] | None = None,
) -> ProcessingRecord | None:
    """Write down how a run ended and what it used, and forget its pieces; None if it was another's by now."""
    tokens: Sequence[int | None] = usage or [None] * len(USAGE)
    found = database.execute_sql(
        f"""
        update processing_records set
          status = %s, error_reason = %s, error_message = %s, results = %s, output_text = %s,
          {", ".join(f"{name} = %s" for name in USAGE)},
          processing_time = least(clock_timestamp() - sent_time, interval '720 hours'),
          holder = null, try_time = null, {_CHANGED}
        where (id, holder) = (%s, %s)
        returning {ProcessingRecord.columns("processing_records")}
        """,
        (status, reason, message, results, output_text, *tokens, run.id, run.holder),
    ).fetchone()
    if found is None:
        return None
    database.execute_sql("delete from processing_output where record_id = %s", (run.id,))
    if status == "completed":
        database.execute_sql("delete from processing_inputs where record_id = %s", (run.id,))
    record = ProcessingRecord.of(found)
    if usage is not None:
        usages.record_run(SYSTEM, _usage(record))
    return record


def _usage(record: ProcessingRecord) -> usages.Usage:
    tokens = {name: getattr(record, name) for name in USAGE}
    return usages.Usage(
        event_id=f"{record.id}:{record.attempt}",
        duration=record.processing_time or timedelta(),
        template_id=record.template_id,
        template_revision=record.template_revision,
        user_id=record.user_id,
        organization_id=record.organization_id or "",
        model=record.model,
        success=record.status == "completed",
        error_code=record.error_reason,
        **tokens,
    )


@read
def response_format(actor: Actor, run: Held) -> str | None:
    """Return the JSON Schema of the run's answer, if it has one."""
    found = database.execute_sql(
        "select response_format from processing_inputs where record_id = %s", (run.id,)
    ).fetchone()
    return None if found is None else found[0]


@transaction
def leftovers(actor: Actor) -> list[Leftover]:
    """Return some of what is to be deleted or cancelled at OpenAI, which nobody else does for a while."""
    rows = database.execute_sql(
        """
        with due as materialized (
            select kind, id from openai_leftovers where try_time <= now()
            order by try_time limit %s for update skip locked
        )
        update openai_leftovers l set
          tries = l.tries + 1,
          try_time = clock_timestamp() + make_interval(secs => least(%s * 2 ^ l.tries, 86400))
        from due
        where (l.kind, l.id) = (due.kind, due.id)
        returning l.kind::text, l.id, l.tries,
          l.kind = 'file' and exists (
            select from processing_records where openai_file_id = l.id and openai_file_id <> ''
          )
        """,
        (LEFTOVERS, LEFTOVER_SECONDS),
    )
    return [Leftover(*row) for row in rows.fetchall()]


@transaction
def forget_leftover(actor: Actor, leftover: Leftover) -> None:
    """Forget what is done, or what was tried often enough."""
    database.execute_sql("delete from openai_leftovers where (kind, id) = (%s, %s)", (leftover.kind, leftover.id))


_CHANGED = "version = version + 1, update_time = greatest(clock_timestamp(), update_time)"
