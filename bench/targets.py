"""What is measured: one line a target. Add a variant of the service with a line of TARGETS."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import programs
from bench.content import Database
from bench.figures import Bound, Shape
from bench.machine import Cores
from bench.programs import ProgramError, Running
from bench.works import GET, LIST, RENDER, RESOLVE
from service.config import PREFIX, Settings

EIGHT = Shape(8, 1)
ONE = Shape(1, 32)
MANY = Shape(32, 1)

PEERS = Path(__file__).parent / "peers"


class Absent(Exception):  # noqa: N818 - it is no error: the table names what is absent, and why
    """A target cannot be had here; the message says why."""


class Place(NamedTuple):
    """Where targets run and what they read."""

    cores: Cores
    folder: Path
    """For logs, and for the answer of the echo."""
    postgres: int
    """Its pid."""
    service: Database
    seed: Database

    @property
    def answer(self) -> Path:
        return self.folder / "answer"

    def cores_of(self, target: "Target") -> tuple[int, ...]:
        return self.cores.all if target.uses_all_cores else self.cores.server


@dataclass(frozen=True)
class Target:
    name: str
    start: Callable[["Target", Place], AbstractContextManager[Running]]
    works: tuple[str, ...]
    shapes: tuple[Shape, ...] = (EIGHT, ONE)
    uses_all_cores: bool = False
    """Whether server, load and PostgreSQL share all cores; otherwise the server has one to itself."""
    is_peer: bool = False
    """Whether a machine may do without it."""


def echo(name: str) -> Target:
    def start(target: Target, place: Place) -> AbstractContextManager[Running]:
        return programs.running(
            [sys.executable, "-m", "bench.echo", str(place.answer)],
            serves=r"^listening (\d+)$",
            log=_log(target, place),
            cores=place.cores_of(target),
        )

    return Target(name, start, (GET,))


def service(
    name: str,
    environment: Mapping[str, str],
    *,
    works: tuple[str, ...],
    shapes: tuple[Shape, ...] = (EIGHT, ONE),
    all_cores: bool = False,
    needs: str = "",
) -> Target:
    """Answer a variant of the service; it is absent while the service has no setting that it needs."""

    def start(target: Target, place: Place) -> AbstractContextManager[Running]:
        if needs and needs not in Settings.model_fields:
            raise Absent(f"the service has no {PREFIX}{needs.upper()}")
        return serve(place.service, environment, log=_log(target, place), cores=place.cores_of(target))

    return Target(name, start, works, shapes, all_cores)


def serve(
    database: Database, environment: Mapping[str, str], *, log: Path, cores: tuple[int, ...]
) -> AbstractContextManager[Running]:
    """Run the service on a migrated database: one process and no authentication, unless the environment says so."""
    return programs.running(
        [sys.executable, "-m", "service", "serve"],
        serves=r"^Serving on 127\.0\.0\.1:(\d+)\.",
        log=log,
        cores=cores,
        environment={
            "OMNIFLO_DATABASE_URL": database.url,
            "OMNIFLO_LISTEN": "127.0.0.1:0",
            "OMNIFLO_AUTH": "none",
            "OMNIFLO_WORKERS": "1",
            "OMNIFLO_WORK": "off",
            **environment,
        },
    )


def peer(name: str, kind: str, *, processes: int = 1, shapes: tuple[Shape, ...] = (EIGHT, ONE)) -> Target:
    def start(target: Target, place: Place) -> AbstractContextManager[Running]:
        _install_peers()
        return programs.running(
            ["node", str(PEERS / "server.js"), kind, place.seed.socket_folder, place.seed.name, str(processes)],
            serves=r"^listening (\d+)$",
            log=_log(target, place),
            cores=place.cores_of(target),
            environment={"NODE_ENV": "production"},
        )

    works = (GET,) if processes > 1 else (GET, LIST)
    return Target(name, start, works, shapes, uses_all_cores=processes > 1, is_peer=True)


def targets(cores: int) -> tuple[Target, ...]:
    """Answer all targets, for a machine with so many cores."""
    cached = (GET, RESOLVE, RENDER)
    return (
        echo("echo"),
        service("service, cache off", {"OMNIFLO_CACHE_MB": "0"}, works=(GET, RESOLVE, RENDER, LIST)),
        service("service, cached", {}, works=cached, needs="cache_mb"),
        service(
            MEASURED,
            {"OMNIFLO_METRICS_LISTEN": "127.0.0.1:0"},
            works=(GET,),
            shapes=(EIGHT,),
            needs="metrics_listen",
        ),
        peer("Prisma as the seed writes it", "prisma"),
        peer("Prisma with relationJoins", "joins"),
        peer("plain pg", "pg"),
        echo("echo's twin"),
        service("service, cached, one worker", {}, works=(GET,), shapes=(MANY,), all_cores=True, needs="cache_mb"),
        service(
            "service, cached, two workers",
            {"OMNIFLO_WORKERS": "2"},
            works=(GET,),
            shapes=(MANY,),
            all_cores=True,
            needs="cache_mb",
        ),
        service(
            "service, cached, all cores",
            {"OMNIFLO_WORKERS": str(cores)},
            works=(GET,),
            shapes=(MANY,),
            all_cores=True,
            needs="cache_mb",
        ),
        peer("plain pg, all cores", "pg", processes=cores, shapes=(MANY,)),
    )


ECHO = "echo"
TWIN = "echo's twin"
CACHED = "service, cached"
MEASURED = "service, cached, with metrics"
MEMORY_OF = ("service, cache off", CACHED)
"""The targets whose memory is measured with one template read and with many; the bound is on the second."""

BOUNDS = (
    Bound("GetTemplate, cache off / echo", ("service, cache off", GET), (ECHO, GET), 0.50, 0.70),
    Bound(
        "GetTemplate, cache off / Prisma as the seed writes it",
        ("service, cache off", GET),
        ("Prisma as the seed writes it", GET),
        2.0,
        3.0,
    ),
    Bound(
        "GetTemplate, cache off / Prisma with relationJoins",
        ("service, cache off", GET),
        ("Prisma with relationJoins", GET),
        1.2,
        2.0,
    ),
    Bound("ResolveTemplate, cache off / echo", ("service, cache off", RESOLVE), (ECHO, GET), 0.35, 0.60),
    Bound("RenderTemplate, cache off / echo", ("service, cache off", RENDER), (ECHO, GET), 0.35, 0.60),
    Bound(
        "ListTemplates of 20, cache off / Prisma as the seed writes it",
        ("service, cache off", LIST),
        ("Prisma as the seed writes it", LIST),
        1.1,
        2.0,
    ),
    Bound("GetTemplate, cached / echo", ("service, cached", GET), (ECHO, GET), 0.75, 1.0),
    Bound("GetTemplate, cached, with metrics / without", (MEASURED, GET), (CACHED, GET), 0.95, 1.0, shapes=(EIGHT,)),
    Bound("ResolveTemplate, cached / echo", ("service, cached", RESOLVE), (ECHO, GET), 0.75, 1.0),
    Bound("RenderTemplate, cached / echo", ("service, cached", RENDER), (ECHO, GET), 0.75, 1.0),
    Bound(
        "GetTemplate, cached, all cores / plain pg on grpc-js, as many processes",
        ("service, cached, all cores", GET),
        ("plain pg, all cores", GET),
        0.8,
        1.2,
        shapes=(MANY,),
    ),
    Bound(
        "two workers / one, cached",
        ("service, cached, two workers", GET),
        ("service, cached, one worker", GET),
        1.6,
        1.9,
        shapes=(MANY,),
    ),
    Bound(
        "p99 of GetTemplate, cached / p99 of the echo",
        ("service, cached", GET),
        (ECHO, GET),
        1.5,
        1.1,
        metric="p99_ms",
        lower_is_better=True,
    ),
)

MEMORY_FLOOR_MB = 64.0
MEMORY_TARGET_MB = 32.0


def _install_peers() -> None:
    """Install what the peers need, unless it is there, and generate Prisma's clients; Absent when that cannot be."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Absent(f"there is no {program}")
    lock, installed = PEERS / "package-lock.json", PEERS / "node_modules" / ".installed"
    sources = (lock, PEERS / "schema.prisma")
    if installed.exists() and all(source.stat().st_mtime <= installed.stat().st_mtime for source in sources):
        return
    try:
        # Scripts of packages would download engines that nothing here needs.
        programs.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=PEERS)
        _generate(PEERS / "schema.prisma")
        # Two generators in one schema would share their preview features, so this one has a schema of its own.
        joins = PEERS / "generated" / "joins.prisma"
        joins.write_text(
            (PEERS / "schema.prisma")
            .read_text()
            .replace('"./generated/seed"', '"./joins"\n  previewFeatures = ["relationJoins"]')
        )
        _generate(joins)
    except ProgramError as error:
        raise Absent(f"it could not be installed: {error}") from None
    installed.touch()


def _generate(schema: Path) -> None:
    programs.run(
        [str(PEERS / "node_modules" / ".bin" / "prisma"), "generate", "--schema", str(schema)],
        cwd=PEERS,
        environment={"PRISMA_SCHEMA_ENGINE_BINARY": str(PEERS / "schema-engine"), "CHECKPOINT_DISABLE": "1"},
    )


def node_version() -> str:
    node = shutil.which("node")
    if node is None:
        return "absent"
    return subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def _log(target: Target, place: Place) -> Path:
    return place.folder / f"{target.name.replace(' ', '-')}.log"
