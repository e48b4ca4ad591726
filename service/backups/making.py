"""Makes a backup: of one snapshot, a dump and what must be there after it was restored."""

import time
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version

import structlog

from service.backups import catalog, manifest, programs, sealing
from service.backups.chunks import Measured
from service.backups.faults import BackupError
from service.backups.manifest import Encryption, File, Manifest, Table
from service.backups.sealing import Key
from service.backups.store import Store
from service.database import snapshots

_log = structlog.get_logger()


def create(store: Store, url: str, key: Key | None, now: datetime) -> Manifest:
    """Save the database as the role of the URL sees it, which is to own the tables, and return what was saved."""
    began = time.monotonic()
    name = catalog.new_name(now)
    try:
        with snapshots.held(url) as snapshot, store.writing(name) as writer:
            here = snapshot.place
            fitting = programs.fitting(url, here.postgresql)
            dump = Measured(_sealed(programs.dumped(fitting, snapshot.id, snapshot.namespace), key, name))
            writer.write(manifest.DUMP, dump)
            made = Manifest(
                format=manifest.FORMAT,
                name=name,
                release=version("omniflo-templates"),
                postgresql=here.postgresql,
                database=here.name,
                namespace=snapshot.namespace,
                schema_version=snapshot.schema_version,
                epoch=snapshot.epoch,
                start_time=snapshot.time,
                seconds=round(time.monotonic() - began, 3),
                tables={name: Table(**table._asdict()) for name, table in snapshot.tables.items()},
                files={manifest.DUMP: File(size=dump.size, sha256=dump.sha256)},
                encryption=None if key is None else Encryption(cipher=sealing.CIPHER, key=key.id),
            )
            writer.write(manifest.FILE, [made.encode()])
    except snapshots.UnfitError as error:
        raise BackupError(str(error)) from None
    _log.info("backup created", name=name, bytes=made.size, rows=made.rows, seconds=made.seconds)
    return made


def _sealed(plain: Iterator[bytes], key: Key | None, name: str) -> Iterator[bytes]:
    return plain if key is None else sealing.seal(plain, key, name)
