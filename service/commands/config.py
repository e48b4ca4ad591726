"""`config`: the settings that are in force."""

import argparse
from collections.abc import Mapping

from service.config import Settings, variable
from service.environment import file_of


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("config", help="print the effective settings", description=run.__doc__)
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Print every setting, its effective value with secrets masked, and what it may be."""
    del options
    print(describe(settings))


def describe(settings: Settings) -> str:
    """One line a setting: the variable, its effective value with secrets masked, and what it may be."""
    lines = []
    for name, field in Settings.model_fields.items():
        file = f" (or the name of a file with it in {file_of(variable(name))})" if name in Settings.secrets() else ""
        lines.append(f"{variable(name)}={_shown(getattr(settings, name))}\n    {field.description}{file}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    """Return a value as it is spelled in the environment."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={role}" for name, role in value.items())
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value).replace("\n", "\\n")
