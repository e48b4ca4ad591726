"""`jobs`, `work`, and the process for jobs beside `serve`."""

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from service.config import Settings
from service.jobs.tasks import TASKS
from tests.commands import Command
from tests.conftest import Database
from tests.e2e.serving import eventually, serving
from tests.e2e.test_process import children, environment, run

SECONDS = 120.0
"""Long, since nobody waits for longer than it takes: a slow machine needs much of it to start processes."""


DUE = [task for task in TASKS if not task.lacks(Settings(auth="none"))]
"""What runs without more settings."""


@pytest.fixture(scope="module")
def url(new_database: Callable[[], str]) -> str:
    """The URL of a database in which nobody runs jobs."""
    url = new_database()
    assert run("migrate", "up", database_url=url).returncode == 0
    return url


def test_it_lists_the_tasks_and_queues_one(url: str) -> None:
    with closing(Database(url)) as database:
        row = "('remove_orphans', '2026-11-27 03:10:01Z', '{\"removed\": 2, \"revisions\": 2}')"
        database.query(f"insert into job_reports values {row}")
    done = run("jobs", "list", database_url=url, jobs_off="purge_jobs", jobs_schedule="purge_changes=03:30")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()[1:]]
    assert rows == [
        ["backup", "off: set OMNIFLO_BACKUP_DIR"],
        ["purge_api_keys", ":05"],
        ["purge_changes", "03:30"],
        ["purge_invitations", ":15"],
        ["purge_jobs", "off: in OMNIFLO_JOBS_OFF"],
        ["purge_processing_records", ":22"],
        ["purge_request_ids", ":25"],
        ["purge_usage", ":30"],
        ["purge_usage_events", ":35"],
        ["refresh_models", "off: set OPENAI_API_KEY"],
        ["remove_orphans", "03:10   2026-11-27T03:10:01.000Z  removed=2 revisions=2"],
        ["roll_up_usage", "5m"],
        ["sample_statistics", "1m"],
        ["sweep_assistants", "off: set OMNIFLO_ASSISTANTS=on"],
        ["workers:", "none; start one with `python -m service work`"],
    ]
    asked = run("jobs", "run", "purge_changes", database_url=url)
    assert asked.stdout.startswith("queued purge_changes as job ")
    id = asked.stdout.split("\n")[0].rpartition(" ")[2]
    again = run("jobs", "run", "purge_changes", database_url=url).stdout
    assert again.startswith(f"purge_changes waits already, as job {id}\n")
    line = run("jobs", "list", "--all", database_url=url).stdout.splitlines()[-1]
    assert line.split()[0] == id
    assert line.endswith("Z  waiting  purge_changes  asked for")


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["run", "backups"], {}, "invalid choice: 'backups'"),
        (["run", "backup"], {}, "backup cannot run: set OMNIFLO_BACKUP_DIR"),
        (["list", "--limit", "0"], {}, "must be 1 to 10000"),
        (["list"], {"jobs_off": "backups"}, "OMNIFLO_JOBS_OFF: there is no task 'backups'"),
        (["list"], {"jobs_schedule": "purge_jobs=daily"}, "03:30 is daily, :30 hourly"),
        ([], {}, "the following arguments are required: action"),
    ],
)
def test_what_it_cannot_do_is_said(url: str, arguments: list[str], settings: dict[str, str], said: str) -> None:
    done = run("jobs", *arguments, database_url=url, **settings)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_for_jobs_runs_beside_serve_and_is_replaced(new_database: Callable[[], str], tmp_path: Path) -> None:
    url, log = new_database(), tmp_path / "log"
    with serving(url, log, work="on") as service:
        eventually(lambda: {line["task"] for line in service.events("job")} == {t.name for t in DUE}, within=SECONDS)
        assert {line["result"] for line in service.events("job")} == {"succeeded"}
        database = Database(url)
        ask = "select pid from pg_stat_activity where datname = current_database() and query like 'LISTEN \"procrast%'"
        eventually(lambda: database.query(ask), within=SECONDS)
        ((first,),) = database.query("select max(id) from procrastinate_workers")
        (killed,) = children(service.pid, "jobs")
        os.kill(killed, signal.SIGKILL)
        # The first one may be forgotten by then.
        newer = "select id from procrastinate_workers where id > %s"
        eventually(lambda: database.query(newer, (first,)), within=SECONDS)
        database.close()


def test_work_runs_jobs_and_ends_when_asked(new_database: Callable[[], str], tmp_path: Path) -> None:
    url, stdout, log = new_database(), tmp_path / "stdout", tmp_path / "log"
    assert run("migrate", "up", database_url=url).returncode == 0
    settings = environment({"database_url": url, "metrics_listen": "127.0.0.1:0"})
    work = Command(("work",), settings, stdout=stdout, stderr=log)
    database = Database(url)
    try:
        # Of tasks, and not of jobs: one may be due again meanwhile.
        ended = "select count(distinct task_name) from procrastinate_jobs where status = 'succeeded'"
        eventually(lambda: database.query(ended) == [(len(DUE),)], within=SECONDS)
        # It is said when metrics are served too, which may take longer than all jobs.
        eventually(lambda: stdout.read_text() == "Running jobs. Ctrl-C stops it.\n", within=SECONDS)
        work.send_signal(signal.SIGTERM)
        assert work.wait(SECONDS) == 0, log.read_text()
        assert database.query("select id from procrastinate_workers") == []
    finally:
        work.kill()
        database.close()


def test_work_needs_the_schema(new_database: Callable[[], str]) -> None:
    done = run("work", database_url=new_database())
    assert done.returncode == 1
    assert "0001_users" in done.stderr
