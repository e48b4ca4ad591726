"""How calls slow down with the number of templates: one caller, one call at a time, on ever larger databases."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date

from bench import content, machine, searches
from bench.compare import migrate, postgres, say
from bench.content import MODELS, TYPES, Database, id_of
from bench.figures import percentile, verdict
from bench.programs import ProgramError
from bench.report import rows
from bench.targets import serve
from omniflo.templates.v1.selection_service_pb2 import ResolveTemplateRequest
from omniflo.templates.v1.selection_service_pb2_grpc import SelectionServiceStub
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    CreateTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    RenderTemplateRequest,
    ResolutionKey,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from service.operations.listing import Page
from service.servicers import pages

PAGE_SIZE = 50
WARM_CALLS = 10
DEADLINE_SECONDS = 30.0

FIRST_PAGE = f"list: first page of {PAGE_SIZE}"
LATE_PAGE = "list: page at 90 % of the walk"
FLOOR, TARGET = 2.0, 1.2
"""How many times the first page of the smallest table a late page of the largest one may take."""
SEARCH_FLOOR, SEARCH_TARGET = 5.0, 2.0
"""How many times what a search for an ordinary word takes another search may take, in the same table."""

_METHOD = """One caller, one call at a time, {calls} calls of each kind, by turns. In brackets: how many times what it
is with {first:,} templates.
"""


class Times(NamedTuple):
    p50_ms: float
    p99_ms: float


class Options(NamedTuple):
    sizes: Sequence[int]
    """How many templates there are."""
    users: int
    """How many users there are, each with a selection."""
    calls: int
    """How many calls of each kind are measured."""
    is_quick: bool


class Result(NamedTuple):
    about: dict[str, str]
    options: Options
    times: dict[int, dict[str, Times]]
    """Of each kind of call, by the number of templates."""


Call = Callable[[int], object]
"""Makes the call of that number, which asks for something else than the one before it."""


def run(options: Options) -> Result:
    """Measure every size, each in a database of its own."""
    cores = machine.cores()
    about = {
        **machine.describe(),
        "cores are shared out": str(cores),
        "users, each with a selection": f"{options.users:,}",
        "cache": "off: what grows is the database",
    }
    machine.stay_on(cores.others)
    times: dict[int, dict[str, Times]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        # Checkpoints of the filling would otherwise be measured.
        _, admin = stack.enter_context(postgres(folder, cores, "-c", "max_wal_size=4GB"))
        about["postgresql"] = admin.query("show server_version")[0][0]
        for size in sorted(set(options.sizes)):
            database = admin.new(f"growth_{size}")
            stack.callback(database.close)
            say(f"fills a database with {size:,} templates")
            start = time.monotonic()
            migrate(database)
            content.fill(
                database,
                templates=size,
                users=options.users,
                rare=searches.RARE_TEXTS,
                common=searches.COMMON_TEXTS,
            )
            say(f"took {time.monotonic() - start:.0f} s; measures")
            log = folder / "service.log"
            with (
                serve(database, {"OMNIFLO_CACHE_MB": "0"}, log=log, cores=cores.server) as running,
                grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
            ):
                try:
                    times[size] = _measured(database, channel, size, options)
                except grpc.RpcError as error:
                    raise ProgramError(f"with {size:,} templates: {error}") from None
            # The next one needs the room.
            database.close()
            admin.drop(database.name)
    return Result(about, options, times)


def write(result: Result, folder: Path) -> list[Path]:
    """Write the raw figures and the table into the folder, and answer the files."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, table = folder / "growth.json", folder / "growth.md"
    times = {size: {name: times._asdict() for name, times in found.items()} for size, found in result.times.items()}
    raw.write_text(
        json.dumps({"about": result.about, "options": result.options._asdict(), "times": times}, indent=1) + "\n"
    )
    table.write_text(_text(result))
    return [raw, table]


def _measured(database: Database, channel: grpc.Channel, size: int, options: Options) -> dict[str, Times]:
    """Answer the times of each kind of call; reads first, so that none is measured beside a write's work."""
    found: dict[str, Times] = {}
    for kinds in (_reads(database, channel, size, options.users), _writes(channel, options.users)):
        milliseconds: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(WARM_CALLS + options.calls):
            # By turns, so that an unquiet moment hits all kinds.
            for name, call in kinds.items():
                start = time.perf_counter()
                call(number)
                took = 1000 * (time.perf_counter() - start)
                if number >= WARM_CALLS:
                    milliseconds[name].append(took)
        for name, values in milliseconds.items():
            values.sort()
            found[name] = Times(percentile(values, 50), percentile(values, 99))
    return found


def _reads(database: Database, channel: grpc.Channel, size: int, users: int) -> dict[str, Call]:
    templates, selections = TemplateServiceStub(channel), SelectionServiceStub(channel)
    template_ids = _ids("template", size)
    user_numbers = itertools.cycle(range(1, users + 1))
    tokens = itertools.cycle(_tokens(database, size))

    def listing(**filters: Any) -> Call:
        def call(number: int) -> object:
            del number
            found = templates.ListTemplates(
                ListTemplatesRequest(page_size=PAGE_SIZE, **filters), timeout=DEADLINE_SECONDS
            )
            return _some(found.templates)

        return call

    def late(number: int) -> object:
        del number
        request = ListTemplatesRequest(page_size=PAGE_SIZE, page_token=next(tokens))
        return _some(templates.ListTemplates(request, timeout=DEADLINE_SECONDS).templates)

    def get(number: int) -> object:
        del number
        return templates.GetTemplate(GetTemplateRequest(id=next(template_ids)), timeout=DEADLINE_SECONDS)

    def key() -> tuple[str, str]:
        user = next(user_numbers)
        # As content.fill has it: the type of the template that the user selected.
        return id_of("user", user), f"bench-type-{1 + (1 + user % size) % TYPES}"

    def resolve(number: int) -> object:
        del number
        user_id, template_type = key()
        request = ResolveTemplateRequest(user_id=user_id, template_type=template_type)
        return selections.ResolveTemplate(request, timeout=DEADLINE_SECONDS)

    def render(number: int) -> object:
        del number
        user_id, template_type = key()
        request = RenderTemplateRequest(resolve=ResolutionKey(user_id=user_id, template_type=template_type))
        return templates.RenderTemplate(request, timeout=DEADLINE_SECONDS)

    return {
        "get": get,
        "resolve": resolve,
        "render": render,
        FIRST_PAGE: listing(),
        LATE_PAGE: late,
        f"list: template_type, 1 in {TYPES}": listing(template_type="bench-type-2"),
        f"list: model, 1 in {MODELS}": listing(model="bench-model-2"),
        "list: user_id": listing(user_id=id_of("user", 2)),
        f"list: is_default, {TYPES} in all": listing(is_default=True),
        "list: not is_default": listing(is_default=False),
        f"list: model_shutting_down_before, 1 in {MODELS}": listing(
            model_shutting_down_before=Date(year=2099, month=2, day=1)
        ),
        **{name: listing(query=query) for name, query in searches.QUERIES.items()},
    }


def _writes(channel: grpc.Channel, users: int) -> dict[str, Call]:
    templates = TemplateServiceStub(channel)
    # Two of one type, which take the default from each other.
    rivals = itertools.cycle([id_of("template", number) for number in (TYPES + 1, 2 * TYPES + 1)])

    def create(number: int) -> object:
        body = Template(
            title=f"Created {number}",
            instructions="Extract the total of each invoice.",
            user_id=id_of("user", 1 + number % users),
            template_type=f"bench-type-{1 + number % TYPES}",
            model="bench-model-1",
        )
        return templates.CreateTemplate(CreateTemplateRequest(template=body), timeout=DEADLINE_SECONDS)

    def switch(number: int) -> object:
        del number
        request = UpdateTemplateRequest(
            template=Template(id=next(rivals), is_default=True), update_mask=FieldMask(paths=["is_default"])
        )
        return templates.UpdateTemplate(request, timeout=DEADLINE_SECONDS)

    return {"create": create, "switch the default": switch}


def _ids(kind: str, count: int) -> Iterator[str]:
    """Answer ids of rows from all over the table, without an end."""
    # Prime, so that it divides no count that anybody asks for.
    return (id_of(kind, 1 + number * 7919 % count) for number in itertools.count())


def _tokens(database: Database, size: int) -> list[str]:
    """Answer page tokens at 90 % of the walk, made as the service makes them: walking there would take an hour."""
    keys = database.query(
        "select create_time, id from templates order by create_time desc, id desc offset %s limit 20",
        [size * 9 // 10],
    )
    request = ListTemplatesRequest()
    return [pages.token(request, Page([], key)) for key in keys]


def _some(found: Sequence[object]) -> Sequence[object]:
    """Fail when nothing was found: what is quick because it finds nothing is no figure."""
    if not found:
        raise ProgramError("a list that should have templates has none")
    return found


def _text(result: Result) -> str:
    first, last = min(result.times), max(result.times)
    parts = [
        "# Growth\n",
        _METHOD.format(calls=result.options.calls, first=first),
        "".join(f"- {name}: {value}\n" for name, value in result.about.items()),
    ]
    if result.options.is_quick:
        parts.append("**This is a smoke run: nothing follows from its figures.**\n")
    head = ["call", *(f"{size:,}: {name}, ms" for size in result.times for name in ("p50", "p99"))]
    body = [
        [name, *itertools.chain.from_iterable(_cells(result, size, name, first) for size in result.times)]
        for name in result.times[first]
    ]
    late = result.times[last][LATE_PAGE].p50_ms / result.times[first][FIRST_PAGE].p50_ms
    slowest = max(
        result.times[size][name].p50_ms / result.times[size][word].p50_ms
        for size in result.times
        for name, word in searches.ORDINARY.items()
    )
    bounds = [
        _bound(result, f"page at 90 % of {last:,} / first page of {first:,}, p50", late, FLOOR, TARGET),
        _bound(result, "slowest search / the same for an ordinary word, p50", slowest, SEARCH_FLOOR, SEARCH_TARGET),
    ]
    return "\n".join([*parts, rows(["comparison", "ratio", "floor", "target", "verdict"], bounds), rows(head, body)])


def _bound(result: Result, comparison: str, ratio: float, floor: float, target: float) -> list[str]:
    judgement = verdict(
        ratio, floor=floor, target=target, lower_is_better=True, is_conclusive=not result.options.is_quick
    )
    return [comparison, f"{ratio:.2f}", f"{floor:g}", f"{target:g}", f"{judgement} (lower is better)"]


def _cells(result: Result, size: int, name: str, first: int) -> list[str]:
    base, times = result.times[first][name], result.times[size][name]
    if size == first:
        return [f"{value:.2f}" for value in times]
    return [f"{value:.2f} ({value / against:.1f} x)" for value, against in zip(times, base, strict=True)]
