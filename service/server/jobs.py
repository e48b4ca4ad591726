"""The process that runs jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service import happenings, logs
from service.config import Settings
from service.server import tracing
from service.server.parts import Part, Parts

if TYPE_CHECKING:
    from pathlib import Path

    from service.job_metrics import Copies, FileRuns
    from service.server.processes import Life


def serve(life: Life, settings: Settings, url: str, metrics_folder: Path | None) -> None:
    """Run jobs on the database of that URL, and keep metrics where there is a folder."""
    # The parent does without the engine and its driver.
    from service import job_metrics, metrics  # noqa: PLC0415 - see above
    from service.database.handle import database  # noqa: PLC0415 - see above
    from service.jobs.tasks import TASKS  # noqa: PLC0415 - see above
    from service.jobs.worker import NAME, Worker  # noqa: PLC0415 - see above

    logs.configure(settings.log_format, settings.log_level, settings.replica)
    of_jobs = of_runs = None
    if metrics_folder is not None:
        metrics.join(metrics_folder, life.name)
        of_jobs, of_runs = job_metrics.Jobs(task.name for task in TASKS), job_metrics.FileRuns()
        happenings.hear(of_jobs.happenings.count)
    database.configure(url, prepares=settings.prepare == "on", name=NAME)
    copies = None if metrics_folder is None or settings.assistants == "off" else job_metrics.Copies()
    worker = Worker(settings, url, TASKS, metrics=of_jobs)
    parts = Parts([*tracing.parts(settings), worker, *_asking(settings, worker.url, of_runs, copies)])
    parts.start()
    life.ready()
    life.wait()
    parts.stop()


def _asking(settings: Settings, url: str, measured: FileRuns | None, copies: Copies | None) -> list[Part]:
    """Return what does the runs of the registry and copies its templates, where there is a key for OpenAI."""
    from service.jobs.assistants import Copying, Off  # noqa: PLC0415 - see above
    from service.jobs.processing import Processing  # noqa: PLC0415 - see above
    from service.openai_assistants import Assistants  # noqa: PLC0415 - see above
    from service.openai_files import Files  # noqa: PLC0415 - see above
    from service.openai_gateway import Gateway  # noqa: PLC0415 - see above
    from service.openai_runs import Runs  # noqa: PLC0415 - see above

    if settings.openai_api_key is None:
        return [Off()]
    gateway = Gateway(settings.openai_api_key, settings.openai_base_url)
    copying: Part = Off()
    if settings.assistants == "on":
        settle_seconds = settings.assistants_settle_seconds
        copying = Copying(Assistants(gateway), url, settle_seconds=settle_seconds, metrics=copies)
    return [
        gateway,
        Processing(
            Runs(gateway),
            Files(gateway),
            at_once=settings.processing_concurrency,
            drain_seconds=settings.drain_seconds,
            metrics=measured,
        ),
        copying,
    ]
