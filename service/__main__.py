"""The command line: serve, migrate, seed, keys, config."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import structlog

from service import db, embedded, errors, logs, migrate, processes, tls
from service.actor import SYSTEM
from service.config import ConfigurationError, Settings, describe, variable
from service.operations import api_keys, maintenance, seed, users

_log = structlog.get_logger()

MAX_DAYS = 36500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and answer the exit code; what a person can mend is said in one message."""
    options = _parser().parse_args(arguments)
    # Both end a command by closing what it opened, the embedded PostgreSQL too, also where a shell had SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    run: Callable[[Settings, argparse.Namespace], None] = options.run
    try:
        settings = Settings.load()
        logs.configure(settings.log_format, settings.log_level)
        run(settings, options)
    except (ConfigurationError, embedded.EmbeddedError, migrate.MigrationError, processes.CrashLoopError) as error:
        print(error, file=sys.stderr)
    except errors.Error as error:
        print(f"{error.reason}: {error.message}: {error.__cause__ or ''}".rstrip(": \n"), file=sys.stderr)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    else:
        return 0
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="The Omniflo template registry. Settings come from the environment: see `config`.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("serve", help="serve until SIGTERM or Ctrl-C", description=_serve.__doc__)
    command.add_argument("--migrate", action="store_true", help="apply pending migrations first")
    command.add_argument("--seed", action="store_true", help="add the seed's types, tools and models first")
    command.set_defaults(run=_serve)

    command = commands.add_parser("migrate", help="change or check the schema", description=_migrate.__doc__)
    command.add_argument(
        "action",
        choices=["up", "down", "status", "verify"],
        help="up: apply what is pending; down: take back the newest; status: list all; verify: fail unless up to date",
    )
    command.add_argument("--to", type=_version, metavar="VERSION", help="stop up or down at this version; 0 is empty")
    command.set_defaults(run=_migrate)

    command = commands.add_parser("seed", help="add the seed's types, tools and models", description=_seed.__doc__)
    command.set_defaults(run=_seed)

    command = commands.add_parser("keys", help="make an API key", description=_keys.__doc__)
    command.add_argument("action", choices=["create"])
    command.add_argument("--user", required=True, metavar="CLERK_ID", help="the owner, provisioned if there is none")
    command.add_argument("--name", required=True, help="the name of the key, for people")
    command.add_argument("--scope", choices=["read", "write"], default="read", help="what it may do; read by default")
    command.add_argument("--organization", metavar="ID", help="the only organization that it is good in")
    command.add_argument("--days", type=_days, help="after how many days it expires; never by default")
    command.set_defaults(run=_keys)

    command = commands.add_parser("config", help="print the effective settings", description=_config.__doc__)
    command.set_defaults(run=_config)
    return parser


def _version(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be the number of a migration, or 0")
    return int(text)


def _days(text: str) -> timedelta:
    if not text.isdecimal() or not 0 < int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_DAYS}")
    return timedelta(days=int(text))


def _serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve on OMNIFLO_LISTEN; SIGTERM and Ctrl-C let running calls finish for OMNIFLO_DRAIN_SECONDS."""
    tls.check(settings)
    if settings.is_open:
        _log.warning(
            "plain text", listen=settings.listen, help="set OMNIFLO_TLS_CERT, or listen on loopback behind a proxy"
        )
    with ExitStack() as stack:
        listeners = settings.listeners().items()
        held = {name: stack.enter_context(processes.port(name, address)) for name, address in listeners}
        settings = settings.model_copy(update=held)
        url = stack.enter_context(_database(settings))
        if options.migrate:
            _use_direct_url(settings)
            for name in migrate.up(migrate.load()):
                _log.info("migrated", name=name)
            db.database.drop()
            db.database.configure(url, prepares=settings.prepare == "on")
        else:
            _require_schema()
        _require_connections(settings)
        if options.seed:
            for added in seed.run(SYSTEM):
                _log.info("seeded", added=added)
        db.database.drop()
        with processes.signals() as stop:
            processes.supervise(settings, url, stop, lambda: print(_welcome(settings), flush=True))


def _migrate(settings: Settings, options: argparse.Namespace) -> None:
    """Apply or take back the files of migrations/, one by one, or say which are applied."""
    migrations = migrate.load()
    with _database(settings):
        _use_direct_url(settings)
        if options.action == "up":
            _print(migrate.up(migrations, to=options.to), "applied {}", "nothing to apply")
        elif options.action == "down":
            applied, _ = migrate.status(migrations)
            to = max(0, len(applied) - 1 if options.to is None else options.to)
            _print(migrate.down(migrations, to=to), "took back {}", "nothing to take back")
        else:
            applied, pending = migrate.status(migrations)
            _print(applied, "applied {}")
            _print(pending, "pending {}")
            if pending and options.action == "verify":
                raise migrate.MigrationError("the schema is not up to date: run `python -m service migrate up`")


def _seed(settings: Settings, options: argparse.Namespace) -> None:
    """Add what the seed has and the database has not; nothing that is there is changed."""
    del options
    with _database(settings):
        _require_schema()
        _print(seed.run(SYSTEM), "added {}", "nothing to add")


def _keys(settings: Settings, options: argparse.Namespace) -> None:
    """Make an API key and print it, this once: the first one, where nobody else can let a caller in."""
    with _database(settings):
        _require_schema()
        owner = users.provision(SYSTEM, options.user)
        made = api_keys.create(
            SYSTEM,
            name=options.name,
            scope=options.scope,
            user_id=owner.id,
            organization_id=options.organization,
            expire_time=options.days and datetime.now(UTC) + options.days,
        )
        print(made.secret)


def _config(settings: Settings, options: argparse.Namespace) -> None:
    """Print every setting, its effective value with secrets masked, and what it may be."""
    del options
    print(describe(settings))


@contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """Configure the database and answer its URL; an embedded one runs for the time of the block."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        db.database.configure(url, prepares=settings.prepare == "on")
        yield url
        return
    # And for people.
    with embedded.running(settings.data_dir, ["-c", f"max_connections={settings.connections + 20}"]) as url:
        db.database.configure(url)
        yield url


def _require_schema() -> None:
    """Raise when migrations are pending; a database that is away is no reason not to start."""
    try:
        _, pending = migrate.status(migrate.load(), allow_newer=True)
    except errors.Unavailable as error:
        _log.error("database", is_reachable=False, error=str(error.__cause__).strip())
        return
    if pending:
        raise migrate.MigrationError(
            f"migrations are pending: run `python -m service migrate up` ({', '.join(pending)})"
        )


def _use_direct_url(settings: Settings) -> None:
    """Go past a pooler, whose sessions are not ours to lock anything in."""
    if settings.database_direct_url is not None:
        db.database.configure(settings.database_direct_url.get_secret_value())


def _require_connections(settings: Settings) -> None:
    """Raise when the database has too few connections for what the workers may open, unless it cannot be asked."""
    try:
        most = maintenance.max_connections(SYSTEM)
    except errors.Unavailable:
        return
    if settings.connections > most:
        raise ConfigurationError(
            f"{settings.workers} workers with {settings.threads} threads each need {settings.connections} connections,"
            f" and the database has {most} (max_connections less what it reserves): set {variable('workers')} or"
            f" {variable('threads')} lower, or max_connections higher"
        )


def _print(items: Sequence[str], text: str, otherwise: str = "") -> None:
    for item in items:
        print(text.format(item))
    if otherwise and not items:
        print(otherwise)


def _welcome(settings: Settings) -> str:
    """Where it serves, and three calls to paste, for two clients, where anybody may make them."""
    address = settings.listen
    if settings.auth != "none":
        listeners = ", ".join(settings.listeners().values())
        return f"Serving on {listeners}. Calls need an identity: README.md, Who may do what. Ctrl-C stops it."
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


if __name__ == "__main__":
    sys.exit(main())
