"""Three workers and one schedule, of which now and then one is killed: what is due completes, once."""

import random
import time
from multiprocessing.context import ForkServerProcess

import pytest

from tests import commands
from tests.conftest import Database, as_service
from tests.e2e.serving import eventually
from tests.jobs.killing import kill
from tests.jobs.ticking import PACE, live
from tests.scale import JOB_SECONDS

WORKERS = 3
LEFT_SECONDS = 60.0
"""The longest that anything may stay `doing` after its worker has died."""

OPEN = "select count(*) from procrastinate_jobs where status in ('todo', 'doing') and id <= %s"


@pytest.mark.soak
def test_each_due_run_completes_once_whoever_is_killed(queue: Database) -> None:
    random_ = random.Random(1)

    def start() -> ForkServerProcess:
        return commands.process(live, as_service(queue.url), PACE._replace(tries=15))

    workers = [start() for _ in range(WORKERS)]
    try:
        eventually(lambda: queue.query("select 1 from done limit 1"), within=LEFT_SECONDS)
        end = time.monotonic() + JOB_SECONDS
        while time.monotonic() < end:
            time.sleep(random_.uniform(0.5, 1.5))
            number = random_.randrange(WORKERS)
            kill(workers[number])
            workers[number] = start()
        ((last,),) = queue.query("select max(id) from procrastinate_jobs")
        eventually(lambda: queue.query(OPEN, (last,)) == [(0,)], within=2 * LEFT_SECONDS)
    finally:
        for process in workers:
            kill(process)
    of_due = queue.query(
        "select count(*), count(distinct (task_name, args ->> 'due_time')),"
        " count(*) filter (where status = 'succeeded'), min(ended), max(ended), max(started), max(seconds)"
        " from procrastinate_jobs j cross join lateral ("
        "   select count(*) filter (where type = 'succeeded') as ended,"
        "   count(*) filter (where type = 'started') as started,"
        "   max(extract(epoch from until - at)) filter (where type = 'started')::float as seconds from ("
        "     select type, at, lead(at) over (order by id) as until from procrastinate_events e where e.job_id = j.id"
        "   ) steps"
        " ) of_job where id <= %s",
        (last,),
    )
    ((count, distinct, succeeded, least, most, starts, longest),) = of_due
    print(f"{count} runs, started up to {starts} times; the longest that was left took {longest:.1f} s")
    assert count == distinct == succeeded
    assert (least, most) == (1, 1)
    assert PACE.silent < longest < LEFT_SECONDS, "a worker should have been killed while it ran something"
