"""PostgreSQL's own programs: which of them fit a server, and how they run."""

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from service.backups import chunks
from service.backups.faults import BackupError
from service.database import embedded, urls
from service.database.snapshots import LONGEST_SECONDS
from service.environment import of_postgresql

VERSION_SECONDS = 10.0
NAMES = ("pg_dump", "pg_restore", "psql")

_MOST_SAID = 1_000


class Programs(NamedTuple):
    """Programs of the version of a server, and how they reach it."""

    folder: Path
    conninfo: str
    environment: dict[str, str]


def fitting(url: str, postgresql: int) -> Programs:
    """Return the programs of that major version, of the embedded PostgreSQL or from the PATH; BackupError without them.

    Older ones refuse the server, and newer ones write what it does not understand.
    """
    environment = of_postgresql()
    folders = [*embedded.all_binaries(), *map(Path, environment["PATH"].split(os.pathsep))]
    found = {folder: version for folder in folders if (version := _version(folder, environment))}
    for folder, version in found.items():
        if version.partition(".")[0] == str(postgresql):
            conninfo, secrets = urls.without_secrets(url)
            if "sslpassword=" in conninfo:
                raise BackupError("PostgreSQL's programs take no sslpassword past their arguments, which all can see")
            return Programs(folder, conninfo, environment | secrets)
    others = ", ".join(f"{version} in {folder}" for folder, version in found.items())
    raise BackupError(
        f"the server is PostgreSQL {postgresql}, which takes {', '.join(NAMES)} of that version; found"
        f" {others or 'none'}: install the client programs of PostgreSQL {postgresql}, and add their folder to the PATH"
    )


def dumped(programs: Programs, snapshot: str, namespace: str) -> Iterator[bytes]:
    """Yield a dump of what a snapshot sees of a schema; BackupError at its end where it is not whole."""
    quoted = namespace.replace('"', '""')
    arguments = [
        *("--format=custom", "--compress=1", f"--snapshot={snapshot}", f'--schema="{quoted}"'),
        *("--lock-wait-timeout=30s", "--no-password", f"--dbname={programs.conninfo}"),
    ]
    with _running(programs, "pg_dump", arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as dump:
        while chunk := dump.stdout.read(chunks.SIZE):
            yield chunk
        dump.end()


def restored(
    programs: Programs, namespace: str, *, before: str, dump: Iterable[bytes], after: Callable[[], str]
) -> None:
    """Execute what a dump holds of a schema between other SQL, for the last of which is asked when all is executed.

    BackupError where something fails; nothing is executed after that.
    """
    into = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse", "--no-password"]
    of = ["--no-owner", "--no-privileges", f"--schema={namespace}", "--file=-"]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with _running(programs, "psql", [*into, f"--dbname={programs.conninfo}"], stdin=pipe, stdout=null) as psql:
        psql.feed([before.encode()])
        with _running(programs, "pg_restore", of, stdin=pipe, stdout=psql.stdin) as restore:
            try:
                restore.feed(dump)
                restore.end()
            except _FailedError as failed:
                # Where it could write no more, it is psql that knows why.
                psql.end()
                raise failed from None
        psql.feed([after().encode()])
        psql.end()


class _FailedError(BackupError):
    """A program has failed."""


class _Program:
    def __init__(self, name: str, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self.stdin: Any = process.stdin
        self.stdout: Any = process.stdout
        self._name = name
        self._process = process
        self._complaints = complaints

    def feed(self, data: Iterable[bytes]) -> None:
        """Write to its standard input; raise when it has ended before all was written."""
        for chunk in data:
            rest = memoryview(chunk)
            try:
                while rest:
                    rest = rest[self.stdin.write(rest) :]
            except BrokenPipeError:
                self.end()
                raise self._failure() from None

    def end(self) -> None:
        """Wait for its end, once it is told that nothing more comes; raise where it has failed."""
        if self.stdin is not None:
            self.stdin.close()
        if self._process.wait() != 0:
            raise self._failure()

    def _failure(self) -> _FailedError:
        self._complaints.seek(0)
        said = " ".join(self._complaints.read()[-_MOST_SAID:].decode(errors="replace").split())
        return _FailedError(f"{self._name} failed: {said or f'exit code {self._process.returncode}'}")


@contextmanager
def _running(programs: Programs, name: str, arguments: Sequence[str], **pipes: Any) -> Iterator[_Program]:
    """Run a program in the block, and kill it where the block leaves before its end."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603 - PostgreSQL's
            [programs.folder / name, *arguments],
            env=programs.environment,
            stderr=complaints,
            bufsize=0,
            **pipes,
        )
        watchdog = threading.Timer(LONGEST_SECONDS, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield _Program(name, process, complaints)
        finally:
            watchdog.cancel()
            process.kill()
            # Both ends of its pipes are of no use without it.
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            process.wait()


def _version(folder: Path, environment: Mapping[str, str]) -> str | None:
    """Return the version of the programs in a folder, if all of them are there."""
    if not all(os.access(folder / name, os.X_OK) for name in NAMES):
        return None
    try:
        said = subprocess.run(  # noqa: S603 - PostgreSQL's
            [folder / NAMES[0], "--version"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d+(\.\d+)?", said)
    return None if match is None else match[0]
