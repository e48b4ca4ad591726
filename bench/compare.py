"""The comparison: all targets in one run, interleaved and rotated."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import grpc

from bench import content, load, machine, programs
from bench.content import Database
from bench.figures import Measure, Shape, rotated
from bench.http2 import Call, LoadError, NoAnswerError
from bench.machine import Cores, Memory
from bench.programs import ProgramError, Running
from bench.targets import MEMORY_OF, Absent, Place, Target, node_version, targets
from bench.works import DEADLINE_SECONDS, ETAG_SIZE, NUMBER, Work, WrongAnswerError, works
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from service.database import embedded

TEMPLATES = 1_000
USERS = 1_000
CACHED_TEMPLATES = 10_000
LONGEST_SECONDS = 30.0
"""How long a target may take for its first answers under load."""


class Options(NamedTuple):
    rounds: int
    seconds: float
    """How long each measure takes."""
    warm_seconds: float
    """How long each target is under load before the first round."""
    is_quick: bool


class Result(NamedTuple):
    """Everything that one run measured."""

    about: dict[str, str]
    options: Options
    measures: list[Measure]
    memories: dict[str, list[Memory]]
    """Of the processes of each target after the last round."""
    absent: dict[str, str]
    """Why each target that is not there is not there."""
    answer_sizes: dict[str, dict[str, int]]
    """The octets of each target's answers, by the kind of call."""
    growth_mb: dict[str, float]
    """By how much a worker grew when it had answered CACHED_TEMPLATES, by target."""


class _Unit(NamedTuple):
    """What is measured in one go."""

    target: Target
    running: Running
    work: str
    call: Call
    shape: Shape


@contextmanager
def postgres(folder: Path, cores: Cores, *options: str) -> Iterator[tuple[embedded.Server, Database]]:
    """Run an embedded PostgreSQL on its cores for the time of the block."""
    server = embedded.Server(folder / "data", ["-c", "max_connections=400", *options])
    try:
        server.start()
        machine.pin(server.pid, cores.others)
        # The superuser: it asks for checkpoints.
        database = Database(server.admin_url)
        try:
            yield server, database
        finally:
            database.close()
    finally:
        server.stop()


def migrate(database: Database) -> None:
    programs.run([sys.executable, "-m", "service", "migrate", "up"], environment={"OMNIFLO_DATABASE_URL": database.url})


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def run(options: Options) -> Result:
    """Start everything, check every answer, measure, and stop everything."""
    cores = machine.cores()
    about = {
        **machine.describe(),
        "node": node_version(),
        "load": load.describe(),
        "cores are shared out": str(cores),
        "templates in the databases": f"{TEMPLATES:,}",
    }
    # Whatever is started is pinned; what is left, this process, stays off the servers' core.
    machine.stay_on(cores.others)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        server, admin = stack.enter_context(postgres(folder, cores))
        place = Place(cores, folder, server.pid, admin.new("service"), admin.new("seed"))
        stack.callback(place.service.close)
        stack.callback(place.seed.close)
        say("fills the databases")
        migrate(place.service)
        content.fill(place.service, templates=TEMPLATES, users=USERS)
        content.copy_to_seed(place.service, place.seed)
        about["postgresql"] = place.service.query("show server_version")[0][0]
        kinds = works(place.service)

        place.answer.write_bytes(answer_of_echo(place.service).SerializeToString())

        units: list[_Unit] = []
        absent: dict[str, str] = {}
        sizes: dict[str, dict[str, int]] = {}
        started: dict[str, Running] = {}
        for target in targets(len(cores.all)):
            say(f"starts {target.name}")
            try:
                running = stack.enter_context(target.start(target, place))
            except Absent as reason:
                absent[target.name] = str(reason)
                continue
            except ProgramError as error:
                if not target.is_peer:
                    raise
                absent[target.name] = f"it does not run here: {error}"
                continue
            started[target.name] = running
            calls = _checked(target, running, kinds)
            sizes[target.name] = {work: call.answer_size for work, call in calls.items()}
            units += [
                _Unit(target, running, work, calls[work], shape) for shape in target.shapes for work in target.works
            ]
        # What is compared is measured one after the other.
        units.sort(key=lambda unit: (unit.shape, unit.work))
        measures = list(_measures(units, options, place))
        memories = {name: machine.memory(running.pid) for name, running in started.items()}
        memories["PostgreSQL"] = machine.memory(server.pid)
        growth = {}
        try:
            for target in targets(len(cores.all)):
                if target.name in MEMORY_OF and target.name in started:
                    growth[target.name] = _growth(admin, target, place)
        except ProgramError as error:
            # What has been measured is worth more than to be lost for this.
            absent["the memory of a worker with many templates"] = str(error)
        return Result(about, options, measures, memories, absent, sizes, growth)


def answer_of_echo(database: Database) -> Template:
    """Answer the template that the others answer, with an etag of the size of theirs."""
    template = content.template(database, NUMBER)
    template.etag = "e" * ETAG_SIZE
    return template


def _checked(target: Target, running: Running, kinds: dict[str, Work]) -> dict[str, Call]:
    """Check that a target answers every kind of call as it should, and answer what to send to it."""
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        try:
            return {work: kinds[work].call(channel) for work in target.works}
        except (WrongAnswerError, grpc.RpcError) as error:
            raise ProgramError(f"{target.name}: {error}\n{programs.tail(running.log)}") from None


def _measures(units: list[_Unit], options: Options, place: Place) -> Iterator[Measure]:
    """Warm everything up, and measure all units in each round."""
    say(f"warms up: {len(units) * options.warm_seconds:.0f} s")
    for unit in units:
        _measure(unit, 0, options.warm_seconds, place)
    for round in range(options.rounds):
        say(f"round {round + 1} of {options.rounds}: {len(units) * options.seconds:.0f} s")
        for unit in rotated(units, round, options.rounds):
            yield _measure(unit, round, options.seconds, place)


def _measure(unit: _Unit, round: int, seconds: float, place: Place) -> Measure:
    others = place.cores.all if unit.target.uses_all_cores else place.cores.others
    machine.pin(place.postgres, others)
    pids = (unit.running.pid, place.postgres)
    before = [machine.processor_seconds(pid) for pid in pids]
    try:
        outcome = load.run(unit.running.port, unit.call, unit.shape, seconds, cores=others, folder=place.folder)
    except NoAnswerError:
        # A slow call may need longer than a smoke run gives it.
        machine.settle(*pids)
        if seconds >= LONGEST_SECONDS:
            raise
        return _measure(unit, round, 2 * seconds, place)
    except LoadError as error:
        what = f"{unit.target.name}, {unit.work}, {unit.shape}"
        raise ProgramError(f"{what}: {error}\n{programs.tail(unit.running.log)}") from None
    server_us, database_us = (
        1e6 * (machine.processor_seconds(pid) - start) / outcome.requests
        for pid, start in zip(pids, before, strict=True)
    )
    # What was in flight at the end is still being answered, to nobody.
    machine.settle(*pids)
    # The log of millions of calls is nobody's.
    os.truncate(unit.running.log, 0)
    return Measure(round, unit.target.name, unit.work, unit.shape, *outcome, server_us, database_us)


def _growth(admin: Database, target: Target, place: Place) -> float:
    """Answer by how much a worker of the service grows from its first answer until it has answered many templates."""
    say(f"measures the memory of {target.name}")
    database = admin.new("memory")
    try:
        migrate(database)
        content.fill(database, templates=CACHED_TEMPLATES, users=USERS)
        with (
            target.start(target, place._replace(service=database)) as running,
            grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            get = TemplateServiceStub(channel).GetTemplate
            sizes = []
            for number in range(1, CACHED_TEMPLATES + 1):
                get(GetTemplateRequest(id=content.id_of("template", number)), timeout=DEADLINE_SECONDS)
                if number in {1, CACHED_TEMPLATES}:
                    sizes.append(max(memory.rss_mb for memory in machine.memory(running.pid)))
    except grpc.RpcError as error:
        raise ProgramError(f"{target.name}: {error}") from None
    finally:
        database.close()
        admin.drop(database.name)
    return sizes[-1] - sizes[0]
