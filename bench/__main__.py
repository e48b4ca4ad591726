"""The command line: compare, growth, revisions, usage, writes, assistants, backups, tools."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench import assistants, backups, compare, growth, report, revisions, tools, usage, writes
from bench.compare import Options
from bench.http2 import LoadError
from bench.programs import ProgramError
from service.database.accounts import EmbeddedError

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run one command and answer the exit code."""
    options = _parser().parse_args()
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    # A smoke run leaves the results of a real one alone.
    folder = RESULTS / "quick" if getattr(options, "quick", False) else RESULTS
    commands: dict[str, Callable[[], list[Path]]] = {
        "compare": lambda: report.write(compare.run(_options(options)), folder),
        "growth": lambda: growth.write(growth.run(_growth_options(options)), folder),
        "revisions": lambda: revisions.write(revisions.run(_revisions_options(options)), folder),
        "usage": lambda: usage.write(usage.run(_usage_options(options)), folder),
        "writes": lambda: writes.write(writes.run(_writes_options(options)), folder),
        "assistants": lambda: assistants.write(assistants.run(_assistants_options(options)), folder),
        "backups": lambda: backups.write(backups.run(_backups_options(options)), folder),
        "tools": lambda: tools.write(tools.run(), folder),
    }
    try:
        files = commands[options.command]()
    except (ProgramError, LoadError, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for file in files:
        print(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
    return 0


def _options(options: argparse.Namespace) -> Options:
    if options.quick:
        return Options(rounds=1, seconds=1, warm_seconds=0.5, is_quick=True)
    return Options(options.rounds, options.seconds, warm_seconds=2, is_quick=False)


def _growth_options(options: argparse.Namespace) -> growth.Options:
    sizes, users, calls = (
        ([1_000, 10_000], 10_000, 30) if options.quick else ([1_000, 100_000, 1_000_000], 100_000, 300)
    )
    return growth.Options(
        options.sizes or sizes, options.users or users, options.calls or calls, is_quick=options.quick
    )


def _revisions_options(options: argparse.Namespace) -> revisions.Options:
    templates, rounds, calls, edits = (400, 1, 5, 20) if options.quick else (100_000, 10, 100, 1_000)
    return revisions.Options(options.templates or templates, rounds, options.calls or calls, edits, options.quick)


def _usage_options(options: argparse.Namespace) -> usage.Options:
    if options.quick:
        return usage.Options(400, 400, days=40, hours_days=2, batches=2, rounds=1, calls=3, is_quick=True)
    return usage.Options(1_000, 10_000, days=385, hours_days=60, batches=30, rounds=7, calls=20, is_quick=False)


def _writes_options(options: argparse.Namespace) -> writes.Options:
    return writes.Options(1, 2) if options.quick else writes.Options(options.rounds, options.seconds)


def _assistants_options(options: argparse.Namespace) -> assistants.Options:
    if options.quick:
        return assistants.Options(rounds=1, calls=20, is_quick=True)
    return assistants.Options(options.rounds, calls=200, is_quick=False)


def _backups_options(options: argparse.Namespace) -> backups.Options:
    return backups.Options(options.sizes or ([2_000] if options.quick else [2_000, 100_000, 1_000_000]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the service: see bench/README.md.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")
    command = commands.add_parser("compare", help="beside an echo and the seed's stack")
    command.add_argument("--rounds", type=_within(5, 50), default=5, help="5 to 50, 5 by default")
    command.add_argument("--seconds", type=_within(1, 60), default=5, help="of each measure, 1 to 60, 5 by default")
    command.add_argument("--quick", action="store_true", help="a smoke run: 1 round, 1 s, no conclusions")
    command = commands.add_parser("growth", help="with ever more templates")
    command.add_argument("--sizes", type=_within(1_000, 10_000_000), nargs="+", help="1000 100000 1000000 by default")
    command.add_argument("--users", type=_within(1_000, 1_000_000), help="100000 by default")
    command.add_argument("--calls", type=_within(10, 10_000), help="of each kind, 300 by default")
    command.add_argument("--quick", action="store_true", help="a smoke run: 1000 and 10000 templates, no conclusions")
    command = commands.add_parser("revisions", help="reads of templates with many, and their disk")
    command.add_argument("--templates", type=_within(400, 1_000_000), help="100000 by default")
    command.add_argument("--calls", type=_within(5, 10_000), help="of each kind in each round, 100 by default")
    command.add_argument("--quick", action="store_true", help="a smoke run: 400 templates, no conclusions")
    command = commands.add_parser("usage", help="records it, and sums it up")
    command.add_argument("--quick", action="store_true", help="a smoke run: 400 templates, 40 days, no conclusions")
    command = commands.add_parser("writes", help="by SQL: with the log of changes, and without")
    command.add_argument("--rounds", type=_within(3, 50), default=5, help="3 to 50, 5 by default")
    command.add_argument("--seconds", type=_within(1, 60), default=10, help="of each measure, 1 to 60, 10 by default")
    command.add_argument("--quick", action="store_true", help="a smoke run: 1 round, 2 s, no conclusions")
    command = commands.add_parser("assistants", help="writes while templates are copied, and while they are not")
    command.add_argument("--rounds", type=_within(3, 50), default=15, help="3 to 50, 15 by default")
    command.add_argument("--quick", action="store_true", help="a smoke run: 1 round, 20 calls, no conclusions")
    command = commands.add_parser("backups", help="how long they take, with ever more templates")
    command.add_argument("--sizes", type=_within(1_000, 10_000_000), nargs="+", help="2000 100000 1000000 by default")
    command.add_argument("--quick", action="store_true", help="a smoke run: 2000 templates")
    commands.add_parser("tools", help="with the tools of public MCP servers")
    return parser


def _within(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}")
        return int(text)

    return number


def _stop(number: int, _: object) -> None:
    """End by closing everything that was started, whatever else is sent meanwhile."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
