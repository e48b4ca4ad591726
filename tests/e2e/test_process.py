"""The command line as people and process managers use it: start, call, drain, crash."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import psycopg2
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from omniflo.templates.v1.model_service_pb2 import GetModelRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest, UpdateTemplateRequest
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ListUsersRequest, ProvisionUserRequest
from service import lines
from service.__main__ import main
from service.config import Settings, variable
from service.database import embedded, migrate
from tests import commands
from tests.conftest import ROOT, Api, Database, fails
from tests.migrations.conftest import working_on

pytestmark = pytest.mark.waiting

T = TypeVar("T")

SECONDS = 30.0
"""How long a test waits for what must happen."""

PACKAGE = "omniflo.templates.v1"
SERVICES = {
    f"{PACKAGE}.{name}Service"
    for name in ("User", "TemplateType", "Model", "Template", "Selection", "Organization", "ApiKey")
}
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
MIGRATIONS = [migration.name for migration in migrate.load()]
NEWEST = len(MIGRATIONS)


def environment(settings: dict[str, object]) -> dict[str, str]:
    """Answer the environment of a child: these settings, and nothing of ours that the tests were started with."""
    ours = {
        "listen": "127.0.0.1:0",
        "auth": "none",
        "log_format": "json",
        "workers": 1,
        "threads": 4,
        "work": "off",
        **settings,
    }
    inherited = os.environ.items()
    return {name: value for name, value in inherited if not name.startswith("OMNIFLO_")} | {
        variable(name): str(value) for name, value in ours.items()
    }


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        return commands.run(arguments, environment(settings), Path(folder), within=SECONDS)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Answer why a `serve` did not start, which is the last line of its log."""
    return str(json.loads(done.stderr.splitlines()[-1])["error"])


def eventually(ask: Callable[[], T], what: str) -> T:
    """Ask until the answer is a true one, and answer that."""
    give_up = time.monotonic() + SECONDS
    while not (answer := ask()):
        assert time.monotonic() < give_up, f"in vain: {what}"
        time.sleep(0.02)
    return answer


def _stat(pid: int) -> list[str]:
    """Answer what Linux knows of a process after its name: the state, the parent, …; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_alive(pid: int) -> bool:
    # A zombie has ended, and waits for a parent that need not be ours.
    return _stat(pid)[:1] not in ([], ["Z"])


def descendants(pid: int) -> set[int]:
    """Answer the processes below one."""
    parents = {int(path.name): _stat(int(path.name))[1:2] for path in Path("/proc").glob("[0-9]*")}
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent and int(parent[0]) in new}
        found |= new
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int, kind: str) -> set[int]:
    """Answer the processes of a kind that a service has, by the parent's id."""

    def name(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""

    return {below for below in descendants(pid) if name(below).startswith(f"{kind}-")}


class Serving:
    """A `serve` that was started, with what it writes."""

    def __init__(self, folder: Path, *flags: str, **settings: object) -> None:
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        # As on a terminal: Ctrl-C is for the whole group.
        self.process = commands.Command(
            ("serve", *flags), environment(settings), stdout=self._stdout, stderr=self._stderr, has_session=True
        )

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        # The last line may still be on its way.
        return [json.loads(line) for line in self.stderr.split("\n")[:-1]]

    @property
    def address(self) -> str:
        found = re.search(r"^Serving on (\S+)\. Call it:$", self.stdout, re.MULTILINE)
        return found[1] if found else ""

    def until_ready(self) -> Self:
        """Wait until it says that it serves."""
        eventually(lambda: self.address or self.process.poll() is not None, "the address")
        assert self.address, self.stderr
        return self

    @contextmanager
    def api(self) -> Iterator[Api]:
        with grpc.insecure_channel(self.address) as channel:
            yield Api(channel)

    def servers(self) -> set[int]:
        """Answer the server processes that the parent has started."""
        return children(self.process.pid, "worker")

    def signal(self, number: int, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def ended(self) -> int:
        """Wait for the end and answer the exit code."""
        return self.process.wait(SECONDS)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.ended()
        finally:
            self.process.kill()
            self.process.wait()


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts services, which end with the test."""
    with ExitStack() as stack:

        def start(*flags: str, **settings: object) -> Serving:
            serving = Serving(tmp_path_factory.mktemp("serving"), *flags, **settings)
            stack.callback(serving.end)
            return serving

        yield start


@pytest.fixture(scope="module")
def ready_url(new_database: Callable[[], str]) -> str:
    """The URL of a database with schema and seed."""
    url = new_database()
    for command in (["migrate", "up"], ["seed"]):
        done = run(*command, database_url=url)
        assert done.returncode == 0, done.stderr
    return url


@pytest.fixture
def migrated(new_database: Callable[[], str], url: str) -> Callable[[int], str]:
    """Makes a database of some version, which is empty for 0, and answers its URL."""

    def to(version: int) -> str:
        made = new_database()
        if version:
            with working_on(made, afterwards=url):
                migrate.up(migrate.load(), to=version)
        return made

    return to


@pytest.fixture
def database(ready_url: str) -> Iterator[Database]:
    database = Database(ready_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, ready_url: str) -> Iterator[Serving]:
    """A service that many tests call, of two processes."""
    running = Serving(tmp_path_factory.mktemp("serving"), database_url=ready_url, workers=2).until_ready()
    yield running
    running.end()


@pytest.fixture
def channel(serving: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(serving.address) as channel:
        yield channel


@pytest.fixture
def api(channel: grpc.Channel) -> Api:
    return Api(channel)


def health(channel: grpc.Channel, service: str = "") -> Any:
    answer = HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=SECONDS, wait_for_ready=True)
    return answer.status


def gone(pids: set[int]) -> bool:
    return not any(map(is_alive, pids))


def socket_folder(data_dir: Path) -> Path:
    return Path((data_dir / "postgresql" / "postmaster.pid").read_text().splitlines()[4])


def test_a_new_folder_is_served_and_its_data_are_there_at_the_next_start(serve: Serve, tmp_path: Path) -> None:
    data_dir = tmp_path / "a data folder"
    first = serve("--migrate", "--seed", data_dir=data_dir).until_ready()
    with first.api() as api:
        assert api.models.GetModel(GetModelRequest(openai_id="gpt-5.5")).name == "GPT-5.5"
        user = api.user()
    _end_without_a_trace(first, data_dir, lambda: first.signal(signal.SIGTERM))

    second = serve(data_dir=data_dir).until_ready()
    with second.api() as api:
        assert api.users.GetUser(GetUserRequest(id=user.id)) == user
    _end_without_a_trace(second, data_dir, lambda: second.signal(signal.SIGINT, group=True))


def _end_without_a_trace(serving: Serving, data_dir: Path, end: Callable[[], None]) -> None:
    below, folder = descendants(serving.process.pid), socket_folder(data_dir)
    assert any("bin/postgres " in command_of(pid) for pid in below)
    assert serving.servers()
    assert folder.is_dir()
    end()
    assert serving.ended() == 0
    eventually(lambda: gone(below), "the end of all processes")
    assert not folder.exists()


def test_a_killed_service_leaves_nothing_running_and_starts_again(serve: Serve, tmp_path: Path) -> None:
    killed = serve("--migrate", "--seed", data_dir=tmp_path).until_ready()
    with killed.api() as api:
        user = api.user()
    below, folder = descendants(killed.process.pid), socket_folder(tmp_path)
    killed.signal(signal.SIGKILL)
    assert killed.ended() == -signal.SIGKILL
    eventually(lambda: gone(below), "the end of all processes")
    # Nobody was left to remove it.
    shutil.rmtree(folder)

    with serve(data_dir=tmp_path).until_ready().api() as api:
        assert api.users.GetUser(GetUserRequest(id=user.id)) == user


def test_commands_work_beside_a_service_that_runs_and_without_one(serve: Serve, tmp_path: Path) -> None:
    assert run("migrate", "up", data_dir=tmp_path).stdout.splitlines() == [f"applied {name}" for name in MIGRATIONS]
    serving = serve(data_dir=tmp_path).until_ready()
    assert run("migrate", "verify", data_dir=tmp_path).returncode == 0
    assert "added model gpt-5.5" in run("seed", data_dir=tmp_path).stdout
    with serving.api() as api:
        assert api.models.GetModel(GetModelRequest(openai_id="gpt-5.5")).name == "GPT-5.5"


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("migrate", "status", data_dir=tmp_path / "file")
    assert done.returncode == 1
    assert "OMNIFLO_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_welcome_has_three_calls_that_work(serving: Serving) -> None:
    lines = [line.strip() for line in serving.stdout.splitlines()]
    with_buf = [line for line in lines if line.startswith(".venv/bin/buf ")]
    with_grpcurl = [line for line in lines if line.startswith("grpcurl ")]
    assert (len(with_buf), len(with_grpcurl)) == (3, 3)
    answers = []
    for line in with_buf:
        _, *arguments = shlex.split(line)
        done = subprocess.run(
            [Path(sys.executable).parent / "buf", *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert {kind["name"] for kind in answers[0]["templateTypes"]} == {"data-export", "data-processing"}
    assert answers[1]["clerkId"] == "user_1"
    assert answers[2]["openaiId"] == "gpt-5.5"
    # Both clients are given the same calls.
    for line, other in zip(with_buf, with_grpcurl, strict=True):
        *_, body, url = shlex.split(line)
        assert shlex.split(other)[-3:] == [body, serving.address, _method(url)]


def test_reflection_lists_all_services(channel: grpc.Channel) -> None:
    assert set(ProtoReflectionDescriptorDatabase(channel).get_services()) >= SERVICES


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
def test_health_is_known_for_each_service(channel: grpc.Channel, service: str) -> None:
    eventually(lambda: health(channel, service) == SERVING, "SERVING")


def test_health_of_an_unknown_service_is_not_found(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health(channel, "nobody.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def quiet(serving: Serving) -> int:
    """Wait until the lines of calls that have ended are in the log, and return how many lines it has."""
    length = -1
    while length != (length := len(serving.log)):
        time.sleep(10 * lines.SECONDS)
    return length


def test_every_call_has_one_line_in_the_log(serving: Serving, api: Api) -> None:
    before = quiet(serving)
    health(api.channel)
    api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_log", request_id="order-17"))
    fails(api.users.GetUser, GetUserRequest(id="nobody"))
    malformed = f"/{PACKAGE}.UserService/GetUser"
    fails(api.channel.unary_unary(malformed), b"\xff")
    eventually(lambda: len(serving.log) >= before + 3, "the last line")
    lines = [line for line in serving.log[before:] if line["event"] == "call"]
    for line in lines:
        assert line.pop("timestamp")
        assert line.pop("replica") == socket.gethostname()
        assert 0 < line.pop("duration_ms") < SECONDS * 1000
        assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", line.pop("peer"))
    common = {"event": "call", "level": "info", "caller": "anonymous"}
    assert lines == [
        common | {"method": f"/{PACKAGE}.UserService/ProvisionUser", "code": "OK", "request_id": "order-17"},
        common | {"method": f"/{PACKAGE}.UserService/GetUser", "code": "NOT_FOUND", "reason": "USER_NOT_FOUND"},
        # Its message is looked at once it is known who calls.
        common | {"method": malformed, "code": "INVALID_ARGUMENT", "reason": "REQUEST_MALFORMED"},
    ]


def test_the_log_never_holds_what_a_request_says(serving: Serving, api: Api) -> None:
    words = "never-to-be-read-by-operators"
    template = api.template(instructions=words, title=words, description=words)
    before = quiet(serving)
    fails(api.templates.CreateTemplate, CreateTemplateRequest(template=Template(title=words, instructions=words)))
    fails(
        api.templates.UpdateTemplate,
        UpdateTemplateRequest(template=Template(id=template.id, etag=words, instructions=words)),
    )
    fails(api.templates.UpdateTemplate, UpdateTemplateRequest(template=Template(id=words, title=words)))
    fails(api.users.ProvisionUser, ProvisionUserRequest(clerk_id=words * 20))
    eventually(lambda: len(serving.log) >= before + 4, "the last line")
    codes = [line["code"] for line in serving.log[before:] if line["event"] == "call"]
    assert codes == ["INVALID_ARGUMENT", "ABORTED", "NOT_FOUND", "INVALID_ARGUMENT"]
    assert words not in serving.stderr + serving.stdout


def test_a_killed_server_is_replaced(serve: Serve, ready_url: str) -> None:
    serving = serve(database_url=ready_url, pin_workers="on").until_ready()
    (killed,) = serving.servers()
    first = {min(os.sched_getaffinity(0))}
    assert os.sched_getaffinity(killed) == first
    assert [line["version"] for line in serving.log if line["event"] == "starting"] == [version("omniflo-templates")]
    os.kill(killed, signal.SIGKILL)
    (replacement,) = eventually(lambda: serving.servers() - {killed}, "another server")
    with serving.api() as api:
        request = GetModelRequest(openai_id="gpt-5.5")
        assert api.models.GetModel(request, wait_for_ready=True, timeout=SECONDS).name == "GPT-5.5"
    assert os.sched_getaffinity(replacement) == first
    assert [line["exit_code"] for line in serving.log if line["event"] == "worker died"] == [-signal.SIGKILL]
    serving.signal(signal.SIGTERM)
    assert serving.ended() == 0
    assert not is_alive(replacement)


def test_workers_are_replaced_when_what_they_are_forked_from_dies(serve: Serve, ready_url: str) -> None:
    serving = serve(database_url=ready_url, workers=6).until_ready()
    before = serving.servers()
    (parent,) = {int(_stat(pid)[1]) for pid in before}
    assert parent != serving.process.pid
    os.kill(parent, signal.SIGKILL)
    eventually(lambda: gone(before) and len(serving.servers()) == 6, "other workers")
    with serving.api() as api:
        eventually(lambda: _code(api) is None, "a response")


def test_workers_that_keep_dying_end_the_service_with_an_error(serve: Serve, ready_url: str) -> None:
    serving = serve(database_url=ready_url).until_ready()
    killed: set[int] = set()
    for _ in range(5):
        (worker,) = eventually(lambda: serving.servers() - killed, "another worker")
        os.kill(worker, signal.SIGKILL)
        killed.add(worker)
    assert serving.ended() == 1
    assert "workers died 5 times within 60 s" in serving.stderr


def test_more_connections_than_the_database_has_are_refused_with_the_numbers(ready_url: str) -> None:
    done = run("serve", database_url=ready_url, workers=30, threads=20)
    assert done.returncode == 1
    # Of 300, PostgreSQL reserves three for its superusers.
    for words in ("30 workers with 20 threads", "750 connections", "has 297", "OMNIFLO_WORKERS", "max_connections"):
        assert words in done.stderr


def test_a_killed_parent_takes_its_servers_along(serve: Serve, ready_url: str) -> None:
    serving = serve(database_url=ready_url, workers=2).until_ready()
    below = descendants(serving.process.pid)
    assert len(serving.servers()) == 2
    serving.signal(signal.SIGKILL)
    eventually(lambda: gone(below), "the end of all processes")


def _method(url: str) -> str:
    return "/".join(url.rsplit("/", 2)[-2:])


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "sharing"])
def test_a_port_that_somebody_listens_on_is_refused_by_name(shares: bool) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        _is_refused(run("serve", listen=address, database_url="postgresql://nowhere/nothing"), address)


def test_a_port_that_the_service_listens_on_is_refused_by_name(serving: Serving, ready_url: str) -> None:
    _is_refused(run("serve", listen=serving.address, database_url=ready_url), serving.address)


def test_of_two_that_start_at_once_on_one_port_one_serves(serve: Serve, ready_url: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [serve(listen=address, database_url=ready_url) for _ in range(2)]
    refused = eventually(lambda: [one for one in both if one.process.poll() is not None], "the end of one")
    assert [(one.process.returncode, "OMNIFLO_LISTEN" in one.stderr) for one in refused] == [(1, True)]
    (other,) = (one for one in both if one not in refused)
    assert other.until_ready().address == address


def _is_refused(done: subprocess.CompletedProcess[str], address: str) -> None:
    assert done.returncode == 1
    assert said(done).startswith(f"OMNIFLO_LISTEN={address}: the port is taken")
    assert "Traceback" not in done.stderr


def test_an_ipv6_address_is_served(serve: Serve, ready_url: str) -> None:
    serving = serve(listen="[::1]:0", database_url=ready_url).until_ready()
    assert re.fullmatch(r"\[::1\]:\d+", serving.address)
    with serving.api() as api:
        assert api.models.GetModel(GetModelRequest(openai_id="gpt-5.5")).name == "GPT-5.5"


@contextmanager
def _waiting_call(serving: Serving, database: Database) -> Iterator[tuple[Any, Any, Template]]:
    """Answer an UpdateTemplate that waits for a row, the connection that holds it, and the template."""
    with serving.api() as api:
        template = api.template(template_type="data-export", model="gpt-5.5")
        holder = psycopg2.connect(database.url)
        with holder.cursor() as cursor:
            cursor.execute("select 1 from templates where id = %s for update", (template.id,))
        update = UpdateTemplateRequest(template=Template(id=template.id, title="Changed"))
        call = api.templates.UpdateTemplate.future(update, timeout=SECONDS)
        waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        eventually(lambda: database.query(waiting), "a call that waits")
        try:
            yield call, holder, template
        finally:
            holder.close()


def test_a_running_call_finishes_while_health_says_so_and_new_calls_are_refused(
    serve: Serve, database: Database
) -> None:
    serving = serve(database_url=database.url).until_ready()
    with _waiting_call(serving, database) as (call, holder, _), serving.api() as api:
        watch = HealthStub(api.channel).Watch(HealthCheckRequest(), timeout=SECONDS)
        while next(watch).status != SERVING:
            pass
        serving.signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        with serving.api() as other:
            eventually(lambda: _code(other) is grpc.StatusCode.UNAVAILABLE, "a refusal")
        assert not call.done()
        holder.rollback()
        assert call.result(SECONDS).title == "Changed"
    released = time.monotonic()
    assert serving.ended() == 0
    # The time for draining is 20 seconds.
    assert time.monotonic() - released < 10


def test_a_call_that_takes_longer_than_the_drain_is_cut(serve: Serve, database: Database) -> None:
    serving = serve(database_url=database.url, drain_seconds=0.2).until_ready()
    with _waiting_call(serving, database) as (call, holder, template):
        serving.signal(signal.SIGTERM)
        assert call.exception(SECONDS).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert serving.ended() == 0
        holder.rollback()
    assert database.query("select title from templates where id = %s", (template.id,)) == [(template.title,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_all_processes_lets_running_calls_finish(
    serve: Serve, database: Database, number: signal.Signals
) -> None:
    serving = serve(database_url=database.url).until_ready()
    with _waiting_call(serving, database) as (call, holder, _):
        serving.signal(number, group=True)
        time.sleep(0.2)
        # The parent is what process managers look at: it ends after the others.
        assert serving.process.poll() is None
        holder.rollback()
        assert call.result(SECONDS).title == "Changed"
    assert serving.ended() == 0


def test_an_idle_client_does_not_hold_up_the_end(serve: Serve, database: Database) -> None:
    serving = serve(database_url=database.url).until_ready()
    with serving.api() as api:
        api.users.ListUsers(ListUsersRequest())
        start = time.monotonic()
        serving.signal(signal.SIGTERM)
        assert serving.ended() == 0
    assert time.monotonic() - start < 10


def test_a_watcher_of_health_does_not_hold_up_the_end(serve: Serve, database: Database) -> None:
    serving = serve(database_url=database.url, drain_seconds=8).until_ready()
    with serving.api() as api:
        watch = HealthStub(api.channel).Watch(HealthCheckRequest(), timeout=SECONDS)
        while next(watch).status != SERVING:
            pass
        start = time.monotonic()
        serving.signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert serving.ended() == 0
    assert time.monotonic() - start < 5


def test_a_second_signal_does_no_harm(serve: Serve, database: Database) -> None:
    serving = serve(database_url=database.url).until_ready()
    with _waiting_call(serving, database) as (call, holder, _):
        serving.signal(signal.SIGTERM)
        serving.signal(signal.SIGINT, group=True)
        time.sleep(0.2)
        holder.rollback()
        assert call.result(SECONDS).title == "Changed"
    released = time.monotonic()
    assert serving.ended() == 0
    assert time.monotonic() - released < 10


def _code(api: Api) -> grpc.StatusCode | None:
    try:
        api.users.ListUsers(ListUsersRequest(), timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code()
    return None


@pytest.fixture
def later(postgres: embedded.Server) -> Iterator[Callable[[str], tuple[str, Callable[[], None]]]]:
    """Makes another URL of a database, which cannot be reached, and what makes it appear."""
    # The path of a socket may have 107 bytes at most.
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "later"

        def of(url: str) -> tuple[str, Callable[[], None]]:
            name = url.rpartition("/")[2].partition("?")[0]
            return f"postgresql://omniflo@/{name}?host={there}", lambda: there.symlink_to(postgres.socket_dir)

        yield of


def test_a_service_starts_without_its_database_and_serves_when_it_appears(
    serve: Serve, ready_url: str, later: Callable[[str], tuple[str, Callable[[], None]]]
) -> None:
    url, appear = later(ready_url)
    serving = serve(database_url=url).until_ready()
    with serving.api() as api:
        assert (health(api.channel), health(api.channel, "liveness")) == (NOT_SERVING, SERVING)
        failure = fails(api.models.GetModel, GetModelRequest(openai_id="gpt-5.5"), timeout=SECONDS)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert failure.retry_seconds
        appear()
        eventually(lambda: health(api.channel) == SERVING, "SERVING")
        assert api.models.GetModel(GetModelRequest(openai_id="gpt-5.5")).name == "GPT-5.5"
    found = [line for line in serving.log if line["event"] == "database"]
    assert (found[0]["is_reachable"], found[-1]["is_reachable"]) == (False, True)
    # Of each process.
    assert all("No such file or directory" in line["error"] for line in found[:-1])


MORE = f"{NEWEST + 1:04}_more"
ADD_MORE = "insert into schema_migrations (version, name, checksum, compatible_from) values (%s, %s, '', %s)"
BEHIND = [
    # How far it is migrated before; what is then true of a migration that this release does not have; what is said.
    (0, None, f"migrations are pending: run `python -m service migrate up` ({', '.join(MIGRATIONS)})"),
    (NEWEST - 1, None, f"migrations are pending: run `python -m service migrate up` ({MIGRATIONS[-1]})"),
    (NEWEST, NEWEST + 1, f"{MORE} is applied, and this release, which ends at "),
]


@pytest.mark.parametrize(("to", "compatible_from", "said"), BEHIND, ids=["empty", "behind", "too new"])
def test_a_schema_that_comes_later_and_is_another_is_not_served_until_it_is_right(
    serve: Serve,
    migrated: Callable[[int], str],
    later: Callable[[str], tuple[str, Callable[[], None]]],
    to: int,
    compatible_from: int | None,
    said: str,
) -> None:
    url = migrated(to)
    database = Database(url)
    if compatible_from is not None:
        database.query(ADD_MORE, (NEWEST + 1, MORE, compatible_from))
    away, appear = later(url)
    serving = serve(database_url=away).until_ready()
    with serving.api() as api:
        appear()

        def found() -> list[dict[str, Any]]:
            return [line for line in serving.log if line["event"] == "database" and line.get("is_reachable")]

        eventually(found, "the database")
        assert health(api.channel) == NOT_SERVING
        if compatible_from is None:
            assert run("migrate", "up", database_url=url).returncode == 0
        else:
            # The next release says that this one may go on.
            database.query("update schema_migrations set compatible_from = 1 where name = %s", (MORE,))
        eventually(lambda: health(api.channel) == SERVING, "SERVING")
        assert api.user().id
    # While it is migrated, it may be seen halfway.
    first, *_, last = found()
    assert (first["level"], first["schema"].startswith(said)) == ("error", True)
    assert (last["level"], set(last)) == ("info", {"event", "level", "timestamp", "replica", "is_reachable"})
    database.close()


@pytest.mark.parametrize(
    "command", [["migrate", "up"], ["migrate", "status"], ["seed"], ["serve", "--migrate"], ["serve", "--seed"]]
)
@pytest.mark.parametrize("url", ["postgresql://postgres@/x?host=/nowhere", "postgresql://127.0.0.1:1/x"])
def test_what_needs_the_database_says_in_one_message_that_it_is_away(command: list[str], url: str) -> None:
    done = run(*command, database_url=url)
    assert done.returncode == 1
    assert "DATABASE_UNAVAILABLE: the database cannot be reached: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["serve"], ["serve", "--seed"], ["seed"], ["migrate", "verify"]])
def test_an_empty_database_is_refused_with_what_to_do(new_database: Callable[[], str], command: list[str]) -> None:
    done = run(*command, database_url=new_database())
    assert done.returncode == 1
    assert "run `python -m service migrate up`" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_goes_up_and_down_and_tells_where_it_is(new_database: Callable[[], str]) -> None:
    url = new_database()

    def migrate(*arguments: str) -> tuple[int, list[str]]:
        done = run("migrate", *arguments, database_url=url)
        return done.returncode, done.stdout.splitlines()

    pending = [f"pending {name}" for name in MIGRATIONS]
    applied = [f"applied {name}" for name in MIGRATIONS]
    taken_back = [f"took back {name}" for name in reversed(MIGRATIONS)]
    assert migrate("status") == (0, pending)
    assert migrate("verify") == (1, pending)
    assert migrate("down") == (0, ["nothing to take back"])
    assert migrate("up", "--to", "2") == (0, applied[:2])
    assert migrate("status") == (0, applied[:2] + pending[2:])
    assert migrate("verify") == (1, applied[:2] + pending[2:])
    assert migrate("up") == (0, applied[2:])
    assert migrate("up") == (0, ["nothing to apply"])
    assert migrate("verify") == (0, applied)
    assert migrate("down", "--yes") == (0, taken_back[:1])
    assert migrate("down", "--to", "1", "--yes") == (0, taken_back[1:-1])
    assert migrate("down", "--to", "0", "--yes") == (0, taken_back[-1:])
    assert migrate("status") == (0, pending)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        pytest.param(b"y\n", 0, marks=pytest.mark.covered),
        (b"YES\n", 0),
        pytest.param(b"n\n", 1, marks=pytest.mark.covered),
        (b"\n", 1),
        (b"yes, but\n", 1),
        (b"\x04", 1),
        pytest.param(None, 1, marks=pytest.mark.covered),
    ],
)
def test_migrate_takes_nothing_back_unless_somebody_agrees(
    migrated: Callable[[int], str], typed: bytes | None, code: int
) -> None:
    url = migrated(2)
    # Without a terminal, nobody is there to agree.
    terminal, other_end = os.openpty() if typed is not None else (None, subprocess.DEVNULL)
    with subprocess.Popen(
        [sys.executable, "-m", "service", "migrate", "down", "--to", "0"],
        cwd=ROOT,
        env=environment({"database_url": url}),
        stdin=other_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if terminal is not None:
            os.write(terminal, typed or b"")
        stdout, stderr = process.communicate(timeout=SECONDS)
    if terminal is not None:
        os.close(terminal)
        os.close(other_end)
    name = url.rpartition("/")[2].partition("?")[0]
    loss = f"taking back {MIGRATIONS[1]}, {MIGRATIONS[0]} in the database {name} at "
    assert process.returncode == code
    assert (stderr if typed is None else stdout).startswith(loss)
    assert ("add --yes if that is meant" in stderr) is (typed is None)
    database = Database(url)
    assert database.query("select count(*) from schema_migrations") == [(0 if code == 0 else 2,)]
    database.close()


def test_migrate_refuses_versions_below_none(migrated: Callable[[int], str]) -> None:
    url = migrated(NEWEST)
    assert run("migrate", "down", "--to", "-1", database_url=url).returncode != 0
    assert run("migrate", "verify", database_url=url).returncode == 0


def test_seed_adds_what_is_missing_and_nothing_twice(migrated: Callable[[int], str]) -> None:
    url = migrated(NEWEST)
    first = run("seed", database_url=url)
    assert {"added template type data-export", "added model gpt-5.5"} <= set(first.stdout.splitlines())
    assert run("seed", database_url=url).stdout == "nothing to add\n"
    database = Database(url)
    database.query("update openai_models set name = 'Ours' where openai_id = 'gpt-5.5'")
    database.query("delete from openai_models where openai_id = 'gpt-4.1'")
    assert run("seed", database_url=url).stdout == "added model gpt-4.1\n"
    assert database.query("select name from openai_models where openai_id = 'gpt-5.5'") == [("Ours",)]
    database.close()


def test_config_prints_every_setting_with_secrets_masked() -> None:
    done = run("config", threads=7, database_url="postgresql://user:hunter2@host/database")
    assert done.returncode == 0
    for name in Settings.model_fields:
        assert f"{variable(name)}=" in done.stdout
    assert "OMNIFLO_THREADS=7\n" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "nowhere"),
        ("listen", "192.0.2.1:50051"),
        ("listen", "no-such-host.invalid:50051"),
        ("database_url", "mysql://user:hunter2@host/database"),
        ("workers", "0"),
        ("log_format", "xml"),
    ],
)
def test_a_wrong_setting_is_named_and_ends_the_command(name: str, value: str) -> None:
    done = run("serve", **{"database_url": "postgresql://host/database", name: value})
    assert done.returncode == 1
    assert said(done).startswith(variable(name))
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [["serve"], ["migrate", "up"], ["keys", "create", "--user", "user_1", "--name", "laptop"], ["config"]],
)
def test_the_url_of_another_driver_is_refused_by_every_command_in_the_same_words(command: list[str]) -> None:
    url = "postgresql://user:hunter2@127.0.0.1:1/database?schema=public&connection_limit=5&hunter3=4"
    done = run(*command, database_url=url, database_direct_url=url, database_owner_url=url)
    assert done.returncode == 1
    assert (said(done) if command == ["serve"] else done.stderr.rstrip("\n")).splitlines() == [
        f"{name}: PostgreSQL has no parameter {complaint}"
        for name in ("OMNIFLO_DATABASE_URL", "OMNIFLO_DATABASE_DIRECT_URL", "OMNIFLO_DATABASE_OWNER_URL")
        for complaint in (
            "'connection_limit'; set OMNIFLO_WORKERS and OMNIFLO_THREADS instead",
            "'hunter3'; leave it out",
            "'schema'; leave it out for public, or write options=-csearch_path%3DNAME for another schema",
        )
    ]
    assert done.stdout == ""


def test_a_schema_other_than_public_is_served(new_database: Callable[[], str], serve: Serve) -> None:
    url = new_database()
    database = Database(url)
    database.query("create schema elsewhere")
    serving = serve("--migrate", database_url=f"{url}&options=-csearch_path%3Delsewhere").until_ready()
    with serving.api() as api:
        eventually(lambda: health(api.channel) == SERVING, "SERVING")
        assert api.template().id
    assert database.query("select distinct schemaname from pg_tables where tablename = 'users'") == [("elsewhere",)]
    database.close()


def test_the_release_is_told() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version('omniflo-templates')}\n", "")


def test_a_misspelt_variable_is_warned_of_also_where_that_is_why_the_command_fails() -> None:
    settings = {"clerk_isuer": "https://clerk.example.com", "clerk_jwks_url": "https://clerk.example.com/jwks"}
    done = run("serve", **settings)
    assert done.returncode == 1
    warning, _ = map(json.loads, done.stderr.splitlines())
    assert (warning["event"], warning["level"]) == ("unknown variable", "warning")
    assert (warning["variable"], warning["nearest"]) == ("OMNIFLO_CLERK_ISUER", "OMNIFLO_CLERK_ISSUER")
    assert said(done).startswith("OMNIFLO_CLERK_ISSUER goes with one of")


@pytest.mark.parametrize("command", [[], ["serve"], ["migrate"], ["seed"], ["backup"], ["probe"], ["config"]])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*command, "--help"])
    stdout, stderr = capsys.readouterr()
    assert stdout.startswith(f"usage: python -m service {' '.join(command)}".rstrip())
    assert "PERCENT" not in stdout
    assert stderr == ""


@pytest.mark.parametrize("arguments", [[], ["fly"], ["migrate"], ["migrate", "sideways"], ["serve", "--fast"]])
def test_an_unknown_command_is_answered_with_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert capsys.readouterr().err.startswith("usage: python -m service")
