"""`serve`: one service, of several processes, until SIGTERM or Ctrl-C."""

import argparse
from contextlib import ExitStack

import structlog

from service import logs
from service.actor import SYSTEM
from service.commands import database, supervised
from service.config import Settings, variable
from service.database import handle, migrate
from service.jobs import tasks
from service.operations import seed
from service.server import ports, tls, tracing, worker
from service.server.processes import Kind

_log = structlog.get_logger()


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("serve", help="serve until SIGTERM or Ctrl-C", description=run.__doc__)
    command.add_argument("--migrate", action="store_true", help="apply pending migrations first")
    command.add_argument("--seed", action="store_true", help="add the seed's types, tools and models first")
    command.add_argument("--no-work", action="store_true", help="run no jobs, as with OMNIFLO_WORK=off")
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Serve on OMNIFLO_LISTEN; SIGTERM and Ctrl-C let running calls finish for OMNIFLO_DRAIN_SECONDS."""
    with logs.whole(settings.log_format, settings.log_level, settings.replica):
        _run(settings, options)


def _run(settings: Settings, options: argparse.Namespace) -> None:
    tls.check(settings)
    tracing.check(settings)
    tasks.check(settings)
    if options.no_work:
        settings = settings.model_copy(update={"work": "off"})
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
        supervised.require_connections(
            settings.connections,
            f"{settings.workers} workers with {settings.threads} threads each need {settings.connections} connections",
            f"set {variable('workers')} or {variable('threads')} lower",
        )
        if options.seed:
            for added in seed.run(SYSTEM):
                _log.info("seeded", added=added)
        handle.database.drop()
        kinds = [Kind("worker", worker.serve, (settings, urls.service), count=settings.workers)]
        if settings.work == "on":
            # Calls are served also while no jobs can be run.
            kinds.append(supervised.jobs(settings, urls.service, is_vital=False))
        supervised.run(settings, kinds, _welcome(settings))


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
