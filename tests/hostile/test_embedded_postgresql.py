"""What other users of the machine, and PostgreSQL itself, can do where there is an embedded PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest

from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ProvisionUserRequest
from service.database import accounts, embedded, handle, migrate
from service.database.accounts import EmbeddedError
from tests.conftest import ROOT, Database
from tests.e2e.clients import connected
from tests.e2e.serving import eventually, serving

SECRET = "sk-of-nobody-else"  # noqa: S105 - it opens nothing
SETPRIV = shutil.which("setpriv") or ""
STRANGERS = {"nobody": pwd.getpwnam("nobody").pw_uid, "another user": 23_456}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can try what other users can do"),
    pytest.mark.waiting,
]


class Running(NamedTuple):
    """An embedded PostgreSQL of a service that root has started."""

    data_dir: Path
    socket_dir: Path
    pid: int
    service: int

    def url(self, role: str) -> str:
        return f"postgresql://{role}@/postgres?host={self.socket_dir}"


def as_user(uid: int, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without any right of root's."""
    change = [SETPRIV, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
    return subprocess.run(
        [*change, *command], capture_output=True, text=True, timeout=60, check=False, cwd="/", **options
    )


def python(uid: int, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return as_user(uid, sys.executable, "-c", code, *map(str, arguments))


def found(data_dir: Path) -> Running:
    lines = (data_dir / "postgresql" / "postmaster.pid").read_text().splitlines()
    stat = Path(f"/proc/{lines[0]}/stat").read_text()
    return Running(data_dir, Path(lines[4]), int(lines[0]), int(stat.rpartition(")")[2].split()[1]))


@contextmanager
def an_open_folder() -> Iterator[Path]:
    """Make a folder that everybody can walk to."""
    with tempfile.TemporaryDirectory(prefix="omniflo test ") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with an_open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A service with an embedded PostgreSQL, in a folder that everybody can walk to."""
    with an_open_folder() as folder, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_API_KEY", SECRET)
        with serving("", folder / "log", data_dir=folder / "data") as service, connected(service.address) as api:
            assert api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_1")).id
            yield found(folder / "data")


CONNECT = """
import psycopg2, sys
try:
    psycopg2.connect(sys.argv[1])
except psycopg2.OperationalError as error:
    sys.exit(str(error))
print("connected")
"""

READ = """
import os, sys
pids = [name for name in os.listdir("/proc") if name.isdigit()]
places = [f"/proc/{pid}/{name}" for pid in pids for name in ("environ", "mem")]
for place in [*sys.argv[1:], *places]:
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            found = os.open(place, flags)
        except OSError:
            continue
        if place in sys.argv or place.split("/")[2] != str(os.getpid()):
            print(place)
        os.close(found)
    if os.path.isdir(place):
        try:
            print(place, os.listdir(place))
        except OSError:
            pass
"""


@pytest.mark.parametrize("role", ["omniflo", "postgres"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_other_user_connects(running: Running, stranger: str, role: str) -> None:
    assert not python(STRANGERS[stranger], CONNECT, running.url(role)).stdout


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_other_user_reads_or_writes_anything_of_it(running: Running, stranger: str) -> None:
    data, server = running.data_dir / "postgresql", Path(f"/proc/{running.pid}")
    places = [data, *data.iterdir(), running.socket_dir, *running.socket_dir.iterdir()]
    places += [running.socket_dir.parent / name for name in ("hba.conf", "ident.conf")]
    places += [server / name for name in ("environ", "mem", "cwd", "root", "fd")]
    assert python(STRANGERS[stranger], READ, *places).stdout == ""


def test_it_is_a_user_of_its_own_without_a_capability_or_a_secret(running: Running) -> None:
    status = Path(f"/proc/{running.pid}/status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
    (uid,), (gid,) = set(fields["Uid"]), set(fields["Gid"])
    assert 0 < int(uid) not in {user.pw_uid for user in pwd.getpwall()}
    assert gid == uid
    assert fields["Groups"] == []
    assert [int(fields[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    assert fields["NoNewPrivs"] == ["1"]
    environ = Path(f"/proc/{running.pid}/environ").read_bytes()
    assert {line.partition(b"=")[0] for line in environ.rstrip(b"\0").split(b"\0")} <= {b"PATH", b"LC_ALL", b"TZ"}


def test_no_command_line_and_no_log_holds_a_secret_or_a_way_in(running: Running) -> None:
    socket = running.socket_dir.parent.name.encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert SECRET.encode() not in command
        assert not (b"postgresql://" in command and socket in command)
    assert SECRET not in (running.data_dir.parent / "log").read_text()


def program(running: Running, command: str) -> str:
    """Run a program as PostgreSQL does, for its superuser."""
    with closing(psycopg2.connect(running.url("postgres"))) as connection, connection.cursor() as cursor:
        cursor.execute("create temp table output (line text)")
        cursor.execute("copy output from program %s with (format csv, delimiter E'\\x01')", [f"({command}) 2>&1; true"])
        cursor.execute("select line from output")
        return "\n".join(line or "" for (line,) in cursor.fetchall())


def test_a_program_that_the_superuser_runs_writes_and_reads_nothing_of_root_s(running: Running) -> None:
    closed = running.data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("secret of root")
    targets: list[Path | str] = [closed / "new", closed / "file", running.socket_dir.parent / "hba.conf"]
    targets += [running.data_dir / "new", f"/proc/{running.service}/environ"]
    for target in targets:
        assert "denied" in program(running, f"echo spoiled >> '{target}'"), target
    for target in (closed / "file", f"/proc/{running.service}/environ", "/etc/shadow"):
        assert "denied" in program(running, f"cat '{target}'"), target
    assert SECRET not in program(running, "cat /proc/*/environ | tr -d '\\000'")
    assert program(running, "id -u") not in {"0", str(STRANGERS["nobody"])}


def test_a_program_that_the_superuser_runs_does_not_become_the_service(running: Running) -> None:
    code = CONNECT.strip().replace("\n", "\\n").replace('"', "'")
    for role in ("omniflo", "postgres"):
        url = running.url(role)
        assert "connected" not in program(
            running, f"{sys.executable} -c 'exec(\"{code}\".replace(chr(39), chr(34)))' '{url}'"
        )


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to program 'id'",
        "copy (select 1) to '/tmp/spoiled'",
        "select pg_read_file('PG_VERSION')",
        "set role postgres",
        "set session authorization postgres",
        "create role another superuser",
        "alter system set archive_command = 'id'",
        "create function f() returns int language c as 'libc', 'getpid'",
        "select lo_import('/etc/passwd')",
    ],
)
@pytest.mark.parametrize("role", ["omniflo", "omniflo_service"])
def test_the_service_s_own_roles_do_nothing_beyond_its_database(running: Running, role: str, sql: str) -> None:
    database = Database(running.url(role))
    with closing(database), pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.query(sql)


def test_nobody_looks_into_what_is_made_in_its_name(open_folder: Path) -> None:
    account = accounts.Account(accounts.UID, accounts.UID)
    with accounts.staging(open_folder / "made", account) as (folder, borrowed):
        assert borrowed.uid == STRANGERS["nobody"]
        command = [*borrowed.wrap(), "/bin/sh", "-c", "echo made > file; exec sleep 60"]
        with subprocess.Popen(command, cwd=f"/proc/self/fd/{folder}", env={}) as process:
            (place,) = open_folder.glob(".postgresql-*")
            eventually((place / "data" / "file").exists, within=10)
            proc = Path(f"/proc/{process.pid}")
            places = [place, place / "data", place / "data" / "file", proc / "cwd", proc / "cwd" / "file", proc / "mem"]
            seen = python(STRANGERS["nobody"], READ, *places).stdout
            process.kill()
    assert seen == ""
    assert {path.stat().st_uid for path in open_folder.rglob("*")} == {accounts.UID}
    assert (open_folder / "made" / "file").read_text() == "made\n"


@contextmanager
def of_an_earlier_release(data_dir: Path) -> Iterator[str]:
    """Run PostgreSQL as earlier releases did, for root: as `nobody`, with a capability, trusting whoever connects."""
    binaries = embedded.binaries()
    data = data_dir / "postgresql"
    data.mkdir(parents=True, mode=0o700)
    shutil.chown(data, "nobody")
    as_nobody: list[str | Path] = [SETPRIV, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    as_nobody += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    how = ("-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale-provider=builtin")
    more = ("--builtin-locale=C.UTF-8", "--locale=C")
    subprocess.run([*as_nobody, binaries / "initdb", "-D", data, *how, *more], check=True, capture_output=True)
    socket_dir = data_dir.parent / "s"
    socket_dir.mkdir()
    shutil.chown(socket_dir, "nobody")
    command = [*as_nobody, binaries / "postgres", "-D", data, "-k", socket_dir, "-h", ""]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not (socket_dir / ".s.PGSQL.5432").exists():
                assert process.poll() is None
                time.sleep(0.05)
            time.sleep(1)
            yield f"postgresql://postgres@/postgres?host={socket_dir}"
        finally:
            process.terminate()
            process.wait(30)


def test_a_data_folder_of_an_earlier_release_is_taken_over(tmp_path: Path) -> None:
    data_dir = tmp_path / "data dir"
    with of_an_earlier_release(data_dir) as url:
        handle.database.configure(url)
        migrate.up(migrate.load())
        handle.database.drop()
        old = Database(url)
        old.query("insert into users (id, clerk_id) values ('u1', 'user_of_before')")
        old.close()
    for _ in range(2):
        with serving("", tmp_path / "log", data_dir=data_dir) as service, connected(service.address) as api:
            assert api.users.GetUser(GetUserRequest(clerk_id="user_of_before")).id == "u1"
            assert api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_of_today")).id
            assert not python(STRANGERS["nobody"], CONNECT, found(data_dir).url("postgres")).stdout
    owners = {path.lstat().st_uid for path in (data_dir / "postgresql").rglob("*")}
    assert owners == {(data_dir / "postgresql").stat().st_uid}
    assert not owners & {0, STRANGERS["nobody"]}
    # The schema goes on changing, which only owners of tables and types can do.
    environment = {**os.environ, "OMNIFLO_DATA_DIR": str(data_dir)}
    for arguments in (["down", "--to", "0", "--yes"], ["up"]):
        command = [sys.executable, "-m", "service", "migrate", *arguments]
        subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)


def test_one_that_an_earlier_release_still_runs_is_named(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with of_an_earlier_release(data_dir):
        done = subprocess.run(
            [sys.executable, "-m", "service", "migrate", "up"],
            env={**os.environ, "OMNIFLO_DATA_DIR": str(data_dir)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "stop that first" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_that_lies_in_its_place_is_given_away(tmp_path: Path) -> None:
    """Whoever owns the folder above could plant it."""
    (tmp_path / "link").mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link" / "postgresql").symlink_to(empty)
    full = tmp_path / "full" / "postgresql"
    full.mkdir(parents=True)
    (full / "of root").touch()
    for data_dir in (tmp_path / "link", tmp_path / "full"):
        with pytest.raises(EmbeddedError, match="OMNIFLO_DATABASE_URL"):
            embedded.Server(data_dir)
    assert {path.stat().st_uid for path in (empty, full, full / "of root")} == {0}


def test_a_log_that_leads_elsewhere_is_not_written(tmp_path: Path) -> None:
    server = embedded.Server(tmp_path)
    other = tmp_path / "other"
    other.write_text("of root")
    log = tmp_path / "postgresql" / "server.log"
    try:
        for plant in (log.symlink_to, log.hardlink_to, lambda _: os.mkfifo(log)):
            plant(other)
            with pytest.raises(EmbeddedError, match=r"server\.log"):
                server.start()
            log.unlink()
    finally:
        server.stop()
    assert other.read_text() == "of root"


ORDINARY = "daemon"
"""A user that every system has, and that nothing runs as."""


def test_an_ordinary_user_has_one_as_well_which_only_it_and_root_enter(open_folder: Path) -> None:
    user = pwd.getpwnam(ORDINARY)
    folder = open_folder
    shutil.chown(folder, user.pw_uid)
    settings = {"OMNIFLO_DATA_DIR": str(folder / "data dir"), "OPENAI_API_KEY": SECRET, "PATH": os.environ["PATH"]}
    for action in ("up", "verify"):
        done = as_user(
            user.pw_uid, sys.executable, "-m", "service", "migrate", action, env={**settings, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 0, done.stderr
    assert (folder / "data dir" / "postgresql").stat().st_uid == user.pw_uid
    # Root uses it too, and leaves it to the user.
    server = embedded.Server(folder / "data dir")
    try:
        server.start()
        with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from users")
        assert Path(f"/proc/{server.pid}").stat().st_uid == user.pw_uid
        for uid in STRANGERS.values():
            assert not python(uid, CONNECT, server.admin_url).stdout
        assert "connected" in python(user.pw_uid, CONNECT, server.url).stdout
    finally:
        server.stop()
    assert {path.lstat().st_uid for path in (folder / "data dir").rglob("*")} == {user.pw_uid}


def test_the_folder_of_another_user_is_refused_with_what_to_do(open_folder: Path) -> None:
    embedded.Server(open_folder).stop()
    settings = {"OMNIFLO_DATA_DIR": str(open_folder), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    uid = pwd.getpwnam(ORDINARY).pw_uid
    done = as_user(uid, sys.executable, "-m", "service", "migrate", "up", env=settings)
    assert done.returncode == 1
    assert "belongs to another user" in done.stderr
    assert "Traceback" not in done.stderr
