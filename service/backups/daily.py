"""What is to be done every day: a backup is made, verified, and old ones go."""

from datetime import UTC, datetime
from typing import NamedTuple

from service.backups import catalog, kept, making, restoring
from service.config import Settings
from service.database.locations import located


class Summary(NamedTuple):
    """What was done."""

    name: str
    """Of the backup."""
    bytes: int
    rows: int
    deleted: list[str]
    """The names of the older ones that went."""


def run(settings: Settings, now: datetime | None = None) -> Summary:
    """Make a backup, verify it, and only then delete old ones; BackupError or `errors.Error` where that fails."""
    now = now or datetime.now(UTC)
    store, key = kept.store(settings), kept.key(settings)
    with located(settings) as (_, owner, _):
        # What could never be verified is not even made.
        restoring.require_databases(owner, now)
        made = making.create(store, owner, key, now)
        restoring.verify(store, catalog.find(store, made.name), owner, key, now)
    deleted = catalog.prune(store, settings.backup_days, now)
    return Summary(made.name, made.size, made.rows, deleted)
