"""Tasks that leave a row where they begin and where they end, and a process that runs them until it is killed."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg2

from service import logs
from service.config import Settings
from service.database.handle import database
from service.jobs.tasks import Run, Task
from service.jobs.worker import Pace, Worker
from service.variables import Schedule

TABLE = (
    "create table done (task text not null, what text not null, time timestamptz not null default clock_timestamp())"
)

PACE = Pace(keep=0.25, silent=3.0, retry=0.2, tries=3)
"""Of workers in tests."""


def note(run: Run, task: str, what: str) -> int:
    """Leave a row, and answer how many of its kind there are now."""
    connection = psycopg2.connect(run.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("insert into done (task, what) values (%s, %s)", (task, what))
        cursor.execute("select count(*) from done where task = %s and what = %s", (task, what))
        ((count,),) = cursor.fetchall()
    connection.close()
    return int(count)


def ticking(name: str) -> Task:
    """Return a task that takes a moment each second, in which its process may be killed."""

    def tick(run: Run) -> Mapping[str, Any]:
        note(run, name, "begun")
        run.stopped.wait(0.6)
        return {"count": note(run, name, "ended")}

    return Task(name, Schedule.of("1s"), tick)


def stumble(run: Run) -> Mapping[str, Any]:
    """Fail every other time."""
    if note(run, "stumble", "begun") % 2:
        raise LookupError("a secret")
    note(run, "stumble", "ended")
    return {}


TICKING = (*map(ticking, ("tick", "tack", "tock")), Task("stumble", Schedule.of("2s"), stumble))


def live(url: str, pace: Pace) -> None:
    """Run them until the process is killed."""
    logs.configure("json", "error")
    settings = Settings(auth="none", drain_seconds=1)
    database.configure(url)
    Worker(settings, url, TICKING, pace=pace, metrics=None).start()
    while threading.main_thread().is_alive():
        time.sleep(1)
