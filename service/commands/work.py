"""`work`: run jobs, and serve nothing, until SIGTERM or Ctrl-C."""

import argparse
from contextlib import ExitStack

from service import logs
from service.commands import database, supervised
from service.config import Settings
from service.database import handle
from service.jobs import tasks
from service.server import ports, tracing


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("work", help="run jobs until SIGTERM or Ctrl-C", description=run.__doc__)
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Run jobs beside those that `serve` and others run; SIGTERM and Ctrl-C let them end for OMNIFLO_DRAIN_SECONDS."""
    del options
    with logs.whole(settings.log_format, settings.log_level, settings.replica), ExitStack() as stack:
        tasks.check(settings)
        tracing.check(settings)
        if settings.metrics_listen is not None:
            held = stack.enter_context(ports.held("metrics_listen", settings.metrics_listen))
            settings = settings.model_copy(update={"metrics_listen": held})
        urls = stack.enter_context(database.configured(settings))
        database.require_schema()
        supervised.require_connections(
            settings.job_connections,
            f"jobs need {settings.job_connections} connections",
            "let other programs have fewer",
        )
        handle.database.drop()
        supervised.run(
            settings, [supervised.jobs(settings, urls.service, is_vital=True)], "Running jobs. Ctrl-C stops it."
        )
