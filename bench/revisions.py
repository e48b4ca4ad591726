"""What revisions cost: reads of templates that have many, by turns with those of templates that have one; and disk."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import grpc

from bench import content, edits, machine
from bench.compare import migrate, postgres, say
from bench.content import TYPES, Database, id_of
from bench.figures import Spread, percentile, twins_agree, verdict
from bench.programs import ProgramError
from bench.report import rows
from bench.targets import serve
from omniflo.templates.v1.selection_service_pb2 import ResolveTemplateRequest
from omniflo.templates.v1.selection_service_pb2_grpc import SelectionServiceStub
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, RenderTemplateRequest, ResolutionKey
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from service.interceptors.consistency import DEFAULT, HEADER, STRONG

REVISIONS = 10
LABELED = 5
"""The revision that has the label `production`."""
OLD, OLD_TYPE = 3, 2
"""The revisions that are asked for by their numbers; the type's has the same tools as its newest."""

CACHED_TEMPLATES = 50
"""How many templates are read from the cache."""
DEADLINE_SECONDS = 30.0
FLOOR = 1.5
"""How many times what a template of one revision takes another read may take."""

PLAIN, TWIN, MANY = "1 revision", "1 revision, the twin", f"{REVISIONS} revisions"
BY_LABEL = f"{MANY}, labels: production, on {LABELED}"
BY_NUMBER = f"{MANY}, revision: {OLD}"
RENDER_ID = "RenderTemplate, id"
FROM = {STRONG: "database", DEFAULT: "cache"}
"""Where responses come from, by the consistency that is asked for."""

_METHOD = f"""One caller, one call at a time, {{calls}} calls of each kind in each of {{rounds}} rounds, by turns.
{{templates:,}} templates in each database. Ratios are those of the p50 within a round to that of a template of one
revision: their median, with the lowest and the highest.

The twin is a copy of the database with one revision, with a server of its own. A read meets its target if its ratio is
no higher than the highest of the twin in any round, and its floor up to {FLOOR:g}. There is no conclusion where the
median of the twin is off by more than 15 %.
"""


class Options(NamedTuple):
    templates: int
    """How many there are in each database, and as many users with a selection."""
    rounds: int
    calls: int
    """How many calls of each kind are measured in each round."""
    long_edits: int
    """How many times the long template is edited."""
    is_quick: bool


class Kind(NamedTuple):
    call: str
    consistency: str
    read: str


class Result(NamedTuple):
    about: dict[str, str]
    options: Options
    p50_ms: dict[Kind, list[float]]
    """Of each round."""
    disk: dict[str, edits.Disk]


Call = Callable[[int, str], None]
"""Reads the template of that number, or what the user of that number gets, with that consistency."""


def run(options: Options) -> Result:
    cores = machine.cores()
    about = {**machine.describe(), "cores are shared out": str(cores)}
    machine.stay_on(cores.others)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        # Checkpoints of the filling would otherwise be measured.
        _, admin = stack.enter_context(postgres(folder, cores, "-c", "max_wal_size=4GB"))
        about["postgresql"] = admin.query("show server_version")[0][0]
        databases = {}
        for name, database in _filled(admin, options.templates):
            stack.callback(database.close)
            databases[name] = database
        p50_ms = _read(databases, folder, cores, options)
        say("measures the disk")
        return Result(about, options, p50_ms, edits.measured(databases[PLAIN], options.templates, options.long_edits))


def write(result: Result, folder: Path) -> list[Path]:
    """Write the raw figures and the tables into the folder, and answer the files."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, table = folder / "revisions.json", folder / "revisions.md"
    found = {
        "about": result.about,
        "options": result.options._asdict(),
        "p50_ms": [{**kind._asdict(), "rounds": values} for kind, values in result.p50_ms.items()],
        "disk": {name: disk._asdict() for name, disk in result.disk.items()},
    }
    raw.write_text(json.dumps(found, indent=1) + "\n")
    table.write_text(_text(result))
    return [raw, table]


def revise(database: Database) -> None:
    """Bring every template to REVISIONS, and put the label on LABELED."""
    for revision in range(2, REVISIONS + 1):
        say(f"makes revision {revision}")
        database.query("update templates set title = title || '.'")
        # The next one fills the place of what this one left.
        database.query("vacuum templates")
    database.query("update templates set labels = jsonb_build_object('production', %s)", [LABELED])
    # Makes a revision with the tools of the one before.
    database.query("update template_types set description = description || '.'")


def _filled(admin: Database, templates: int) -> Iterator[tuple[str, Database]]:
    say(f"fills three databases with {templates:,} templates")
    first = admin.new("revisions_1")
    migrate(first)
    content.fill(first, templates=templates, users=templates)
    # PostgreSQL copies only what nobody is connected to.
    first.close()
    copies = {name: admin.new(f"revisions_{n}", like=first.name) for n, name in enumerate((PLAIN, TWIN, MANY), 2)}
    revise(copies[MANY])
    for name, database in copies.items():
        database.settle()
        yield name, database


def _read(
    databases: dict[str, Database], folder: Path, cores: machine.Cores, options: Options
) -> dict[Kind, list[float]]:
    with ExitStack() as stack:
        channels = {}
        for name, database in databases.items():
            running = stack.enter_context(serve(database, {}, log=folder / "service.log", cores=cores.server))
            channels[name] = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{running.port}"))
        say(f"measures {options.rounds} rounds")
        try:
            return measured(calls(channels), options)
        except grpc.RpcError as error:
            raise ProgramError(str(error)) from None


def calls(channels: Mapping[str, grpc.Channel]) -> dict[Kind, Call]:
    """Answer all calls, in the order of a turn, to the servers of PLAIN, TWIN and MANY."""
    # A server that has just answered is quicker, so two calls in a row are to two servers.
    reads = {
        MANY: _calls(channels[MANY], REVISIONS),
        PLAIN: _calls(channels[PLAIN], 1),
        BY_LABEL: _calls(channels[MANY], LABELED, labels=["production"]),
        TWIN: _calls(channels[TWIN], 1),
        BY_NUMBER: _old_calls(channels[MANY]),
    }
    return {
        Kind(name, consistency, read): of_read[name]
        for name in reads[PLAIN]
        for consistency in FROM
        for read, of_read in reads.items()
        if name in of_read
    }


def measured(calls: Mapping[Kind, Call], options: Options) -> dict[Kind, list[float]]:
    """Answer the p50 of each kind in each round, in milliseconds."""
    found: dict[Kind, list[float]] = {kind: [] for kind in calls}
    few = min(CACHED_TEMPLATES, options.calls)
    # The first round warms up.
    for round in range(options.rounds + 1):
        milliseconds: dict[Kind, list[float]] = {kind: [] for kind in calls}
        for turn in range(round * options.calls, (round + 1) * options.calls):
            for kind, call in calls.items():
                # Prime, so that it divides no count that anybody asks for.
                number = 1 + turn * 7919 % (few if kind.consistency == DEFAULT else options.templates)
                start = time.perf_counter()
                call(number, kind.consistency)
                milliseconds[kind].append(1000 * (time.perf_counter() - start))
        if round:
            for kind, values in milliseconds.items():
                found[kind].append(percentile(sorted(values), 50))
    return found


def _calls(channel: grpc.Channel, revision: int, *, labels: Sequence[str] = ()) -> dict[str, Call]:
    """Answer calls that fail unless this revision comes."""
    templates, selections = TemplateServiceStub(channel), SelectionServiceStub(channel)

    def get(number: int, consistency: str) -> None:
        request = GetTemplateRequest(id=id_of("template", number), labels=labels)
        _same(templates.GetTemplate(request, **_how(consistency)), revision)

    def resolve(number: int, consistency: str) -> None:
        request = ResolveTemplateRequest(user_id=id_of("user", number), template_type=type_of(number), labels=labels)
        _same(selections.ResolveTemplate(request, **_how(consistency)).template, revision)

    def type_of(user: int) -> str:
        # As content.fill has it: the type of the template that the user selected.
        return f"bench-type-{1 + (1 + user) % TYPES}"

    def render(number: int, consistency: str) -> None:
        request = RenderTemplateRequest(id=id_of("template", number), labels=labels)
        _same(templates.RenderTemplate(request, **_how(consistency)).template, revision)

    def render_resolved(number: int, consistency: str) -> None:
        key = ResolutionKey(user_id=id_of("user", number), template_type=type_of(number))
        request = RenderTemplateRequest(resolve=key, labels=labels)
        _same(templates.RenderTemplate(request, **_how(consistency)).template, revision)

    return {
        "GetTemplate": get,
        "ResolveTemplate": resolve,
        RENDER_ID: render,
        "RenderTemplate, resolve": render_resolved,
    }


def _old_calls(channel: grpc.Channel) -> dict[str, Call]:
    templates = TemplateServiceStub(channel)

    def render(number: int, consistency: str) -> None:
        request = RenderTemplateRequest(id=id_of("template", number), revision=OLD, template_type_revision=OLD_TYPE)
        _same(templates.RenderTemplate(request, **_how(consistency)).template, OLD)

    return {RENDER_ID: render}


def _how(consistency: str) -> dict[str, Any]:
    return {"timeout": DEADLINE_SECONDS, "metadata": [(HEADER, consistency)]}


def _same(template: Template, revision: int) -> None:
    if template.revision != revision:
        raise ProgramError(f"revision {template.revision} of {template.id} came, and not {revision}")


def _text(result: Result) -> str:
    options = result.options
    parts = [
        "# Revisions\n",
        _METHOD.format(calls=options.calls, rounds=options.rounds, templates=options.templates),
        "".join(f"- {name}: {value}\n" for name, value in result.about.items()),
    ]
    if options.is_quick:
        parts.append("**This is a smoke run: nothing follows from its figures.**\n")
    parts += [rows(["call", "from", "read", "p50, ms", "ratio", "target", "verdict"], list(reads(result)))]
    return "\n".join([*parts, "## Disk\n", edits.table(result.disk)])


def reads(result: Result) -> Iterator[list[str]]:
    """Answer the rows of the table."""
    for kind, values in sorted(result.p50_ms.items(), key=lambda item: item[0][:2]):
        cells = [kind.call, FROM[kind.consistency], kind.read, f"{Spread.of(values).median:.2f}"]
        if kind.read == PLAIN:
            yield [*cells, "", "", ""]
            continue
        plain, twin = (result.p50_ms[kind._replace(read=read)] for read in (PLAIN, TWIN))
        ratio, noise = (Spread.of(a / b for a, b in zip(over, plain, strict=True)) for over in (values, twin))
        if kind.read == TWIN:
            yield [*cells, ratio.text(2), "", ""]
            continue
        judgement = verdict(
            ratio.median,
            floor=FLOOR,
            target=noise.high,
            lower_is_better=True,
            is_conclusive=not result.options.is_quick and twins_agree(noise),
        )
        yield [*cells, ratio.text(2), f"{noise.high:.2f}", f"{judgement} (lower is better)"]
