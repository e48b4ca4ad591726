"""What becomes due, once; and what is taken back from workers that are gone."""

from concurrent.futures import ThreadPoolExecutor

from service.actor import SYSTEM
from service.database.handle import database as handle
from service.operations import jobs
from service.operations.jobs import Due
from tests.conftest import Database

HOURLY = Due("tick", 3600, 60)

STATUSES = "select status::text, attempts, worker_id from procrastinate_jobs order by id"


def queued(queue: Database) -> list[tuple[str, str | None]]:
    return queue.query("select task_name, args ->> 'due_time' from procrastinate_jobs order by id")


def test_what_is_due_is_queued_once_by_many(queue: Database) -> None:
    def keep(_: int) -> None:
        try:
            jobs.queue_due(SYSTEM, [HOURLY, Due("other", 86_400, 0)])
        finally:
            handle.drop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(40)))
    assert [name for name, _ in queued(queue)] == ["other", "tick"]
    assert jobs.counts(SYSTEM) == {"waiting": 2, "running": 0, "failed": 0}
    assert (
        queue.query(
            "select due_time at time zone 'UTC' = (args ->> 'due_time')::timestamp, queue_name = task_name,"
            " lock = task_name, extract(minute from due_time)::int in (0, 1), due_time <= now()"
            " from job_schedule join procrastinate_jobs using (task_name)"
        )
        == [(True,) * 5] * 2
    )


def test_what_became_due_while_nobody_was_there_runs_once(queue: Database) -> None:
    jobs.queue_due(SYSTEM, [HOURLY])
    queue.query("update procrastinate_jobs set status = 'succeeded'")
    queue.query("update job_schedule set due_time = due_time - interval '5 hours'")
    for _ in range(3):
        jobs.queue_due(SYSTEM, [HOURLY])
    assert len(queued(queue)) == 2


def test_a_task_that_waits_is_not_queued_again(queue: Database) -> None:
    id, is_new = jobs.queue(SYSTEM, "tick")
    assert is_new
    assert jobs.queue(SYSTEM, "tick") == (id, False)
    jobs.queue_due(SYSTEM, [HOURLY])
    assert queued(queue) == [("tick", None)]
    queue.query("update procrastinate_jobs set status = 'doing'")
    jobs.queue_due(SYSTEM, [HOURLY])
    assert len(queued(queue)) == 2


def test_an_earlier_moment_is_not_due_again(queue: Database) -> None:
    jobs.queue_due(SYSTEM, [Due("tick", 1, 0)])
    queue.query("update procrastinate_jobs set status = 'succeeded'")
    queue.query("update job_schedule set due_time = due_time + interval '1 hour'")
    jobs.queue_due(SYSTEM, [Due("tick", 1, 0)])
    assert len(queued(queue)) == 1


def worker(queue: Database, silent: float = 0) -> int:
    """Add a worker that has been silent for so long, and answer its id."""
    sql = "insert into procrastinate_workers (last_heartbeat) values (now() - make_interval(secs => %s)) returning id"
    return int(queue.query(sql, (silent,))[0][0])


def doing(queue: Database, worker_id: int | None, attempts: int = 0, started: float = 60) -> int:
    """Add a job that a worker began so long ago, and answer its id."""
    ((id,),) = queue.query(
        "insert into procrastinate_jobs (queue_name, task_name, lock, status, attempts, worker_id)"
        " values ('tick', 'tick', nextval('procrastinate_jobs_id_seq')::text, 'doing', %s, %s) returning id",
        (attempts, worker_id),
    )
    queue.query(
        "insert into procrastinate_events (job_id, type, at) values (%s, 'started', now() - make_interval(secs => %s))",
        (id, started),
    )
    return int(id)


def statuses(queue: Database) -> dict[int, tuple[str, int, int | None]]:
    found = queue.query("select id, status::text, attempts, worker_id from procrastinate_jobs")
    return {id: (status, attempts, worker_id) for id, status, attempts, worker_id in found}


def test_what_nobody_runs_is_taken_back_and_all_else_goes_on(queue: Database) -> None:
    ours, alive, dead = worker(queue), worker(queue, 20), worker(queue, 40)
    going_on = {
        doing(queue, ours): (0, ours),
        doing(queue, alive): (0, alive),
        doing(queue, None, started=20): (0, None),
    }
    running = list(going_on)
    # The library deletes the row of a dead worker when another one starts; the job then has none.
    taken = {doing(queue, dead): 1, doing(queue, None): 1, doing(queue, dead, 3): 4, doing(queue, ours): 1}
    over = doing(queue, dead, 4)
    found = jobs.take_back(SYSTEM, ours, running, silent_seconds=30, most=5)
    assert sorted(found) == [*((id, "tick", False) for id in taken), (over, "tick", True)]
    assert statuses(queue) == (
        {id: ("doing", *rest) for id, rest in going_on.items()}
        | {id: ("todo", attempts, None) for id, attempts in taken.items()}
        | {over: ("failed", 5, None)}
    )
    assert jobs.take_back(SYSTEM, ours, running, silent_seconds=30, most=5) == []


def test_a_worker_learns_that_it_was_taken_for_dead(queue: Database) -> None:
    ours = worker(queue, 40)
    assert jobs.workers(SYSTEM) == 1
    assert jobs.beat(SYSTEM, ours)
    assert queue.query("select last_heartbeat > now() - interval '5 s' from procrastinate_workers") == [(True,)]
    queue.query("delete from procrastinate_workers")
    assert not jobs.beat(SYSTEM, ours)
    assert jobs.workers(SYSTEM) == 0


def test_jobs_are_kept_for_a_day_and_those_that_failed_for_two_weeks(queue: Database) -> None:
    kept, gone = [("succeeded", 23), ("failed", 13 * 24), ("doing", 999), ("todo", 999)], [("succeeded", 25)]
    gone += [(status, 15 * 24) for status in ("failed", "aborted", "cancelled")]
    for status, hours in kept + gone:
        id = doing(queue, None)
        queue.query("update procrastinate_jobs set status = %s::procrastinate_job_status where id = %s", (status, id))
        queue.query(
            "update procrastinate_events set at = now() - make_interval(hours => %s) where job_id = %s", (hours, id)
        )
    assert jobs.purge(SYSTEM) == len(gone)
    assert jobs.purge(SYSTEM) == 0
    assert [status for status, _, _ in statuses(queue).values()] == [status for status, _ in kept]
