"""A worker in this process: what it does with tasks that succeed, fail, hang and last, and with what happens to it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from service import job_metrics
from service.actor import SYSTEM, Actor
from service.config import Settings
from service.database.handle import database as handle
from service.database.transactions import transaction
from service.deadline import time_limit
from service.jobs.tasks import Run, Task
from service.jobs.worker import Pace, Worker
from service.operations import jobs
from service.server.upkeep import missing
from service.variables import Schedule
from tests.conftest import Database, as_service
from tests.e2e.serving import eventually
from tests.jobs.ticking import PACE, note

SECONDS = 120.0
DAILY = Schedule.of("00:00")

Lines = list[MutableMapping[str, Any]]


@contextmanager
def working(url: str, *tasks: Task, pace: Pace = PACE, drain: float = 5, **options: Any) -> Iterator[Worker]:
    """Run these tasks in this process for the time of the block."""
    worker = Worker(Settings(auth="none", drain_seconds=drain), url, tasks, pace=pace, metrics=options.get("metrics"))
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def service_url(queue: Database) -> str:
    return as_service(queue.url)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged of jobs."""
    with capture_logs() as captured:
        yield captured


def of(lines: Lines, event: str = "job") -> Lines:
    return [line for line in lines if line["event"] == event]


def done(queue: Database) -> list[str]:
    return [what for (what,) in queue.query("select what from done order by time")]


def statuses(queue: Database) -> list[str]:
    return [status for (status,) in queue.query("select status::text from procrastinate_jobs order by id")]


def ending(run: Run) -> Mapping[str, Any]:
    return {"count": note(run, "task", "ended")}


def test_what_is_due_runs_and_leaves_one_line(queue: Database, service_url: str, lines: Lines) -> None:
    with working(service_url, Task("task", DAILY, ending)):
        eventually(lambda: statuses(queue) == ["succeeded"], within=SECONDS)
    (line,) = of(lines)
    assert (line["task"], line["result"], line["attempt"], line["count"]) == ("task", "succeeded", 1, 1)
    assert line["due_time"].endswith("T00:00:00")
    assert queue.query("select count(*) from procrastinate_workers") == [(0,)]
    assert done(queue) == ["ended"]
    assert {task: report.fields for task, report in jobs.reports(SYSTEM).items()} == {"task": {"count": 1}}


def test_what_somebody_asks_for_runs_at_once_and_what_is_off_does_not(queue: Database, service_url: str) -> None:
    def lacking(_: Settings) -> str:
        return "OMNIFLO_SOMETHING"

    with working(service_url, Task("task", DAILY, ending, lacking), pace=PACE._replace(keep=600)):
        listens = "select 1 from pg_stat_activity where datname = current_database() and query like 'LISTEN %'"
        eventually(lambda: queue.query(listens), within=SECONDS)
        # Nobody looks within the time of the test: PostgreSQL has to say so.
        assert statuses(queue) == []
        jobs.queue(SYSTEM, "task")
        eventually(lambda: statuses(queue) == ["succeeded"], within=SECONDS)


def test_what_fails_is_tried_again_and_then_seen(queue: Database, service_url: str, lines: Lines) -> None:
    def fail(_: Run) -> Mapping[str, Any]:
        raise LookupError("a secret")

    with working(service_url, Task("task", DAILY, fail)):
        eventually(lambda: statuses(queue) == ["failed"], within=SECONDS)
    assert [(line["attempt"], line["result"], line["error"]) for line in of(lines)] == [
        (1, "failed", "LookupError"),
        (2, "failed", "LookupError"),
        (3, "gave_up", "LookupError"),
    ]
    assert "secret" not in str(lines)
    (job,) = jobs.newest(SYSTEM, ["failed"], 10)
    assert (job.task, job.attempts) == ("task", 3)


@transaction
def sleep(actor: Actor) -> None:
    del actor
    handle.execute_sql("select pg_sleep(600)")


def test_what_hangs_is_cut_by_its_time_limit(queue: Database, service_url: str, lines: Lines) -> None:
    def hang(_: Run) -> Mapping[str, Any]:
        with time_limit(0.5):
            sleep(SYSTEM)
        return {}

    with working(service_url, Task("task", DAILY, hang), pace=PACE._replace(tries=1)):
        eventually(lambda: statuses(queue) == ["failed"], within=SECONDS)
    (line,) = of(lines)
    assert (line["result"], line["reason"]) == ("gave_up", "DEADLINE_EXCEEDED")
    # The server ends it by itself.
    running = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)' and state = 'active'"
    eventually(lambda: queue.query(running) == [(0,)], within=SECONDS)


@pytest.mark.parametrize(("drain", "status", "result"), [(10, "succeeded", "succeeded"), (0.2, "todo", "handed_back")])
def test_what_runs_at_a_stop_ends_or_is_handed_back(
    queue: Database, service_url: str, lines: Lines, drain: float, status: str, result: str
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def last(run: Run) -> Mapping[str, Any]:
        begun.set()
        (run.stopped if drain < 1 else goes_on).wait(SECONDS)
        return {}

    with working(service_url, Task("task", DAILY, last), drain=drain):
        assert begun.wait(SECONDS)
        threading.Timer(0.5, goes_on.set).start()
    assert statuses(queue) == [status]
    assert [line["result"] for line in of(lines)] == [result]
    assert queue.query("select count(*) from procrastinate_workers") == [(0,)]
    waits = queue.query("select scheduled_at > now() from procrastinate_jobs where status = 'todo'")
    assert waits == ([] if result == "succeeded" else [(True,)])


def test_it_goes_on_when_its_connections_are_cut_or_it_was_taken_for_dead(
    queue: Database, service_url: str, lines: Lines
) -> None:
    def ran_since() -> bool:
        before = len(done(queue))
        eventually(lambda: len(done(queue)) > before + 1, within=SECONDS)
        return True

    with working(service_url, Task("task", Schedule.of("1s"), ending)):
        assert ran_since()
        queue.query(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert ran_since()
        ((ours,),) = queue.query("delete from procrastinate_workers returning id")
        assert ran_since()
        ((other,),) = queue.query("select id from procrastinate_workers")
        assert other > ours
    assert {line["result"] for line in of(lines)} <= {"succeeded", "failed", "handed_back", "taken_back"}


def test_a_job_whose_end_was_not_written_down_is_done_again(queue: Database, service_url: str, lines: Lines) -> None:
    with working(service_url, Task("task", DAILY, ending)):
        eventually(lambda: statuses(queue) == ["succeeded"], within=SECONDS)
        # As where the connection breaks just then.
        queue.query(
            "update procrastinate_jobs set status = 'doing', worker_id = (select id from procrastinate_workers);"
            "update procrastinate_events set at = at - interval '1 hour'"
        )
        eventually(lambda: statuses(queue) == ["succeeded"] and len(done(queue)) == 2, within=SECONDS)
    assert [line["result"] for line in of(lines)] == ["succeeded", "taken_back", "succeeded"]


def test_it_stops_while_there_is_no_database() -> None:
    with working("postgresql://127.0.0.1:1/nowhere", Task("task", DAILY, ending), drain=0) as worker:
        time.sleep(0.5)
    assert not worker._thread.is_alive()


def test_runs_are_counted_by_task_and_result(queue: Database, service_url: str) -> None:
    measured = job_metrics.Jobs(["task"])
    with working(service_url, Task("task", DAILY, ending), metrics=measured):
        eventually(lambda: statuses(queue) == ["succeeded"], within=SECONDS)
    measured.taken_back("task")
    measured.taken_back("of a newer release")
    values = {
        (sample.name, sample.labels.get("result")): sample.value
        for family in measured.registry.collect()
        for sample in family.samples
    }
    assert values["omniflo_job_runs_total", "succeeded"] == 1
    assert values["omniflo_job_runs_total", "gave_up"] == 0
    assert values["omniflo_job_seconds_count", None] == 1
    assert values["omniflo_jobs_taken_back_total", None] == 1


def test_servers_say_when_nobody_runs_jobs(queue: Database, lines: Lines) -> None:
    look: Callable[[], None] = missing(None, after=0).do
    look()
    assert [line["log_level"] for line in of(lines, "no worker for jobs")] == ["warning"]
    queue.query("insert into procrastinate_workers default values")
    look()
    assert len(of(lines, "no worker for jobs")) == 1
