"""`migrate`: the schema, up, down, and whether it is up to date."""

import argparse
import sys
from collections.abc import Sequence

from service.commands import database
from service.config import Settings
from service.database import grants, handle, migrate

_NEWER = "{} is of a newer release; this one can work with it"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("migrate", help="change or check the schema", description=run.__doc__)
    command.add_argument(
        "action",
        choices=["up", "down", "status", "verify", "roles"],
        help="up: apply what is pending; down: take back the newest; status: list all; verify: fail unless up to date;"
        " roles: print what gives the serving role its rights, which `up` does where OMNIFLO_DATABASE_OWNER_URL is set",
    )
    command.add_argument("--to", type=_version, metavar="VERSION", help="stop up or down at this version; 0 is empty")
    command.add_argument("--yes", action="store_true", help="take back without asking")
    command.add_argument("--apply", action="store_true", help="with roles: execute what is printed")
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Apply or take back the files of migrations/, one by one, or say which are applied; and give rights."""
    migrations = migrate.load()
    with database.configured(settings) as urls:
        handle.database.configure(urls.owner)
        if options.action == "up":
            _print(migrate.up(migrations, to=options.to, role=urls.role), "applied {}", "nothing to apply")
            _print(migrate.status(migrations).newer, _NEWER)
            return
        if options.action == "roles":
            if urls.role is None:
                raise grants.RoleError(
                    "set OMNIFLO_DATABASE_OWNER_URL for the role that owns the tables, and OMNIFLO_DATABASE_URL for"
                    " another one, which is to serve"
                )
            _print(migrate.grant(migrations, urls.role, is_applied=options.apply), "{};")
            return
        applied, pending, newer = migrate.status(migrations)
        if options.action == "down":
            to = max(0, len(applied) - 1 if options.to is None else options.to)
            # With newer ones, nothing is taken back anyway.
            if applied[to:] and not newer and not options.yes:
                _ask(applied[to:][::-1])
            _print(migrate.down(migrations, to=to), "took back {}", "nothing to take back")
            return
        _print(applied, "applied {}")
        _print(newer, _NEWER)
        _print(pending, "pending {}")
        if pending and options.action == "verify":
            raise migrate.MigrationError("the schema is not up to date: run `python -m service migrate up`")


def _ask(names: Sequence[str]) -> None:
    """Raise unless somebody who watches agrees."""
    loss = f"taking back {', '.join(names)} in {migrate.place()} deletes what is in their tables and columns"
    if not sys.stdin.isatty():
        raise migrate.MigrationError(f"{loss}: add --yes if that is meant")
    print(f"{loss}. Go on? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise migrate.MigrationError("nothing was taken back")


def _version(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be the number of a migration, or 0")
    return int(text)


def _print(names: Sequence[str], text: str, otherwise: str = "") -> None:
    for name in names:
        print(text.format(name))
    if otherwise and not names:
        print(otherwise)
