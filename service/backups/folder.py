"""Backups in a folder, a subfolder each. Nobody else can read them."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from service.backups import chunks
from service.backups.faults import BackupError
from service.backups.store import Contents

PARTIAL = ".partial"
"""Ends the name of one that is being written, or deleted."""


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def contents(self) -> Contents:
        with _told(self._path):
            if not self._path.exists():
                return {}
            return {
                entry.name: _sizes(entry) for entry in os.scandir(self._path) if entry.is_dir(follow_symlinks=False)
            }

    def read(self, name: str, file: str) -> Iterator[bytes]:
        path = self._path / name / file
        with _told(path), path.open("rb") as stream:
            while chunk := stream.read(chunks.SIZE):
                yield chunk

    @contextmanager
    def writing(self, name: str) -> Iterator["_Writer"]:
        partial = self._path / f"{name}{PARTIAL}"
        with _told(self._path):
            # Not what it is in: that may be on a disk that is not mounted.
            self._path.mkdir(mode=0o700, exist_ok=True)
            partial.mkdir(mode=0o700)
        try:
            yield _Writer(partial)
            with _told(self._path):
                _flush(partial)
                partial.rename(self._path / name)
                _flush(self._path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def note(self, name: str, file: str, data: bytes) -> None:
        folder = self._path / name
        _Writer(folder).write(f"{file}{PARTIAL}", [data])
        with _told(folder):
            (folder / f"{file}{PARTIAL}").replace(folder / file)
            _flush(folder)

    def delete(self, name: str) -> None:
        path, partial = self._path / name, self._path / f"{name.removesuffix(PARTIAL)}{PARTIAL}"
        with _told(path):
            # From here on it is none, however long the rest takes.
            path.rename(partial)
            shutil.rmtree(partial)

    def sweep(self, before: datetime) -> None:
        """Do nothing: `contents` shows all that is there."""


class _Writer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, file: str, data: Iterable[bytes]) -> None:
        path = self._folder / file
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with _told(path), os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as stream:
            for chunk in data:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())


def _sizes(folder: os.DirEntry[str]) -> dict[str, int]:
    # Somebody may be deleting it.
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
    return {}


def _flush(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None
