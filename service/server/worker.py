"""A worker: one process that serves calls."""

from service import logs
from service.config import Settings
from service.server.processes import Life


def serve(life: Life, settings: Settings, url: str) -> None:
    """Serve on the addresses of the settings, which the parent holds."""
    from service.server import wiring  # noqa: PLC0415 - the parent does without grpcio

    logs.configure(settings.log_format, settings.log_level)
    running = wiring.build(settings, url)
    running.start(settings.listeners())
    life.ready()
    life.wait()
    running.drain()
