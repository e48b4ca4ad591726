"""The tasks that there are: what each deletes, and what the settings say of them."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from service.backups import catalog
from service.backups.faults import BackupError
from service.backups.folder import Folder
from service.config import ConfigurationError, Settings
from service.jobs import tasks
from service.jobs.tasks import TASKS, Run
from service.metrics import Metrics
from service.server.upkeep import ending
from service.variables import Schedule
from tests.conftest import Database, as_service
from tests.openai_stand_in import KEY, StandIn


def run(queue: Database, name: str, *, stopped: bool = False, **settings: Any) -> dict[str, Any]:
    """Run a task in this thread, and answer what it returns."""
    (task,) = (task for task in TASKS if task.name == name)
    event = threading.Event()
    if stopped:
        event.set()
    return dict(task.run(Run(Settings(auth="none", **settings), as_service(queue.url), event)))


def test_old_request_ids_are_purged_in_as_many_batches_as_it_takes(queue: Database) -> None:
    queue.query(
        "insert into idempotency_keys (caller, method, request_id, fingerprint, response, create_time)"
        " select 'anonymous', 'CreateModel', n::text, 'abc', 'def', clock_timestamp() - n * interval '49 hours'"
        " from generate_series(0, 2500) n"
    )
    assert run(queue, "purge_request_ids", stopped=True) == {"purged": 0}
    assert run(queue, "purge_request_ids") == {"purged": 2500}
    assert queue.query("select request_id from idempotency_keys") == [("0",)]


def test_changes_are_kept_for_as_long_as_the_settings_say(queue: Database) -> None:
    queue.query("insert into users (id, clerk_id) select 'u' || n, 'user_' || n from generate_series(1, 2500) n")
    queue.query("update changes set time = time - interval '9 days' where resource_id = 'u1'")
    queue.query("update changes set time = time - interval '11 days' where resource_id not in ('u1', 'u2')")
    assert run(queue, "purge_changes", changes_days=10) == {"purged": 2498}
    assert queue.query("select resource_id from changes order by 1") == [("u1",), ("u2",)]


@pytest.mark.parametrize("name", [task.name for task in TASKS if task.name.startswith("purge_")])
def test_each_purge_may_run_again_and_again(queue: Database, name: str) -> None:
    run(queue, name)
    assert run(queue, name) == {"purged": 0}


def test_a_backup_is_made_and_verified_and_what_is_wrong_is_said(queue: Database, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "database_url": SecretStr(as_service(queue.url)),
        "database_owner_url": SecretStr(queue.url),
        "backup_dir": str(tmp_path),
    }
    for number in (1, 2):
        done = run(queue, "backup", **settings)
        assert done["deleted"] == 0
        newest, *others = catalog.newest_first(Folder(tmp_path))
        assert (newest.name, len(others) + 1, newest.verified is not None) == (done["backup"], number, True)
    file = tmp_path / "a file"
    file.touch()
    with pytest.raises(BackupError), structlog.testing.capture_logs() as logged:
        run(queue, "backup", **settings | {"backup_dir": str(file)})
    # Servers of other tests may log in this process.
    assert [line["error"] for line in logged if line["event"] == "backup failed"] == [f"{file}: File exists"]


def test_a_backup_is_due_where_there_is_a_place_for_it() -> None:
    (backup,) = (task for task in TASKS if task.name == "backup")
    assert tasks.schedule(backup, Settings(auth="none")) is None
    assert backup.lacks(Settings(auth="none")) == "OMNIFLO_BACKUP_DIR"
    assert tasks.schedule(backup, Settings(auth="none", backup_dir="/backups")) == Schedule(86_400, 9_000)


def test_dates_of_models_are_read_daily_and_templates_are_counted_whose_models_end(
    queue: Database, stand_in: StandIn
) -> None:
    queue.query("""
        insert into users (id, clerk_id) values ('author', 'author');
        insert into template_types (id, name) values ('type', 'type');
        insert into openai_models (id, openai_id, name) select name, name, name
        from unnest('{gpt-4.1,gpt-5,gpt-5.5,my-own}'::text[]) name;
        insert into templates (id, title, instructions, user_id, template_type_id, model_id)
        select 'of-' || id, 'One', 'Do it.', 'author', 'type', id from openai_models where id <> 'my-own'
    """)
    today = datetime.now(UTC).date()
    soon, later = str(today + timedelta(days=30)), str(today + timedelta(days=32))
    stand_in.models |= {"gpt-5": soon, "gpt-4.1": later}
    key = SecretStr(KEY)
    with structlog.testing.capture_logs() as logged:
        done = run(queue, "refresh_models", openai_api_key=key, openai_base_url=stand_in.url)
    assert done == {"changed": 2, "unlisted": 1, "ending": 1}
    (line,) = (line for line in logged if line["event"] == "models end")
    assert (line["templates"], line["models"]) == (1, {"gpt-5": soon})
    metrics = Metrics(())
    ending(metrics).do()
    assert metrics.registry.get_sample_value("omniflo_templates_of_ending_models") == 1
    (task,) = (task for task in TASKS if task.name == "refresh_models")
    assert task.lacks(Settings(auth="none")) == "OPENAI_API_KEY"


def test_settings_move_tasks_and_turn_them_off() -> None:
    settings = Settings(auth="none", jobs_off=("purge_changes",), jobs_schedule={"purge_jobs": Schedule.of("03:30")})
    tasks.check(settings)
    when = {task.name: tasks.schedule(task, settings) for task in TASKS}
    assert when["purge_changes"] is None
    assert when["purge_jobs"] == Schedule(86_400, 12_600)
    assert when["purge_api_keys"] == Schedule(3600, 300)


@pytest.mark.parametrize("setting", [{"jobs_off": ("backups",)}, {"jobs_schedule": {"backups": Schedule.of(":30")}}])
def test_a_task_that_there_is_not_is_named(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"OMNIFLO_JOBS_\w+: there is no task 'backups', only backup, "):
        tasks.check(Settings(auth="none", **setting))
