"""Where backups are kept: a folder, or S3."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

Contents = Mapping[str, Mapping[str, int]]
"""The sizes of the files of each backup, by their names."""


class Writer(Protocol):
    def write(self, file: str, data: Iterable[bytes]) -> None:
        """Write a file whole, or raise."""


class Store(Protocol):
    """Keeps named backups of a few files each. What it cannot do is a BackupError."""

    def contents(self) -> Contents: ...

    def read(self, name: str, file: str) -> Iterator[bytes]: ...

    def writing(self, name: str) -> AbstractContextManager[Writer]:
        """Write a new backup in the block, whose last file makes it one. When the block fails, nothing of it stays."""

    def note(self, name: str, file: str, data: bytes) -> None:
        """Write a small file beside the others of a backup, in place of the one that is there."""

    def delete(self, name: str) -> None: ...

    def sweep(self, before: datetime) -> None:
        """Remove what `contents` does not show of backups that somebody began to write before then."""
