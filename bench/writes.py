"""What a write costs the database: with the log of changes and revisions, and with less.

Everything runs in one PostgreSQL with a slow flush, one after another, in rounds. The ratios are those within a round.
"""

import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import content, machine, programs
from bench.compare import postgres, say
from bench.content import Database
from bench.programs import ProgramError
from bench.report import rows
from service.database import embedded

CLIENTS = 32
TEMPLATES = 1_000
FLUSH_MICROSECONDS = 1_500
BEFORE = 23
"""The last migration without the log."""

SLOW = ("fsync=on", f"commit_delay={FLUSH_MICROSECONDS}", "commit_siblings=0")

NAMES = {
    "none": "no triggers",
    "log": "the log of changes",
    "revisions": "the log, and revisions",
    "notify": "notifications, as before the log",
}
_DROPPED = {"none": "(number|record)\\_%", "log": "%\\_revision"}
"""The triggers that are taken away, as patterns of SQL."""

_DROP = """
do $$
declare
  found record;
begin
  for found in select tgname, tgrelid::regclass as resources from pg_trigger where tgname similar to %s loop
    execute format('drop trigger %%I on %%s', found.tgname, found.resources);
  end loop;
end
$$
"""

_IDS = """
create table bench_ids as select row_number() over (order by id) as number, id from templates;
alter table bench_ids add primary key (number)
"""

# What UpdateTemplate executes in its transaction, in as many round trips, but for what it reads.
_UPDATE = f"""\\set number random(1, {TEMPLATES})
\\set title random(1, 1000000000)
select id from bench_ids where number = :number \\gset
begin isolation level read committed \\; set local lock_timeout = 5000 \\; set local statement_timeout = 30000 \\; \
set local omniflo.actor = 'user:bench' \\; set local omniflo.method = 'UpdateTemplate' \\; \
set local omniflo.request_id = '' \\; set local omniflo.api_key_id = '';
select id, version from templates where id = ':id' order by id for no key update;
update templates set title = 'title :title', version = version + 1, \
update_time = greatest(clock_timestamp(), update_time) where id = ':id';
select current_setting('omniflo.written', true);
commit;
"""


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: int


@dataclass(frozen=True)
class Measure:
    name: str
    round: int
    writes_a_second: float
    micros: float
    """Of processor time of PostgreSQL, for each write."""
    client_micros: float
    """Of the clients, likewise."""
    flushes_a_second: float

    @property
    def processors(self) -> float:
        """How many were busy with the writes. Where it is all of them, a slower flush costs nothing."""
        return self.writes_a_second * (self.micros + self.client_micros) / 1e6


def run(options: Options) -> list[Measure]:
    cores = machine.cores()
    machine.stay_on(cores.all)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        settings = [part for setting in SLOW for part in ("-c", setting)]
        server, admin = stack.enter_context(postgres(folder, cores, *settings))
        machine.pin(server.pid, cores.all)
        databases = {name: admin.new(name) for name in NAMES}
        for name, database in databases.items():
            stack.callback(database.close)
            say(f"fills {name}")
            _migrate(database, BEFORE if name == "notify" else None)
            content.fill(database, templates=TEMPLATES, users=1_000)
            database.query(_IDS)
            if name in _DROPPED:
                database.query(_DROP, [_DROPPED[name]])
        script = folder / "update.sql"
        script.write_text(_UPDATE)
        names = list(databases)
        found = []
        for round in range(options.rounds + 1):
            for name in names[round % len(names) :] + names[: round % len(names)]:
                measure = _measure(server, databases[name], script, round, options.seconds if round else 1)
                # The first round warms up.
                if round:
                    say(f"{round}/{options.rounds} {name}: {measure.writes_a_second:.0f} a second")
                    found.append(measure)
        return found


def write(measures: list[Measure], folder: Path) -> list[Path]:
    """Write the table into the folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "writes.md"
    table.write_text("\n".join(_text(measures)) + "\n")
    return [table]


def _text(measures: list[Measure]) -> Iterator[str]:
    yield "# Writes\n"
    yield (
        f"{CLIENTS} clients update templates by SQL, as `UpdateTemplate` does, in a PostgreSQL that waits"
        f" {FLUSH_MICROSECONDS / 1000} ms before each flush. Medians of {measures[-1].round} rounds.\n"
    )
    by_name = {name: [one for one in measures if one.name == name] for name in NAMES}
    yield rows(
        [
            "triggers",
            "writes a second",
            "processor time of PostgreSQL for each",
            "of the clients",
            "processors busy",
            "flushes a second",
        ],
        [
            [
                NAMES[name],
                f"{statistics.median(one.writes_a_second for one in found):,.0f}",
                f"{statistics.median(one.micros for one in found):,.0f} us",
                f"{statistics.median(one.client_micros for one in found):,.0f} us",
                f"{statistics.median(one.processors for one in found):.2f} of {len(machine.cores().all)}",
                f"{statistics.median(one.flushes_a_second for one in found):,.0f}",
            ]
            for name, found in by_name.items()
        ],
    )
    yield ""
    for name, other in (("log", "none"), ("log", "notify"), ("revisions", "log")):
        ratios = sorted(
            over.writes_a_second / under.writes_a_second
            for over, under in zip(by_name[name], by_name[other], strict=True)
        )
        text = f"{statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})"
        yield f"- {NAMES[name]} / {NAMES[other]}: {text}"


def _migrate(database: Database, to: int | None) -> None:
    command = [sys.executable, "-m", "service", "migrate", "up", *([] if to is None else ["--to", str(to)])]
    programs.run(command, environment={"OMNIFLO_DATABASE_URL": database.url})


def _measure(server: embedded.Server, database: Database, script: Path, round: int, seconds: int) -> Measure:
    database.settle()
    before, clients, flushes = machine.processor_seconds(server.pid), _children(), _flushes(database)
    done = subprocess.run(
        [
            *(embedded.binaries() / "pgbench", "--no-vacuum", "--client", str(CLIENTS), "--jobs", "2"),
            *("--time", str(seconds), "--protocol", "simple", "--file", script, database.url),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    used, of_clients = machine.processor_seconds(server.pid) - before, _children() - clients
    flushed = _flushes(database) - flushes
    count = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or count is None or rate is None:
        raise ProgramError(f"pgbench failed: {done.stderr[-500:]}")
    writes = int(count[1])
    return Measure(
        database.name, round, float(rate[1]), used / writes * 1e6, of_clients / writes * 1e6, flushed / seconds
    )


def _children() -> float:
    """Return the processor time of all that this process has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _flushes(database: Database) -> int:
    """Return how often those who write have flushed the log of PostgreSQL itself."""
    [[count]] = database.query(
        "select sum(fsyncs) from pg_stat_io where object = 'wal' and backend_type = 'client backend'"
    )
    return int(count)
