"""The command line: reads arguments and settings, and runs one of `service/commands/`."""

# Callers have the stubs alone, and nothing of what is imported below.
import sys
from importlib.util import find_spec

if find_spec("structlog") is None:
    sys.exit("the packages of the service are not installed: install omniflo-templates[server]")

import argparse
import signal
from collections.abc import Callable, Sequence
from importlib.metadata import version

import structlog

import service.drivers  # noqa: F401 - before anything that imports Peewee
from service import errors, logs
from service.backups.faults import BackupError
from service.call import Call, running
from service.commands import backup, changes, config, database, jobs, keys, migrate, probe, report, seed, serve, work
from service.config import ConfigurationError, Settings, log_format, unknown_variables
from service.database.accounts import EmbeddedError
from service.database.grants import RoleError
from service.database.migrate import MigrationError
from service.server.processes import CrashLoopError, stop_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; what a person can mend is said in one message."""
    options = _parser().parse_args(arguments)
    # Each ends a command by closing what it opened, the embedded PostgreSQL too, also where a shell had SIGINT ignored.
    for number in stop_signals():
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run: Callable[[Settings, argparse.Namespace], None] = options.run
    # Of other commands than these two, whose log it is, people read the one message.
    format = log_format() if run in {serve.run, work.run} else "text"
    logs.configure(log_format(), "info")
    # First: it may be why a setting is missing.
    for name, nearest in unknown_variables():
        structlog.get_logger().warning("unknown variable", variable=name, nearest=nearest)
    try:
        settings = Settings.load()
        logs.configure(settings.log_format, settings.log_level, settings.replica)
        database.check_urls(settings)
        with running(Call(options.command)):
            run(settings, options)
    except (ConfigurationError, EmbeddedError, MigrationError, RoleError, CrashLoopError, BackupError) as error:
        logs.fail(str(error), format)
    except errors.Error as error:
        logs.fail(database.told(error), format)
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
    parser.add_argument("--version", action="version", version=version("omniflo-templates"))
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")
    for command in (serve, work, migrate, seed, keys, changes, jobs, backup, report, probe, config):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
