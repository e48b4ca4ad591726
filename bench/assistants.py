"""What CreateTemplate takes while templates are copied to a server that never answers, and while none are copied.

Two services by turns in one run, each with a database of its own in one PostgreSQL.
"""

import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import grpc

from bench import content, machine
from bench.compare import migrate, postgres, say
from bench.content import Database, id_of
from bench.figures import percentile, rotated, verdict
from bench.programs import ProgramError, Running
from bench.report import rows
from bench.targets import serve
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub

FLOOR = 0.9
"""Of what a call takes where none is copied, divided by what it takes where they are."""
DEADLINE_SECONDS = 30.0
USERS = 100
TYPE, MODEL = "bench-type-1", "bench-model-1"
OFF, ON = "off", "on"
JOBS = "jobs-1"
"""What the process for jobs calls itself."""

Used = Callable[[], Mapping[str, float]]


class Options(NamedTuple):
    rounds: int
    calls: int
    """Of a turn."""
    is_quick: bool


class Turn(NamedTuple):
    """In milliseconds for a call."""

    p50: float
    p95: float
    workers: float
    """Processor time of the service without its process for jobs."""
    jobs: float
    postgres: float


class Result(NamedTuple):
    about: dict[str, str]
    options: Options
    turns: dict[str, list[Turn]]
    pending: int
    """Copies that the silent server was to be told of at the end."""


def run(options: Options) -> Result:
    cores = machine.cores()
    about = machine.describe()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        server, admin = stack.enter_context(postgres(folder, cores))
        machine.pin(server.pid, cores.all)
        # It takes connections, and never reads.
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        channels: dict[str, grpc.Channel] = {}
        services: dict[str, Running] = {}
        databases: dict[str, Database] = {}
        for name in (OFF, ON):
            say(f"starts the service with copies {name}")
            databases[name] = admin.new(f"assistants_{name}")
            stack.callback(databases[name].close)
            migrate(databases[name])
            content.fill(databases[name], templates=400, users=USERS)
            environment = {
                "OMNIFLO_WORK": "on",
                "OMNIFLO_ASSISTANTS": name,
                "OPENAI_API_KEY": "none",
                "OPENAI_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
            }
            log = folder / f"{name}.log"
            services[name] = stack.enter_context(serve(databases[name], environment, log=log, cores=cores.all))
            channels[name] = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{services[name].port}"))

        def used(name: str) -> Mapping[str, float]:
            return {**machine.processor_seconds_by_name(services[name].pid), "": machine.processor_seconds(server.pid)}

        def settle() -> None:
            machine.settle(server.pid, *(running.pid for running in services.values()))

        turns = measured(channels, options, {name: partial(used, name) for name in services}, settle)
        ((pending,),) = databases[ON].query("select count(*) from assistants where state = 'pending'")
        return Result(about, options, turns, pending)


def measured(
    channels: Mapping[str, grpc.Channel],
    options: Options,
    used: Mapping[str, Used],
    settle: Callable[[], None],
) -> dict[str, list[Turn]]:
    """Create templates by turns; `used` returns the seconds of processor time so far by process, PostgreSQL's as ''."""
    turns: dict[str, list[Turn]] = {name: [] for name in channels}
    # The first round warms up.
    for round in range(options.rounds + 1):
        say(f"round {round} of {options.rounds}")
        for name in rotated(list(channels), round, options.rounds):
            settle()
            found = _turn(TemplateServiceStub(channels[name]), options.calls, used[name])
            if round:
                turns[name].append(found)
    return turns


def _turn(templates: TemplateServiceStub, calls: int, used: Used) -> Turn:
    before, times = used(), []
    for number in range(calls):
        template = Template(
            title="A template",
            instructions="Extract the total of each invoice.",
            user_id=id_of("user", 1 + number % USERS),
            template_type=TYPE,
            model=MODEL,
        )
        began = time.perf_counter()
        try:
            templates.CreateTemplate(CreateTemplateRequest(template=template), timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise ProgramError(str(error)) from None
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    taken = {name: 1000 * (seconds - before.get(name, 0.0)) / calls for name, seconds in used().items()}
    postgres, jobs = taken.pop("", 0.0), taken.pop(JOBS, 0.0)
    return Turn(percentile(times, 50), percentile(times, 95), sum(taken.values()), jobs, postgres)


def write(result: Result, folder: Path) -> list[Path]:
    """Write the table into the folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "assistants.md"
    table.write_text("\n".join(_text(result)) + "\n")
    return [table]


def _text(result: Result) -> Iterator[str]:
    options, turns = result.options, result.turns
    yield "# Writes while templates are copied\n"
    yield from (f"- {name}: {value}" for name, value in result.about.items())
    yield ""
    if options.is_quick:
        yield "**This is a smoke run: nothing follows from its figures.**\n"
    yield (
        "`CreateTemplate` with `OMNIFLO_ASSISTANTS=on` and a server that never answers, beside one with `off`, by turns"
        f" of {options.calls:,} calls, one at a time. Medians of {options.rounds} rounds, in milliseconds for a call;"
        f" all processes share all cores. At the end, {result.pending:,} copies waited for the server.\n"
    )
    heads = ["copies", "p50", "p95", "processor time: workers", "process for jobs", "PostgreSQL"]
    yield rows(
        heads,
        [
            [name, *(f"{statistics.median(column):.2f}" for column in zip(*found, strict=True))]
            for name, found in turns.items()
        ],
    )
    for what, column in (("p50", 0), ("processor time of the workers", 2)):
        ratios = sorted(off[column] / on[column] for off, on in zip(turns[OFF], turns[ON], strict=True))
        ratio = statistics.median(ratios)
        judgement = verdict(ratio, floor=FLOOR, target=FLOOR, is_conclusive=not options.is_quick)
        spread = f"{ratio:.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})"
        yield f"- {what}, off / on: {spread}, at least {FLOOR}: {judgement}"
