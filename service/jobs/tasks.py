"""The tasks: what runs by the clock, or when somebody asks for it. This is the one list of them."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from service.actor import SYSTEM
from service.config import ConfigurationError, Settings, variable
from service.deadline import time_limit
from service.operations import jobs, maintenance, openai_models, orphans, statistics, usage_keeping
from service.variables import Schedule

STEP_SECONDS = 60.0
"""How long one batch may take."""
MOST_NAMED = 20
"""Models in a line of the log."""
LONGEST_SECONDS = 300.0
"""How long a statement may take in any case."""

_log = structlog.get_logger()


class Run(NamedTuple):
    """What a run of a task works with."""

    settings: Settings
    url: str
    """The database past a pooler, for the role that serves."""
    stopped: threading.Event
    """Set when the run is handed back: it is to end, and what it returns counts for nothing."""


class Task(NamedTuple):
    """Something that one worker at a time does, that may be done again after any part of it, and that ends by itself.

    Nothing can cut it but the time limits of the database and of HTTP: it sets `time_limit` for each of its steps, and
    no statement may take longer than LONGEST_SECONDS.
    """

    name: str
    schedule: Schedule
    """When it runs, unless OMNIFLO_JOBS_SCHEDULE says otherwise."""
    run: Callable[[Run], Mapping[str, Any]]
    """Does it, and returns what the line of the log has of it."""
    lacks: Callable[[Settings], str] = lambda _: ""
    """Returns the variable that has to be set before it can run, if it is not."""


def _in_batches(step: Callable[[Settings], int], done: str = "purged") -> Callable[[Run], Mapping[str, Any]]:
    """Return the run of a task that deletes, or does something else, in batches until nothing is left to do."""

    def run(run: Run) -> Mapping[str, Any]:
        count = 0
        while not run.stopped.is_set():
            with time_limit(STEP_SECONDS):
                batch = step(run.settings)
            if not batch:
                break
            count += batch
        return {done: count}

    return run


def _back_up(run: Run) -> Mapping[str, Any]:
    # Slow to import, and of no use to whoever only wants to know what there is.
    from service.backups import daily  # noqa: PLC0415 - see above
    from service.backups.faults import BackupError  # noqa: PLC0415 - see above

    try:
        done = daily.run(run.settings)
    except BackupError as error:
        # It says what to do, and has nothing of anybody's data.
        _log.error("backup failed", error=str(error))
        raise
    return {"backup": done.name, "bytes": done.bytes, "rows": done.rows, "deleted": len(done.deleted)}


def _remove_orphans(run: Run) -> Mapping[str, Any]:
    removed: Counter[str] = Counter()
    with time_limit(STEP_SECONDS):
        rules = orphans.rules(SYSTEM)
    for rule in rules:
        while not run.stopped.is_set():
            # Each looks through a whole table.
            with time_limit(LONGEST_SECONDS):
                count = orphans.remove(SYSTEM, rule)
            if not count:
                break
            removed[rule.name] += count
    return {"removed": removed.total()} | removed


def _refresh_models(run: Run) -> Mapping[str, Any]:
    # As above: only where there is a key.
    from service.openai_gateway import Gateway  # noqa: PLC0415 - see above

    gateway = Gateway(run.settings.openai_api_key, run.settings.openai_base_url)
    try:
        with time_limit(STEP_SECONDS):
            available = gateway.models()
    finally:
        gateway.stop()
    with time_limit(STEP_SECONDS):
        refreshed = openai_models.refresh(SYSTEM, available)
        ending = openai_models.ending(SYSTEM)
    if ending:
        models = {model.openai_id: str(model.shutdown_date) for model in ending[:MOST_NAMED]}
        _log.warning("models end", templates=sum(model.templates for model in ending), models=models)
    return {"changed": len(refreshed.changed), "unlisted": len(refreshed.unlisted), "ending": len(ending)}


def _sweep(run: Run) -> Mapping[str, Any]:
    # As above: only where assistants are kept.
    from service.jobs import sweeping  # noqa: PLC0415 - see above
    from service.openai_assistants import Assistants  # noqa: PLC0415 - see above
    from service.openai_gateway import Gateway  # noqa: PLC0415 - see above

    gateway = Gateway(run.settings.openai_api_key, run.settings.openai_base_url)
    try:
        age_seconds = run.settings.assistants_sweep_age_seconds
        return sweeping.sweep(Assistants(gateway), run.stopped, age_seconds=age_seconds)
    finally:
        gateway.stop()


def _sample(run: Run) -> Mapping[str, Any]:
    with time_limit(STEP_SECONDS):
        statistics.note_statements(SYSTEM)
        statistics.sample(SYSTEM)
    return _in_batches(lambda _: statistics.purge(SYSTEM))(run)


TASKS = (
    Task("backup", Schedule.of("02:30"), _back_up, lambda of: "" if of.backup_dir else variable("backup_dir")),
    Task("purge_api_keys", Schedule.of(":05"), _in_batches(lambda _: maintenance.purge_keys(SYSTEM))),
    Task(
        "purge_changes", Schedule.of(":10"), _in_batches(lambda of: maintenance.purge_changes(SYSTEM, of.changes_days))
    ),
    Task("purge_invitations", Schedule.of(":15"), _in_batches(lambda _: maintenance.purge_invitations(SYSTEM))),
    Task("purge_jobs", Schedule.of(":20"), _in_batches(lambda _: jobs.purge(SYSTEM))),
    Task(
        "purge_processing_records",
        Schedule.of(":22"),
        _in_batches(lambda of: maintenance.purge_processing_records(SYSTEM, of.records_days)),
    ),
    Task("purge_request_ids", Schedule.of(":25"), _in_batches(lambda _: maintenance.purge_batch(SYSTEM))),
    Task("purge_usage", Schedule.of(":30"), _in_batches(lambda of: usage_keeping.purge(SYSTEM, of.usage_days))),
    Task("purge_usage_events", Schedule.of(":35"), _in_batches(lambda _: usage_keeping.purge_events(SYSTEM))),
    Task(
        "refresh_models",
        Schedule.of("03:40"),
        _refresh_models,
        lambda of: "" if of.openai_api_key else variable("openai_api_key"),
    ),
    Task("remove_orphans", Schedule.of("03:10"), _remove_orphans),
    Task("roll_up_usage", Schedule.of("5m"), _in_batches(lambda _: usage_keeping.roll_up(SYSTEM), "rolled_up")),
    Task("sample_statistics", Schedule.of("1m"), _sample),
    Task(
        "sweep_assistants",
        Schedule.of("10m"),
        _sweep,
        lambda of: "" if of.assistants == "on" else f"{variable('assistants')}=on",
    ),
)


def schedule(task: Task, settings: Settings) -> Schedule | None:
    """Return when a task runs, or None where it runs only when somebody asks for it."""
    if task.name in settings.jobs_off or task.lacks(settings):
        return None
    return settings.jobs_schedule.get(task.name, task.schedule)


def check(settings: Settings, tasks: Sequence[Task] = TASKS) -> None:
    """Raise when settings name a task that there is not."""
    names = [task.name for task in tasks]
    for setting in ("jobs_off", "jobs_schedule"):
        for name in getattr(settings, setting):
            if name not in names:
                raise ConfigurationError(f"{variable(setting)}: there is no task {name!a}, only {', '.join(names)}")
