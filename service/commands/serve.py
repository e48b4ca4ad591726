"""`serve`: one service, of several processes, until SIGTERM or Ctrl-C."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import structlog

from service import logs
from service.actor import SYSTEM
from service.commands import database
from service.config import ConfigurationError, Settings, variable
from service.database import handle, migrate
from service.errors import Unavailable
from service.operations import maintenance, seed
from service.server import ports, processes, tls, worker
from service.server.processes import Kind

_log = structlog.get_logger()


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("serve", help="serve until SIGTERM or Ctrl-C", description=run.__doc__)
    command.add_argument("--migrate", action="store_true", help="apply pending migrations first")
    command.add_argument("--seed", action="store_true", help="add the seed's types, tools and models first")
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Serve on OMNIFLO_LISTEN; SIGTERM and Ctrl-C let running calls finish for OMNIFLO_DRAIN_SECONDS."""
    with logs.whole(settings.log_format, settings.log_level):
        _run(settings, options)


def _run(settings: Settings, options: argparse.Namespace) -> None:
    tls.check(settings)
    if settings.is_open:
        _log.warning(
            "plain text", listen=settings.listen, help="set OMNIFLO_TLS_CERT, or listen on loopback behind a proxy"
        )
    if settings.shows_metrics:
        _log.warning("open metrics", listen=settings.metrics_listen, help="whoever can connect there can read them")
    ports.allow_connections()
    with ExitStack() as stack:
        addresses = settings.addresses().items()
        held = {name: stack.enter_context(ports.held(name, address)) for name, address in addresses}
        settings = settings.model_copy(update=held)
        urls = stack.enter_context(database.configured(settings))
        if options.migrate:
            handle.database.configure(urls.owner)
            for name in migrate.up(migrate.load(), role=urls.role):
                _log.info("migrated", name=name)
            handle.database.drop()
            handle.database.configure(urls.service, prepares=settings.prepare == "on")
        else:
            database.require_schema()
        _require_connections(settings)
        if options.seed:
            for added in seed.run(SYSTEM):
                _log.info("seeded", added=added)
        handle.database.drop()
        kinds, died = stack.enter_context(_children(settings, urls.service))
        with processes.signals() as stop:
            processes.supervise(
                kinds,
                stop,
                lambda: print(_welcome(settings), flush=True),
                drain_seconds=settings.drain_seconds,
                died=died,
            )


@contextmanager
def _children(settings: Settings, url: str) -> Iterator[tuple[list[Kind], Callable[[Kind, str], None]]]:
    """Yield which processes there are to be, and what to do when one has died."""
    if settings.metrics_listen is None:
        yield [Kind("worker", worker.serve, (settings, url, None), count=settings.workers)], lambda *_: None
        return
    # A tenth of a second, which a service without metrics does without.
    from service import metrics  # noqa: PLC0415 - see above
    from service.server import endpoint  # noqa: PLC0415 - see above

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(metrics.shared_folder(settings.metrics_listen))
        except OSError as error:
            raise ConfigurationError(f"{variable('metrics_listen')}: {error}") from None
        kinds = [
            Kind("worker", worker.serve, (settings, url, folder), count=settings.workers),
            # Calls are served also while it cannot be.
            Kind("metrics", endpoint.serve, (settings, settings.metrics_listen, folder), is_vital=False),
        ]
        metrics.join(folder, "parent")
        restarts = metrics.Restarts(kind.name for kind in kinds)

        def died(kind: Kind, name: str) -> None:
            metrics.forget(folder, name)
            restarts.count(kind.name)

        yield kinds, died


def _require_connections(settings: Settings) -> None:
    """Raise when the database has too few connections for what the workers may open, unless it cannot be asked."""
    try:
        most = maintenance.max_connections(SYSTEM)
    except Unavailable:
        return
    if settings.connections > most:
        raise ConfigurationError(
            f"{settings.workers} workers with {settings.threads} threads each need {settings.connections} connections,"
            f" and the database has {most} (max_connections less what it reserves): set {variable('workers')} or"
            f" {variable('threads')} lower, or max_connections higher"
        )


def _welcome(settings: Settings) -> str:
    """Where it serves, and three calls to paste, for two clients, where anybody may make them."""
    address = settings.listen
    if settings.auth != "none":
        listeners = ", ".join(settings.listeners().values())
        return f"Serving on {listeners}. Calls need an identity: docs/access.md. Ctrl-C stops it."
    calls = [
        ("TemplateTypeService/ListTemplateTypes", "{}"),
        ("UserService/ProvisionUser", '{"clerk_id": "user_1"}'),
        ("ModelService/GetModel", '{"openai_id": "gpt-5.5"}'),
    ]
    package = "omniflo.templates.v1"
    lines = [f"Serving on {address}. Call it:"]
    lines += [
        f"  .venv/bin/buf curl --protocol grpc --http2-prior-knowledge -d '{body}' http://{address}/{package}.{method}"
        for method, body in calls
    ]
    lines.append("or with grpcurl:")
    lines += [f"  grpcurl -plaintext -d '{body}' {address} {package}.{method}" for method, body in calls]
    lines.append("Ctrl-C stops it.")
    return "\n".join(lines)
