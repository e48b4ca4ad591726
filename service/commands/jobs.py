"""`jobs`: what runs when, what became of it, and something to be run now."""

import argparse
import sys
from datetime import UTC, datetime

from service.actor import SYSTEM
from service.commands import database
from service.config import Settings, variable
from service.jobs import tasks
from service.jobs.tasks import TASKS, Task
from service.operations import jobs
from service.operations.jobs import Job, Report

MOST = 10_000

_ENDED = ("succeeded",)
_OTHERS = ("todo", "doing", "failed")
_STATES = {"todo": "waiting", "doing": "running"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("jobs", help="list jobs, or have a task run now", description=run.__doc__)
    actions = command.add_subparsers(required=True, metavar="action")
    list_ = actions.add_parser("list", help="the tasks, and the jobs that wait, run or have failed, the newest first")
    list_.add_argument("--all", action="store_true", help="also those that succeeded, of which a day is kept")
    list_.add_argument("--limit", type=_limit, default=50, help="how many jobs at most; 50 by default")
    list_.set_defaults(run=run, act=_list)
    run_ = actions.add_parser("run", help="queue a task; a worker runs it at once")
    run_.add_argument("name", choices=[task.name for task in TASKS], metavar="NAME", help="as `list` prints it")
    run_.set_defaults(run=run, act=_run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Look into the queue of jobs, or put one into it."""
    tasks.check(settings)
    with database.configured(settings):
        database.require_schema()
        options.act(settings, options)


def _list(settings: Settings, options: argparse.Namespace) -> None:
    print("times are in UTC: 03:30 is daily, :30 hourly, 10m every 10 minutes")
    reports = jobs.reports(SYSTEM)
    for task in TASKS:
        print(f"{task.name:<24}  {_when(task, settings):<6}{_report(reports.get(task.name))}".rstrip())
    print(_workers())
    for job in jobs.newest(SYSTEM, _OTHERS + (_ENDED if options.all else ()), options.limit):
        print(_line(job))


def _run(settings: Settings, options: argparse.Namespace) -> None:
    (task,) = (task for task in TASKS if task.name == options.name)
    if lacks := task.lacks(settings):
        sys.exit(f"{task.name} cannot run: set {lacks}")
    id, is_new = jobs.queue(SYSTEM, task.name)
    print(f"queued {task.name} as job {id}" if is_new else f"{task.name} waits already, as job {id}")
    print(_workers())


def _when(task: Task, settings: Settings) -> str:
    if lacks := task.lacks(settings):
        return f"off: set {lacks}"
    return str(tasks.schedule(task, settings) or f"off: in {variable('jobs_off')}")


def _report(report: Report | None) -> str:
    if report is None:
        return ""
    did = " ".join(f"{name}={value}" for name, value in report.fields.items())
    return f"  {_time(report.time)}  {did}"


def _workers() -> str:
    count = jobs.workers(SYSTEM)
    return f"workers: {count}" if count else "workers: none; start one with `python -m service work`"


def _line(job: Job) -> str:
    due = f"due {job.due_time}Z" if job.due_time else "asked for"
    tries = f", {job.attempts} tries" if job.attempts > 1 else ""
    return f"{job.id}  {_time(job.time)}  {_STATES.get(job.status, job.status)}  {job.task}  {due}{tries}"


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"must be 1 to {MOST}")
    return int(text)
