"""Copies of templates as assistants: what each should be, and is known to be. Only the worker in `holder` writes."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, refused_by, transaction
from service.models.row import new_id
from service.models.templates import Template, View
from service.operations import template_variables
from service.rendering import assistants as rendering

BATCH = 50
"""Templates that are compared in one transaction."""


class Hints(NamedTuple):
    """What has changed: which templates are to be looked at."""

    templates: Collection[str] = ()
    types: Collection[str] = ()
    models: Collection[str] = ()
    is_everything: bool = False


class Held(NamedTuple):
    """A copy that a worker has."""

    template_id: str
    holder: str
    epoch: str
    assistant_id: str | None
    attempt_id: str | None
    attempt_seconds: float
    """Since the attempt was marked."""
    attempted_at: float
    """When that was, in seconds since 1970."""
    tries: int


class Wanted(NamedTuple):
    """What an assistant should say."""

    members: Mapping[str, str]
    digest: str
    known_id: str | None
    """The one that the template came with."""


@transaction
def switch(actor: Actor, *, is_on: bool) -> str | None:
    """Switch the copying on, and return the position that it had come to; or off, and no template has a copy's state.

    What is at the server stays, and is known: it is taken up again with the copying.
    """
    if not is_on:
        database.execute_sql(
            "update assistants set state = 'none', check_time = null, try_time = null, desired = ''"
            " where template_id in (select template_id from assistants"
            "   where state <> 'none' or check_time is not null or try_time is not null"
            "   order by template_id for update)"
        )
        database.execute_sql("update assistant_copying set is_on = false, position = null where is_on")
        return None
    database.execute_sql(
        "insert into assistant_copying (is_on) values (true)"
        # Who starts may have been given another server to ask.
        " on conflict (id) do update set is_on = true, quiet_time = null"
    )
    ((position,),) = database.execute_sql("select position from assistant_copying").fetchall()
    return None if position is None else str(position)


@transaction
def note(actor: Actor, hints: Hints, *, before: str | None, after: str) -> bool:
    """Have what has changed compared, and go on from another position; False where somebody has done so already."""
    moved = database.execute_sql(
        "update assistant_copying set position = %s where is_on and position is not distinct from %s", (after, before)
    )
    if not moved.rowcount:
        return False
    if hints.is_everything:
        _forget_others()
        database.execute_sql(f"insert into assistants (template_id, epoch, check_time) {_NEW} from templates {_CHECK}")
        database.execute_sql(
            "update assistants set check_time = coalesce(check_time, clock_timestamp()) where template_id in"
            " (select template_id from assistants order by template_id for update)"
        )
        return True
    lists = [list(hints.templates), list(hints.types), list(hints.models)]
    if any(lists):
        database.execute_sql(
            f"""
            insert into assistants (template_id, epoch, check_time) {_NEW} from (
                select id from templates where id = any(%s)
                union select id from templates where template_type_id = any(%s)
                union select id from templates where model_id = any(%s)
            ) t {_CHECK}
            """,
            lists,
        )
        database.execute_sql(
            "update assistants set check_time = coalesce(check_time, clock_timestamp()) where template_id in"
            " (select template_id from assistants where template_id = any(%s) order by template_id for update)",
            lists[:1],
        )
    return True


_NEW = "select id, (select epoch from registry), clock_timestamp()"
_CHECK = """
    order by id
    on conflict (template_id) do update set check_time = coalesce(assistants.check_time, excluded.check_time)
"""


def _forget_others() -> None:
    """Leave to another registry what it has made."""
    database.execute_sql(
        "update assistants set epoch = r.epoch, assistant_id = null, attempt_id = null, observed = ''"
        " from registry r where assistants.epoch <> r.epoch"
    )


@transaction
def compare(actor: Actor) -> int:
    """Look at some of the templates that have changed, the oldest change first; return how many."""
    rows = database.execute_sql(
        "select template_id from assistants where check_time <= clock_timestamp()"
        " order by check_time, template_id limit %s for update skip locked",
        (BATCH,),
    ).fetchall()
    ids = [id for (id,) in rows]
    if not ids:
        return 0
    wanted = _wanted(ids)
    digests = [found.digest if (found := wanted.get(id)) is not None else "" for id in ids]
    database.execute_sql(
        """
        update assistants a set
          check_time = null,
          desired = w.desired,
          state = case
            when w.desired = '' then 'none'
            when w.desired = a.observed and a.assistant_id is not null then 'synced'
            when w.desired = a.desired and a.state = 'failed' and a.try_time > clock_timestamp() then 'failed'
            else 'pending'
          end::assistant_state,
          try_time = case
            when w.is_over then null
            when w.desired <> '' and w.desired = a.observed and a.assistant_id is not null then null
            when w.desired = a.desired then coalesce(a.try_time, a.check_time)
            -- The copies are made in the order in which their templates changed.
            else least(a.try_time, a.check_time)
          end,
          -- Who is about to create one may not any more.
          holder = case when not w.is_over then a.holder end,
          -- What has changed is not put off.
          hold_time = case when not w.is_over and (a.holder is not null or w.desired = a.desired) then a.hold_time end,
          tries = case when w.desired = a.desired then a.tries else 0 end
        from (
            select template_id, wanted.desired,
              wanted.desired = '' and assistant_id is null and attempt_id is null as is_over
            from unnest(%s::text[], %s::text[]) wanted (template_id, desired) join assistants using (template_id)
        ) w
        where a.template_id = w.template_id
        """,
        (ids, digests),
    )
    _drop_gone(ids)
    return len(ids)


def _drop_gone(ids: Sequence[str]) -> None:
    """Forget templates that are gone and have left nothing."""
    database.execute_sql(
        "delete from assistants a where template_id = any(%s) and assistant_id is null and attempt_id is null"
        " and check_time is null and not exists (select from templates where id = a.template_id)",
        (list(ids),),
    )


@transaction
def take(actor: Actor, seconds: float) -> Held | None:
    """Take the copy that has waited longest, for so many seconds. What its assistant says is not known from then on.

    None where there is nothing to do, or where the server is left alone.
    """
    # Materialized: PostgreSQL may execute a subquery once for each row that it is joined with, and each time take
    # another row.
    found = database.execute_sql(
        """
        with waiting as materialized (
            select template_id from assistants
            where try_time <= clock_timestamp() and (hold_time is null or hold_time <= clock_timestamp())
              and epoch = (select epoch from registry)
              and not exists (select from assistant_copying where quiet_time > clock_timestamp())
            order by try_time, template_id limit 1 for update skip locked
        )
        update assistants a set
          holder = %s, hold_time = clock_timestamp() + make_interval(secs => %s), observed = ''
        from waiting
        where a.template_id = waiting.template_id
        returning a.template_id, a.holder, a.epoch::text, a.assistant_id, a.attempt_id,
          extract(epoch from clock_timestamp() - coalesce(a.attempt_time, clock_timestamp()))::float,
          extract(epoch from coalesce(a.attempt_time, clock_timestamp()))::float, a.tries
        """,
        (new_id(), seconds),
    ).fetchone()
    return None if found is None else Held(*found)


@read
def wanted(actor: Actor, template_id: str) -> Wanted | None:
    """Return what the assistant of a template should say now; None where there should be none."""
    return _wanted([template_id]).get(template_id)


def _wanted(ids: Sequence[str]) -> dict[str, Wanted]:
    known = dict(
        database.execute_sql("select id, assistant_id from templates where id = any(%s)", (list(ids),)).fetchall()
    )
    templates = Template.in_view(View.RENDERABLE, "where t.id = any(%s)", [list(ids)])
    return {template.id: found for template in templates if (found := _says(template, known.get(template.id)))}


def _says(template: Template, known_id: str | None) -> Wanted | None:
    if template.renderable is None:
        raise TypeError("a template is rendered from its RENDERABLE view")
    try:
        instructions, _ = template_variables.fill(template.instructions, template.variables, {})
    except errors.InvalidArgument:
        # A copy cannot fill in what its caller has to, nor have more than the longest instructions.
        return None
    members = rendering.render(
        name=template.title,
        description=template.description,
        instructions=instructions,
        model=template.openai_id,
        temperature=template.temperature,
        top_p=template.top_p,
        reasoning_effort=template.reasoning_effort,
        response_format=template.response_format,
        tools=[tool for tool in template.renderable.tools if tool.name not in template.disabled_tools],
    )
    digest = sha256(rendering.joined(members, {}, with_null=True).encode()).hexdigest()
    return Wanted(members, digest, known_id)


@transaction
def mark(actor: Actor, held: Held, attempt_id: str) -> bool:
    """Write down that an assistant is about to be created; False where the copy is another's by now."""
    done = database.execute_sql(
        "update assistants set attempt_id = %s, attempt_time = clock_timestamp()"
        " where (template_id, holder) = (%s, %s) and assistant_id is null",
        (attempt_id, held.template_id, held.holder),
    )
    return bool(done.rowcount)


@transaction
def unmark(actor: Actor, held: Held) -> None:
    """Write down that no assistant was created."""
    database.execute_sql(
        "update assistants set attempt_id = null, attempt_time = null"
        " where (template_id, holder) = (%s, %s) and assistant_id is null",
        (held.template_id, held.holder),
    )


@transaction
def adopt(actor: Actor, held: Held, assistant_id: str, attempt_id: str) -> bool:
    """Take an assistant for that of a template; False where it is another's, or is about to be deleted."""
    database.execute_sql("select pg_advisory_xact_lock(hashtext('assistants'))")
    with refused_by("assistants_by_assistant_id", lambda: errors.Aborted("CONFLICT", "another template has it")):
        done = database.execute_sql(
            "update assistants set assistant_id = %s, attempt_id = %s, observed = ''"
            " where (template_id, holder) = (%s, %s) and assistant_id is null"
            " and not exists (select from assistant_strays s where s.assistant_id = %s and is_doomed)",
            (assistant_id, attempt_id, held.template_id, held.holder, assistant_id),
        )
    return bool(done.rowcount)


@transaction
def wrote(actor: Actor, held: Held, digest: str) -> None:
    """Write down what the assistant says by now, and let go of it."""
    database.execute_sql(
        """
        update assistants set
          observed = %s, holder = null, hold_time = null, tries = 0, error_code = '',
          state = case when desired = %s then 'synced' else state end,
          try_time = case when desired = %s then null else clock_timestamp() end
        where (template_id, holder) = (%s, %s) and assistant_id is not null
        """,
        (digest, digest, digest, held.template_id, held.holder),
    )


@transaction
def removed(actor: Actor, held: Held) -> None:
    """Write down that there is no assistant any more, and let go of it."""
    database.execute_sql(
        """
        update assistants set
          assistant_id = null, attempt_id = null, attempt_time = null, observed = '',
          holder = null, hold_time = null, tries = 0, error_code = '',
          try_time = case when desired <> '' then clock_timestamp() end
        where (template_id, holder) = (%s, %s)
        """,
        (held.template_id, held.holder),
    )
    _drop_gone([held.template_id])


@transaction
def put_off(actor: Actor, held: Held, seconds: float, code: str) -> None:
    """Let go of a copy, which keeps its place, and is tried again after so many seconds."""
    database.execute_sql(
        "update assistants set holder = null, hold_time = clock_timestamp() + make_interval(secs => %s),"
        " tries = tries + 1, error_code = %s where (template_id, holder) = (%s, %s)",
        (seconds, code, held.template_id, held.holder),
    )


@transaction
def leave_alone(actor: Actor, seconds: float) -> None:
    """Have no worker ask the server for so many seconds, or for as long as it was already to be left alone."""
    database.execute_sql(
        "update assistant_copying"
        " set quiet_time = greatest(quiet_time, clock_timestamp() + make_interval(secs => %s)) where is_on",
        (seconds,),
    )


@transaction
def fail(actor: Actor, held: Held, seconds: float, code: str) -> None:
    """Let go of a copy that the server refuses. It is tried again when its template changes, or after that time."""
    database.execute_sql(
        "update assistants set holder = null, hold_time = null, tries = tries + 1, error_code = %s,"
        " state = case when desired = '' then state else 'failed' end,"
        " try_time = clock_timestamp() + make_interval(secs => %s) where (template_id, holder) = (%s, %s)",
        (code, seconds, held.template_id, held.holder),
    )
