"""The queue of jobs, past its engine: what becomes due, what dead workers leave, and what has become of each job."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction

BATCH = 1000
KEEP_DAYS = 1
KEEP_FAILED_DAYS = 14
"""For how long jobs are kept after their end: those that succeeded, and all others."""
ALIVE_SECONDS = 60.0
"""Workers say every few seconds that they live."""


# A job's queue is its task, so that no worker takes one that its release does not know; and so is its lock, so that one
# runs at a time.


class Due(NamedTuple):
    """A task, and when it is due."""

    name: str
    every: int
    shift: int
    """As of `variables.Schedule`."""


class Taken(NamedTuple):
    """A job that was taken back."""

    id: int
    task: str
    is_over: bool
    """Whether it was started so often that nobody tries it again."""


class Job(NamedTuple):
    """A job, as it is now."""

    id: int
    task: str
    status: str
    """`todo`, `doing`, `succeeded` or `failed`; what is tried again is `todo`."""
    attempts: int
    """How many have ended."""
    due_time: str | None
    """As text; None where somebody asked for it."""
    time: datetime
    """When it was queued, started, or whatever happened last."""


class Report(NamedTuple):
    """What the last good run of a task did, and when it ended."""

    time: datetime
    fields: Mapping[str, Any]


@transaction
def beat(actor: Actor, worker_id: int) -> bool:
    """Say that a worker lives; False where it has been taken for dead."""
    done = database.execute_sql(
        "update procrastinate_workers set last_heartbeat = clock_timestamp() where id = %s", (worker_id,)
    )
    return bool(done.rowcount)


@transaction
def take_back(
    actor: Actor, worker_id: int, running: Collection[int], *, silent_seconds: float, most: int
) -> Sequence[Taken]:
    """Queue the jobs again that nobody runs, and return them; one that was started that often ends as failed.

    Those are the jobs of workers that are gone or have been silent for so long, and those of this worker that it does
    not run: it could not say how they ended.
    """
    rows = database.execute_sql(
        """
        update procrastinate_jobs set
          status = case when attempts + 1 < %s then 'todo' else 'failed' end::procrastinate_job_status,
          attempts = attempts + 1, abort_requested = false, worker_id = null
        where id in (
            select id from procrastinate_jobs j
            where status = 'doing' and case
              when worker_id = %s then id <> all(%s)
              else not exists (
                select from procrastinate_workers w
                where w.id = j.worker_id and last_heartbeat > clock_timestamp() - make_interval(secs => %s)
              )
            end
            -- It may have been started after this began to look.
            and not exists (
              select from procrastinate_events e
              where e.job_id = j.id and type = 'started' and at > clock_timestamp() - make_interval(secs => %s)
            )
            for update skip locked
        )
        returning id, task_name, status = 'failed'
        """,
        (most, worker_id, list(running), silent_seconds, silent_seconds),
    )
    return [Taken(*row) for row in rows.fetchall()]


@transaction
def queue_due(actor: Actor, tasks: Sequence[Due]) -> None:
    """Queue the tasks that have become due since they were last queued, each once, by the database's clock.

    One that still waits is not queued a second time, and what became due several times meanwhile runs once.
    """
    database.execute_sql(
        """
        with wanted as (
            select name, to_timestamp(floor((extract(epoch from now()) - shift) / every) * every + shift) as due_time
            from unnest(%s::text[], %s::bigint[], %s::bigint[]) as task (name, every, shift)
        ),
        due as (
            insert into job_schedule as s (task_name, due_time)
            select name, due_time from wanted
            -- Mostly nothing is due, and then nothing is written.
            where not exists (select from job_schedule o where o.task_name = name and o.due_time >= wanted.due_time)
            and not exists (select from procrastinate_jobs j where j.task_name = name and status = 'todo')
            order by name
            on conflict (task_name) do update set due_time = excluded.due_time where s.due_time < excluded.due_time
            returning task_name, due_time
        )
        insert into procrastinate_jobs (queue_name, task_name, lock, args)
        select task_name, task_name, task_name, jsonb_build_object('due_time', due_time at time zone 'UTC') from due
        """,
        tuple(map(list, zip(*tasks, strict=True))) or ([], [], []),
    )


@transaction
def queue(actor: Actor, task: str) -> tuple[int, bool]:
    """Queue a task now, unless it waits already; return the job's id, and whether it is a new one."""
    waiting = database.execute_sql(
        "select id from procrastinate_jobs where task_name = %s and status = 'todo' order by id limit 1", (task,)
    ).fetchone()
    if waiting is not None:
        return int(waiting[0]), False
    ((id,),) = database.execute_sql(
        "insert into procrastinate_jobs (queue_name, task_name, lock) values (%s, %s, %s) returning id",
        (task, task, task),
    ).fetchall()
    return int(id), True


@transaction
def report(actor: Actor, task: str, fields: Mapping[str, Any]) -> None:
    """Keep what a run did instead of what the last one did."""
    database.execute_sql(
        "insert into job_reports (task_name, report) values (%s, %s)"
        " on conflict (task_name) do update set time = excluded.time, report = excluded.report",
        (task, json.dumps(fields)),
    )


@read
def reports(actor: Actor) -> Mapping[str, Report]:
    """Return what the last good run of each task did, by the tasks."""
    rows = database.execute_sql("select task_name, time, report from job_reports").fetchall()
    return {task: Report(time, fields) for task, time, fields in rows}


@read
def workers(actor: Actor) -> int:
    """Return how many workers have said within a minute that they live."""
    ((count,),) = database.execute_sql(
        "select count(*) from procrastinate_workers"
        " where last_heartbeat > clock_timestamp() - make_interval(secs => %s)",
        (ALIVE_SECONDS,),
    ).fetchall()
    return int(count)


@read
def newest(actor: Actor, statuses: Sequence[str], limit: int) -> Sequence[Job]:
    """Return the newest jobs of these statuses, the newest first."""
    rows = database.execute_sql(
        """
        select id, task_name, status, attempts, args ->> 'due_time',
          (select max(at) from procrastinate_events e where e.job_id = j.id and at <= clock_timestamp())
        from procrastinate_jobs j where status::text = any(%s) order by id desc limit %s
        """,
        (list(statuses), limit),
    )
    return [Job(*row) for row in rows.fetchall()]


@read
def counts(actor: Actor) -> Mapping[str, int]:
    """Return how many jobs wait, run, and have failed within 14 days."""
    ((waiting, running, failed),) = database.execute_sql(
        """
        select count(*) filter (where status = 'todo'), count(*) filter (where status = 'doing'),
          count(*) filter (where status = 'failed')
        from procrastinate_jobs where status in ('todo', 'doing', 'failed')
        """
    ).fetchall()
    return {"waiting": waiting, "running": running, "failed": failed}


@transaction
def purge(actor: Actor) -> int:
    """Delete up to 1,000 jobs that ended long ago; return how many."""
    deleted = database.execute_sql(
        """
        delete from procrastinate_jobs where id = any(array(
            select id from procrastinate_jobs j
            where status not in ('todo', 'doing') and not exists (
              select from procrastinate_events e where e.job_id = j.id and at > clock_timestamp() - make_interval(
                days => case status when 'succeeded' then %s else %s end
              )
            )
            order by id limit %s
            for update skip locked
        ))
        """,
        (KEEP_DAYS, KEEP_FAILED_DAYS, BATCH),
    )
    return int(deleted.rowcount)
