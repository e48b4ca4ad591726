"""Where the settings say that backups are kept, and by what key."""

from pathlib import Path

from service.backups.faults import BackupError
from service.backups.folder import Folder
from service.backups.sealing import Key, read_key
from service.backups.store import Store
from service.config import Settings, variable


def store(settings: Settings) -> Store:
    """Return where backups are; BackupError where the settings do not say it."""
    place = settings.backup_dir
    if place is None:
        raise BackupError(
            f"{variable('backup_dir')} is not set: set it to a folder, or to s3://bucket/prefix, in which backups are"
            " kept"
        )
    if not place.startswith("s3://"):
        return Folder(Path(place))
    # An extra, and slow to import.
    from service.backups.s3 import S3  # noqa: PLC0415

    return S3(place)


def key(settings: Settings) -> Key | None:
    """Return the key, if there is to be one; BackupError where it cannot be read."""
    return None if settings.backup_key_file is None else read_key(settings.backup_key_file)
