"""The process that runs jobs."""

from pathlib import Path
from typing import TYPE_CHECKING

from service import logs
from service.config import Settings
from service.server.parts import Part, Parts
from service.server.processes import Life

if TYPE_CHECKING:
    from service.metrics import FileRuns


def serve(life: Life, settings: Settings, url: str, metrics_folder: Path | None) -> None:
    """Run jobs on the database of that URL, and keep metrics where there is a folder."""
    # The parent does without the engine and its driver.
    from service import metrics  # noqa: PLC0415 - see above
    from service.database.handle import database  # noqa: PLC0415 - see above
    from service.jobs.tasks import TASKS  # noqa: PLC0415 - see above
    from service.jobs.worker import NAME, Worker  # noqa: PLC0415 - see above

    logs.configure(settings.log_format, settings.log_level)
    of_jobs = of_runs = None
    if metrics_folder is not None:
        metrics.join(metrics_folder, life.name)
        of_jobs, of_runs = metrics.Jobs(task.name for task in TASKS), metrics.FileRuns()
    database.configure(url, prepares=settings.prepare == "on", name=NAME)
    worker = Worker(settings, url, TASKS, metrics=of_jobs)
    parts = Parts([worker, *_processing(settings, of_runs)])
    parts.start()
    life.ready()
    life.wait()
    parts.stop()


def _processing(settings: Settings, measured: "FileRuns | None") -> list[Part]:
    """Return what does the runs of the registry, where there is a key for OpenAI."""
    from service.jobs.processing import Processing  # noqa: PLC0415 - see above
    from service.openai_files import Files  # noqa: PLC0415 - see above
    from service.openai_gateway import Gateway  # noqa: PLC0415 - see above
    from service.openai_runs import Runs  # noqa: PLC0415 - see above

    if settings.openai_api_key is None:
        return []
    gateway = Gateway(settings.openai_api_key, settings.openai_base_url)
    return [
        gateway,
        Processing(
            Runs(gateway),
            Files(gateway),
            at_once=settings.processing_concurrency,
            drain_seconds=settings.drain_seconds,
            metrics=measured,
        ),
    ]
