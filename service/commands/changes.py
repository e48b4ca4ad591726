"""`changes`: what happened, and who did it, read without a server."""

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any

from service import errors
from service.actor import SYSTEM
from service.commands import database
from service.config import Settings
from service.models.templates import View
from service.operations import changes, undelete
from service.operations.changes import KINDS, Change

PAGE = 1_000


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("changes", help="say what happened, and who did it", description=run.__doc__)
    actions = command.add_subparsers(required=True, metavar="action")
    list_ = actions.add_parser("list", help="one line for each change, the newest first")
    list_.add_argument("--kind", action="append", choices=KINDS, default=[], help="what it is about; may be repeated")
    list_.add_argument("--resource", default="", metavar="ID", help="the id of what has changed")
    list_.add_argument("--organization", default="", metavar="ID", help="where it belongs")
    list_.add_argument("--actor", default="", metavar="NAME", help="who did it, such as user:ID or sql:ROLE")
    list_.add_argument("--method", default="", help="the call or the command, such as UpdateTemplate")
    list_.add_argument(
        "--since", type=_moment, metavar="TIME", help="from then on, in UTC: 2026-01-31 or with T12:00:00"
    )
    list_.add_argument("--until", type=_moment, metavar="TIME", help="before then, in UTC")
    list_.add_argument("--limit", type=_limit, default=50, help="how many at most; 50 by default")
    list_.set_defaults(run=run, act=_list)
    show = actions.add_parser("show", help="all of one change, with its values, as JSON")
    show.add_argument("id", type=_limit, help="its id, as `list` prints it")
    show.set_defaults(run=run, act=_show)
    bring_back = actions.add_parser("undelete", help="bring back what was deleted, as it was, with its id")
    bring_back.add_argument("id", help="the id of a template, a template type, a model or an organization")
    bring_back.set_defaults(run=run, act=_undelete)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Read the log of changes, and bring back what was deleted."""
    with database.configured(settings):
        database.require_schema()
        options.act(options)


def _list(options: argparse.Namespace) -> None:
    after, left = None, options.limit
    while left:
        page = changes.page(
            SYSTEM,
            kinds=options.kind,
            resource_id=options.resource,
            organization_id=options.organization,
            by=options.actor,
            method=options.method,
            start_time=options.since,
            end_time=options.until,
            after=after,
            size=min(left, PAGE),
        )
        for change in page.rows:
            print(_line(change))
        after, left = page.next, left - len(page.rows)
        if after is None:
            break


def _show(options: argparse.Namespace) -> None:
    change = changes.get(SYSTEM, options.id)
    if change is None:
        sys.exit(f"there is no change {options.id}, or no longer")
    values: dict[str, Any] = change._asdict()
    values = {"id": values.pop("seq")} | values | {"time": _time(change), "tags": list(change.tags)}
    del values["transaction_id"]
    for name in ("before", "after"):
        values[name] = None if values[name] is None else json.loads(values[name])
    print(json.dumps(values, ensure_ascii=False, indent=2))


def _undelete(options: argparse.Namespace) -> None:
    deletion = undelete.find(SYSTEM, options.id)
    if deletion is None:
        kinds = ", ".join(kind.replace("_", " ") for kind in sorted(undelete.KINDS))
        sys.exit(f"the log has no deletion of a {kinds} {options.id}, or no longer")
    try:
        if deletion.kind == "template":
            undelete.template(SYSTEM, options.id, view=View.SUMMARY)
        else:
            undelete.resource(SYSTEM, deletion)
    except errors.Error as error:
        sys.exit(f"{error.reason}: {error.message} {json.dumps(error.metadata)}")
    print(f"{deletion.kind} {options.id} is there again")


def _line(change: Change) -> str:
    by = f"{change.actor} by {change.method}" if change.method else change.actor
    return f"{change.seq}  {_time(change)}  {change.action} {change.kind} {change.resource_id}  {by}"


def _time(change: Change) -> str:
    return change.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day or a time of ISO 8601") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _limit(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)
