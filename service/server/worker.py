"""A worker: one process that serves calls."""

from pathlib import Path

from service import logs, processors
from service.config import Settings
from service.server.processes import Life


def serve(life: Life, settings: Settings, url: str, metrics_folder: Path | None) -> None:
    """Serve on the addresses of the settings, which the parent holds, and keep metrics where there is a folder."""
    # The parent does without grpcio, and without metrics where none are served.
    from service import metrics  # noqa: PLC0415 - see above
    from service.server import wiring  # noqa: PLC0415 - see above

    logs.configure(settings.log_format, settings.log_level, settings.replica)
    if settings.pin_workers == "on":
        # Before there are other threads. One that replaces another has its number, and so its processor.
        processors.pin(int(life.name.rpartition("-")[2]) - 1)
    if metrics_folder is not None:
        metrics.join(metrics_folder, life.name)
    running = wiring.build(settings, url, measures=metrics_folder is not None)
    running.start(settings.listeners())
    life.ready()
    life.wait()
    running.drain()
