"""The processes of a command that goes on until somebody ends it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import structlog

from service.actor import SYSTEM
from service.config import ConfigurationError, Settings, variable
from service.errors import Unavailable
from service.operations import maintenance
from service.server import jobs as jobs_process
from service.server import processes
from service.server.processes import Kind

_log = structlog.get_logger()


def jobs(settings: Settings, url: str, *, is_vital: bool) -> Kind:
    """Return the process that runs jobs."""
    return Kind("jobs", jobs_process.serve, (settings, url), reports_ready=is_vital, is_vital=is_vital)


def run(settings: Settings, kinds: Sequence[Kind], welcome: str) -> None:
    """Run the processes until SIGTERM or Ctrl-C, and print the welcome when all are ready.

    Each gets, after its other arguments, the folder for its metrics, or None where none are served.
    """
    _log.info("starting", version=version("omniflo-templates"))
    with _measured(settings, kinds) as (children, died), processes.signals() as stop:
        processes.supervise(
            children,
            stop,
            lambda: print(welcome, flush=True),
            drain_seconds=settings.drain_delay_seconds + settings.drain_seconds,
            died=died,
        )


@contextmanager
def _measured(
    settings: Settings, kinds: Sequence[Kind]
) -> Iterator[tuple[Sequence[Kind], Callable[[Kind, str], None]]]:
    """Yield the processes with the one that metrics are fetched from, and what to do when one has died."""

    def given(folder: Path | None) -> list[Kind]:
        return [replace(kind, arguments=(*kind.arguments, folder)) for kind in kinds]

    if settings.metrics_listen is None:
        yield given(None), lambda *_: None
        return
    # A tenth of a second, which a service without metrics does without.
    from service import metrics  # noqa: PLC0415 - see above
    from service.server import endpoint  # noqa: PLC0415 - see above

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(metrics.shared_folder(settings.metrics_listen))
        except OSError as error:
            raise ConfigurationError(f"{variable('metrics_listen')}: {error}") from None
        # Calls are served, and jobs run, also while it cannot be.
        endpoint_kind = Kind("metrics", endpoint.serve, (settings, settings.metrics_listen, folder), is_vital=False)
        children = [*given(folder), endpoint_kind]
        metrics.join(folder, "parent")
        restarts = metrics.Restarts(kind.name for kind in children)

        def died(kind: Kind, name: str) -> None:
            metrics.forget(folder, name)
            restarts.count(kind.name)

        yield children, died


def require_connections(count: int, need: str, remedy: str) -> None:
    """Raise when the database has fewer connections than processes may open, unless it cannot be asked."""
    try:
        most = maintenance.max_connections(SYSTEM)
    except Unavailable:
        return
    if count > most:
        raise ConfigurationError(
            f"{need}, and the database has {most} (max_connections less what it reserves): {remedy}, or"
            " max_connections higher"
        )
