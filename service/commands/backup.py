"""`backup`: the database saved elsewhere, and brought back."""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from service.backups import catalog, kept, making, restoring
from service.backups.catalog import Backup
from service.commands import database
from service.config import Settings
from service.database import migrate


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("backup", help="save the database, and bring it back", description=run.__doc__)
    actions = command.add_subparsers(required=True, metavar="action")

    def action(name: str, act: Callable[[Settings, argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=help)
        parser.set_defaults(run=run, act=act)
        return parser

    action("create", _create, "make one")
    action("list", _list, "list all, the newest first, and whether they are good")
    verify = action("verify", _verify, "restore one into a database of its own, compare, and drop that again")
    verify.add_argument("name", nargs="?", default=catalog.LATEST, help="as `list` prints it; the latest good one")
    restore = action("restore", _restore, "restore one into the database, which is to be empty")
    restore.add_argument("name", help=f"as `list` prints it, or `{catalog.LATEST}` for the latest good one")
    restore.add_argument(
        "--replace", metavar="DATABASE", help="delete what is in the database; its name, to be sure which one it is"
    )
    action("prune", _prune, "delete those that are older than OMNIFLO_BACKUP_DAYS, but never the last three good ones")


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Make, list, verify, restore or delete backups in OMNIFLO_BACKUP_DIR."""
    options.act(settings, options)


def _create(settings: Settings, options: argparse.Namespace) -> None:
    del options
    store, key = kept.store(settings), kept.key(settings)
    with database.configured(settings) as urls:
        made = making.create(store, urls.owner, key, datetime.now(UTC))
    print(f"{made.name}  {made.size:,} bytes, {made.rows:,} rows")


def _list(settings: Settings, options: argparse.Namespace) -> None:
    del options
    backup = None
    for backup in catalog.newest_first(kept.store(settings)):
        print(_line(backup))
    if backup is None:
        print(f"no backups in {settings.backup_dir}", file=sys.stderr)


def _verify(settings: Settings, options: argparse.Namespace) -> None:
    store, key = kept.store(settings), kept.key(settings)
    backup = catalog.find(store, options.name)
    with database.configured(settings) as urls:
        saved = restoring.verify(store, backup, urls.owner, key, datetime.now(UTC))
    print(f"{saved.name} is good: all {saved.rows:,} rows were restored as they were")


def _restore(settings: Settings, options: argparse.Namespace) -> None:
    store, key = kept.store(settings), kept.key(settings)
    backup = catalog.find(store, options.name)
    with database.configured(settings) as urls:
        saved = restoring.restore(store, backup, urls.owner, key, role=urls.role, replaced=options.replace)
    print(f"{saved.name} was restored: {saved.rows:,} rows, as of {saved.start_time:%Y-%m-%d %H:%M:%S} UTC")
    if saved.schema_version < len(migrate.load()):
        print("Next: `python -m service migrate up`, since it is of an older release")


def _prune(settings: Settings, options: argparse.Namespace) -> None:
    del options
    for name in catalog.prune(kept.store(settings), settings.backup_days, datetime.now(UTC)):
        print(f"deleted {name}")


def _line(backup: Backup) -> str:
    if backup.damage:
        return f"{backup.name}  damaged: {backup.damage}"
    saved = backup.required()
    details = [f"{saved.size:,} bytes", f"{saved.rows:,} rows", f"schema {saved.schema_version:04}"]
    if saved.encryption is not None:
        details.append("encrypted")
    details.append(f"verified {backup.verified:%Y-%m-%d}" if backup.verified else "not verified")
    return f"{backup.name}  good: {', '.join(details)}"
