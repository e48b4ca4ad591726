"""`seed`: what a new database starts with."""

import argparse

from service.actor import SYSTEM
from service.commands import database
from service.config import Settings
from service.operations import seed


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("seed", help="add the seed's types, tools and models", description=run.__doc__)
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Add what the seed has and the database has not; nothing that is there is changed."""
    del options
    with database.configured(settings):
        database.require_schema()
        added = seed.run(SYSTEM)
        for name in added:
            print(f"added {name}")
        if not added:
            print("nothing to add")
