"""Restores a backup: into the database that it is for, or for a moment into another one, to see that it can be."""

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog

from service.backups import catalog, manifest, programs, sealing
from service.backups.catalog import Backup
from service.backups.chunks import Measured
from service.backups.faults import BackupError, DamagedError
from service.backups.manifest import Manifest
from service.backups.sealing import Key
from service.backups.store import Store
from service.config import variable
from service.database import grants, migrate, restores, snapshots

_SCRATCH = "omniflo_scratch_"
"""Begins the names of databases in which backups are verified; the time follows."""
_TIME = "%Y%m%d%H%M%S"

_log = structlog.get_logger()


def verify(store: Store, backup: Backup, url: str, key: Key | None, now: datetime) -> Manifest:
    """Restore a backup into a database that is made for it beside the one of the URL, and dropped afterwards.

    What was found is kept with the backup; DamagedError where it is not as it was made.
    """
    began = time.monotonic()
    require_databases(url, now)
    try:
        saved = _whole(store, backup._replace(damage="") if backup.manifest else backup, key)
        with snapshots.scratch(url, f"{_SCRATCH}{now.astimezone(UTC):{_TIME}}_{secrets.token_hex(3)}") as scratch:
            _restore(store, saved, scratch, key, role=None, replaces=False)
    except DamagedError as damaged:
        _log.error("backup damaged", name=backup.name, damage=str(damaged))
        if backup.manifest is not None:
            catalog.note(store, backup.name, now, str(damaged))
        raise
    catalog.note(store, backup.name, now, "")
    _log.info("backup verified", name=backup.name, rows=saved.rows, seconds=round(time.monotonic() - began, 3))
    return saved


def restore(
    store: Store, backup: Backup, url: str, key: Key | None, *, role: str | None, replaced: str | None
) -> Manifest:
    """Restore a good backup into the database of the URL, all or nothing, and let its log begin another epoch.

    The database is to be empty, or its name is to be given as the one to be `replaced`. A `role` is given what it needs
    to serve, unless migrations are still to be applied.
    """
    began = time.monotonic()
    with snapshots.opened(url) as connection:
        place = snapshots.place(connection)
    if replaced is not None and replaced != place.name:
        raise BackupError(f"--replace names {replaced}, and the database is {place.name}: nothing was restored")
    if not place.is_empty and replaced is None:
        raise BackupError(
            f"the database {place.name} is not empty: add --replace {place.name} if all that is in it is to be deleted"
        )
    saved = _whole(store, backup, key)
    _restore(store, saved, url, key, role=role, replaces=replaced is not None)
    _log.info("backup restored", name=saved.name, rows=saved.rows, seconds=round(time.monotonic() - began, 3))
    return saved


def require_databases(url: str, now: datetime) -> None:
    """Raise where the role may make none to verify backups in, and drop those that were left over."""
    before = f"{_SCRATCH}{now.astimezone(UTC) - catalog.LEFTOVER:{_TIME}}"
    with snapshots.opened(url) as connection:
        if not snapshots.may_make_databases(connection):
            role = grants.role_of(url) or "of the database's URL"
            raise BackupError(
                f"the role {role} may not make a database to verify backups in: run `alter role {role} createdb`"
            )
        for name in snapshots.databases(connection, _SCRATCH):
            if name < before:
                snapshots.drop(connection, name)


def _whole(store: Store, backup: Backup, key: Key | None) -> Manifest:
    """Return the manifest of a backup once all its files are known to be as they were written."""
    saved = backup.required()
    _require_key(saved, key)
    for file, entry in saved.files.items():
        found = Measured(store.read(saved.name, file))
        for _ in found:
            pass
        if (found.size, found.sha256) != (entry.size, entry.sha256):
            raise DamagedError(f"{file} is not as it was written")
    return saved


def _require_key(saved: Manifest, key: Key | None) -> None:
    name = variable("backup_key_file")
    if saved.encryption is None and key is not None:
        raise BackupError(
            f"the backup {saved.name} is not encrypted, and {name} is set: somebody without the key may have made it."
            f" Unset {name} if you know where it is from"
        )
    if saved.encryption is not None and key is None:
        raise BackupError(f"the backup {saved.name} is encrypted: set {name} to the file with the key")
    if saved.encryption is not None and key is not None and saved.encryption.key != key.id:
        raise BackupError(
            f"the backup {saved.name} is encrypted with another key: {saved.encryption.key}, and {name} has {key.id}"
        )


def _restore(store: Store, saved: Manifest, url: str, key: Key | None, *, role: str | None, replaces: bool) -> None:
    with snapshots.opened(url) as connection:
        place = snapshots.place(connection)
        if place.postgresql < saved.postgresql:
            raise BackupError(
                f"the backup {saved.name} is of PostgreSQL {saved.postgresql}, and the server is {place.postgresql}"
            )
        if place.namespace not in {None, saved.namespace}:
            raise BackupError(
                f"the backup {saved.name} is of the schema {saved.namespace}, and the database's URL leads to"
                f" {place.namespace}"
            )
        # An older schema has not all that there are rights for, and gets them when it is migrated.
        is_current = saved.schema_version >= len(migrate.load())
        rights = grants.statements(connection, role) if role is not None and is_current else []
    dump = Measured(store.read(saved.name, manifest.DUMP))

    def after() -> str:
        if dump.sha256 != saved.files[manifest.DUMP].sha256:
            raise DamagedError(f"{manifest.DUMP} changed while it was read")
        return restores.after(
            saved.epoch, {name: (table.rows, table.checksum) for name, table in saved.tables.items()}, rights
        )

    try:
        programs.restored(
            programs.fitting(url, place.postgresql),
            saved.namespace,
            before=restores.before(saved.namespace, replaces=replaces),
            dump=_plain(dump, key, saved.name),
            after=after,
        )
    except BackupError as error:
        if restores.DIFFERS in str(error):
            raise DamagedError(str(error)) from None
        raise


def _plain(data: Measured, key: Key | None, name: str) -> Iterator[bytes]:
    return iter(data) if key is None else sealing.unseal(data, key, name)
