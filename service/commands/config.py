"""`config`: the settings that are in force."""

import argparse

from service.config import Settings, describe


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("config", help="print the effective settings", description=run.__doc__)
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Print every setting, its effective value with secrets masked, and what it may be."""
    del options
    print(describe(settings))
