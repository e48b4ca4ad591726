"""`keys`: the first API key, where nobody else can let a caller in."""

import argparse
from datetime import UTC, datetime, timedelta

from service.actor import SYSTEM
from service.commands import database
from service.config import Settings
from service.operations import api_keys, users

MAX_DAYS = 36500


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("keys", help="make an API key", description=run.__doc__)
    command.add_argument("action", choices=["create"])
    command.add_argument(
        "--user", type=_text, required=True, metavar="CLERK_ID", help="the owner, provisioned if there is none"
    )
    command.add_argument("--name", type=_text, required=True, help="the name of the key, for people")
    command.add_argument("--scope", choices=["read", "write"], default="read", help="what it may do; read by default")
    command.add_argument("--organization", type=_text, metavar="ID", help="the only organization that it is good in")
    command.add_argument("--days", type=_days, help="after how many days it expires; never by default")
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Make an API key and print it, this once."""
    with database.configured(settings):
        database.require_schema()
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


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("must be UTF-8") from None
    return text


def _days(text: str) -> timedelta:
    if not text.isdecimal() or not 0 < int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_DAYS}")
    return timedelta(days=int(text))
