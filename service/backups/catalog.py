"""Which backups there are, which of them are good, and which may go."""

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog

from service.backups import manifest
from service.backups.faults import BackupError, DamagedError
from service.backups.manifest import Manifest
from service.backups.store import Store

VERIFICATION = "verification.json"
"""Says when a backup was last verified, and what was found."""
LEAST = 3
"""How many of the good ones are kept, however old they are."""
LEFTOVER = timedelta(days=1)
"""After how long what somebody began to write is taken for left over."""
LATEST = "latest"

_NAME = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{6}(\.partial)?")
_TIME = "%Y%m%dT%H%M%SZ"

_log = structlog.get_logger()


class Backup(NamedTuple):
    name: str
    time: datetime
    """When it was begun, by the clock of who made it."""
    manifest: Manifest | None
    damage: str
    """What is known to be wrong with it; nothing of a good one."""
    verified: datetime | None
    """When it was last found to be good, if it was asked."""

    @property
    def is_good(self) -> bool:
        return not self.damage

    def required(self) -> Manifest:
        """Return the manifest of a good one; DamagedError of another."""
        if self.manifest is None or self.damage:
            raise DamagedError(f"the backup {self.name} is damaged: {self.damage}")
        return self.manifest


def new_name(now: datetime) -> str:
    """Return a name that sorts by time: the second, the milliseconds in it, and three random digits."""
    return f"{now.astimezone(UTC).strftime(_TIME)}-{now.microsecond // 1000:03x}{secrets.token_hex(2)[:3]}"


def newest_first(store: Store) -> Iterator[Backup]:
    """Yield all backups. What was never finished is none of them."""
    contents = store.contents()
    for name in sorted(contents, reverse=True):
        begun = _begun(name)
        if begun is not None and not _is_leftover(name, contents[name]):
            yield _described(store, name, begun, contents[name])


def find(store: Store, name: str) -> Backup:
    """Return the backup of that name, or the latest good one; BackupError where there is none."""
    for backup in newest_first(store):
        if backup.is_good if name == LATEST else backup.name == name:
            return backup
    raise BackupError("there is no good backup" if name == LATEST else f"there is no backup {name}")


def last_good(store: Store) -> Backup | None:
    return next((backup for backup in newest_first(store) if backup.is_good), None)


def note(store: Store, name: str, now: datetime, damage: str) -> None:
    """Keep with a backup what was found when it was verified."""
    store.note(name, VERIFICATION, json.dumps({"time": now.isoformat(), "damage": damage}).encode())


def prune(store: Store, days: int, now: datetime) -> list[str]:
    """Delete backups and return their names, the oldest first.

    Those go that were made so many days or longer before the last good one, but never the last three good ones: while
    no good one is made, none goes. What was begun and left a day ago goes as well.
    """
    backups = list(newest_first(store))
    good = [backup for backup in backups if backup.is_good]
    kept = {backup.name for backup in good[:LEAST]}
    gone = [
        backup.name
        for backup in reversed(backups)
        if good and backup.time <= good[0].time - timedelta(days=days) and backup.name not in kept
    ]
    for name in gone:
        store.delete(name)
        _log.info("backup deleted", name=name)
    _sweep(store, now - LEFTOVER)
    return gone


def _sweep(store: Store, before: datetime) -> None:
    contents = store.contents()
    for name in sorted(contents):
        begun = _begun(name)
        if begun is not None and _is_leftover(name, contents[name]) and begun < before:
            store.delete(name)
            _log.info("leftover deleted", name=name)
    store.sweep(before)


def _begun(name: str) -> datetime | None:
    """Return when a backup of that name was begun; None for a name that no backup can have."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _is_leftover(name: str, sizes: Mapping[str, int]) -> bool:
    return manifest.FILE not in sizes or name.endswith(".partial")


def _described(store: Store, name: str, time: datetime, sizes: Mapping[str, int]) -> Backup:
    try:
        found = manifest.decode(b"".join(store.read(name, manifest.FILE)), name)
    except DamagedError as damaged:
        return Backup(name, time, None, str(damaged), None)
    for file, entry in found.files.items():
        if sizes.get(file) != entry.size:
            damage = f"{file} has {sizes[file]} bytes of {entry.size}" if file in sizes else f"{file} is missing"
            return Backup(name, time, found, damage, None)
    damage, verified = _verification(store, name) if VERIFICATION in sizes else ("", None)
    return Backup(name, time, found, damage, verified)


def _verification(store: Store, name: str) -> tuple[str, datetime | None]:
    try:
        noted = json.loads(b"".join(store.read(name, VERIFICATION)))
        return str(noted["damage"]), None if noted["damage"] else datetime.fromisoformat(noted["time"])
    except (ValueError, LookupError, TypeError):
        # Whoever was to write it did not come to an end. It is a note, and no part of the backup.
        return "", None
