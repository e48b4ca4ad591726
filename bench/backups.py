"""How long a backup takes, and to verify it, which is to restore it and compare; and how large it is."""

import base64
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench import content, machine, programs
from bench.compare import postgres, say
from bench.content import Database
from bench.report import rows
from service.backups import catalog, making, restoring
from service.backups.folder import Folder
from service.backups.sealing import Key, read_key


class Options(NamedTuple):
    sizes: Sequence[int]


class Measure(NamedTuple):
    templates: int
    rows: int
    is_encrypted: bool
    database_bytes: int
    bytes: int
    create_seconds: float
    verify_seconds: float


def run(options: Options) -> list[Measure]:
    cores = machine.cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        server, admin = stack.enter_context(postgres(folder, cores, "-c", "max_wal_size=4GB"))
        machine.pin(server.pid, cores.all)
        path = folder / "key"
        path.write_bytes(base64.b64encode(os.urandom(32)))
        found = []
        for size in options.sizes:
            say(f"fills {size:,} templates")
            database = admin.new(f"backups_{size}")
            programs.run(
                [sys.executable, "-m", "service", "migrate", "up"], environment={"OMNIFLO_DATABASE_URL": database.url}
            )
            content.fill(database, templates=size, users=1_000)
            for key in (None, read_key(path)):
                measure = _measure(database, folder / f"backups of {size}", size, key)
                say(f"{size:,}: {measure.create_seconds:.1f} s, and {measure.verify_seconds:.1f} s to verify")
                found.append(measure)
            database.close()
            admin.drop(f"backups_{size}")
        return found


def write(measures: list[Measure], folder: Path) -> list[Path]:
    """Write the table into the folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "backups.md"
    table.write_text("\n".join(_text(measures)) + "\n")
    return [table]


def _measure(database: Database, folder: Path, templates: int, key: Key | None) -> Measure:
    ((size,),) = database.query("select pg_database_size(current_database())")
    store, now = Folder(folder), datetime.now(UTC)
    began = time.monotonic()
    made = making.create(store, database.url, key, now)
    done = time.monotonic()
    restoring.verify(store, catalog.find(store, made.name), database.url, key, now)
    return Measure(templates, made.rows, key is not None, size, made.size, done - began, time.monotonic() - done)


def _text(measures: list[Measure]) -> Iterator[str]:
    yield "# Backups\n"
    yield (
        "Templates of about 1.3 KB with their log, in an embedded PostgreSQL that shares two cores with the command,"
        " into a folder on the same disk. Each once.\n"
    )
    yield rows(
        ["templates", "rows", "encrypted", "database", "backup", "create", "verify"],
        [
            [
                f"{one.templates:,}",
                f"{one.rows:,}",
                "yes" if one.is_encrypted else "no",
                f"{one.database_bytes / 1e6:,.0f} MB",
                f"{one.bytes / 1e6:,.1f} MB",
                f"{one.create_seconds:,.1f} s",
                f"{one.verify_seconds:,.1f} s",
            ]
            for one in measures
        ],
    )
