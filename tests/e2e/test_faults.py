"""The service when its database dies, hangs, or is cut off: what was acknowledged stays, and nothing happens twice.

The service keeps no answers in these tests, so that every read needs the database.
"""

import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import RpcError, StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest, GetModelRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest, GetTemplateRequest
from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateTypeRequest
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest, ProvisionUserRequest
from service.database import embedded
from tests.conftest import Api, Database, Failure, fails
from tests.e2e.clients import at_once, connected, say
from tests.e2e.proxy import AtCommit, AtRandom, Proxy, nothing
from tests.e2e.serving import Service, eventually, serving

Refusals = Counter[tuple[StatusCode, str]]
"""How often each code and reason came."""

THREADS = 8
"""Of the service, each with a connection of its own, and of its clients."""


_numbers = itertools.count(1)


class World:
    """A template to read, and a type and what else it takes to write more of them."""

    def __init__(self, api: Api) -> None:
        self.name = f"world-{next(_numbers)}"
        self._model = self.name
        api.types.CreateTemplateType(CreateTemplateTypeRequest(template_type=TemplateType(name=self.name)))
        api.models.CreateModel(CreateModelRequest(model=Model(openai_id=self._model, name="A model")))
        self._user = api.users.ProvisionUser(ProvisionUserRequest(clerk_id=self.name)).id
        self._template = self.write(api, "To read")

    def request(self, title: str, request_id: str = "") -> CreateTemplateRequest:
        body = Template(title=title, instructions="Do it.", user_id=self._user, model=self._model)
        body.template_type = self.name
        return CreateTemplateRequest(template=body, request_id=request_id and f"{self.name}: {request_id}")

    def write(self, api: Api, title: str, request_id: str = "") -> Template:
        return api.templates.CreateTemplate(self.request(title, request_id), timeout=20)

    def write_until_done(self, api: Api, title: str, refusals: "Refusals") -> str:
        """Send the same request until it is answered, as a client's library does; answer the template's id."""
        for _ in range(200):
            try:
                return self.write(api, title, title).id
            except RpcError as error:
                failure = Failure(error)
                refusals[failure.code, failure.reason] += 1
                time.sleep(0.02)
        raise AssertionError(f"{title} was never written: {refusals}")

    def read(self, api: Api, times: int = 1) -> None:
        request = GetTemplateRequest(id=self._template.id)
        for _ in range(times):
            assert api.templates.GetTemplate(request, timeout=20) == self._template

    def warm(self, service: Service) -> None:
        """Let all threads of the service be busy at once, so that each has a connection."""
        at_once(service.address, 2 * THREADS, lambda _, api: self.read(api, times=20))

    def written(self, database: Database) -> dict[str, list[str]]:
        """Answer the ids of what was written, by title."""
        rows = database.query(
            """
            select title, array_agg(t.id)
            from templates t join template_types tt on tt.id = t.template_type_id
            where tt.name = %s and t.id <> %s
            group by title
            """,
            (self.name, self._template.id),
        )
        return dict(rows)


class Load:
    """Clients that write with request ids, and clients that read, until told to stop."""

    def __init__(self, world: World, *, reads: int, writes: int) -> None:
        self._world = world
        self._readers = reads
        self.clients = reads + writes
        self.acknowledged: dict[str, str] = {}
        """The id that was answered for each title."""
        self.refused_writes: Refusals = Counter()
        self.reads: Refusals = Counter()
        self._stop = threading.Event()

    @contextmanager
    def running(self, address: str) -> Iterator[None]:
        with ThreadPoolExecutor(1, "load") as pool:
            running = pool.submit(at_once, address, self.clients, self._client)
            try:
                yield
            finally:
                self._stop.set()
            running.result(60)

    def wait_for_writes(self, count: int) -> None:
        before = len(self.acknowledged)
        eventually(lambda: len(self.acknowledged) >= before + count, within=20)

    def _client(self, number: int, api: Api) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            if number < self._readers:
                self._read(api)
            else:
                title = f"{number}-{turn}"
                self.acknowledged[title] = self._world.write_until_done(api, title, self.refused_writes)

    def _read(self, api: Api) -> None:
        try:
            self._world.read(api)
        except RpcError as error:
            failure = Failure(error)
            assert failure.retry_seconds or failure.code != StatusCode.UNAVAILABLE, "says when to come back"
            self.reads[failure.code, failure.reason] += 1
            time.sleep(0.02)
        else:
            self.reads[StatusCode.OK, ""] += 1


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    """A PostgreSQL that may be killed and stopped: no other test uses it."""
    # Only a machine that loses power needs fsync.
    running = embedded.Server(tmp_path_factory.mktemp("faults"), ["-c", "fsync=off"])
    running.start()
    yield running
    running.stop()


@contextmanager
def looking(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def terminate(database: Database, tail: str = "", *, wait_ms: int = 0) -> int:
    """End connections of the service that the tail of the query chooses, all by default; answer how many were."""
    return len(
        database.query(f"""
            select pg_terminate_backend(pid, {wait_ms}) from pg_stat_activity
            where datname = current_database() and application_name = 'omniflo-templates' {tail}
        """)
    )


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


@contextmanager
def dead(running: embedded.Server) -> Iterator[None]:
    """Let PostgreSQL die without a word, and start it again after the block."""
    processes = children(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    assert running._process is not None
    running._process.wait(10)
    # What is left of it would be in the way of the new one.
    eventually(lambda: not any(Path("/proc", str(pid)).exists() for pid in processes), within=20)
    try:
        yield
    finally:
        running.start()


@contextmanager
def hung(running: embedded.Server) -> Iterator[None]:
    """Let no process of PostgreSQL move for the time of the block."""
    processes = [running.pid]
    try:
        # First the one that would start others.
        os.kill(running.pid, signal.SIGSTOP)
        processes += children(running.pid)
        for pid in processes[1:]:
            _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in processes:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    # One that was about to end may be gone.
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def health(channel: grpc.Channel) -> int:
    answer: HealthCheckResponse = HealthStub(channel).Check(HealthCheckRequest(), timeout=2)
    return int(answer.status)


# Killed connections.


def test_after_a_connection_was_killed_the_next_reads_and_writes_succeed(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    with serving(url, tmp_path / "log", threads=THREADS, cache_mb=0) as service, connected(service.address) as api:
        world = World(api)
        with looking(url) as database:
            for _ in range(3):
                world.warm(service)
                assert terminate(database) > THREADS / 2
                at_once(service.address, 2 * THREADS, lambda _, client: world.read(client))
                world.warm(service)
                assert terminate(database) > THREADS / 2
                at_once(service.address, 2 * THREADS, lambda number, client: world.write(client, str(number)))
            assert sum(map(len, world.written(database).values())) == 3 * 2 * THREADS


def test_a_write_whose_connection_is_killed_while_it_waits_for_a_lock_is_done_once(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    with (
        serving(url, tmp_path / "log", cache_mb=0) as service,
        connected(service.address) as api,
        looking(url) as database,
        looking(url) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        world = World(api)
        holder.query("begin; lock table templates in exclusive mode")
        writing = pool.submit(world.write, api, "Once")
        for _ in range(2):
            eventually(lambda: terminate(database, "and wait_event_type = 'Lock'", wait_ms=5000), within=5)
        eventually(lambda: database.query("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), within=5)
        holder.query("rollback")
        id = writing.result(10).id
        assert world.written(database) == {"Once": [id]}


@pytest.mark.timed
def test_connections_killed_at_random_fail_no_read_and_double_or_lose_no_write(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    with serving(url, tmp_path / "log", threads=THREADS, cache_mb=0) as service, connected(service.address) as api:
        load = Load(world := World(api), reads=THREADS // 2, writes=THREADS // 2)
        killed = 0
        with looking(url) as database:
            with load.running(service.address):
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    # A call tries three times, so a connection gets the time to be of use.
                    killed += terminate(
                        database,
                        "and backend_start < clock_timestamp() - interval '250 ms' order by random() limit 1",
                    )
                    time.sleep(0.01)
            assert killed > THREADS
            assert set(load.reads) == {(StatusCode.OK, "")}
            assert {code for code, _ in load.refused_writes} <= {StatusCode.UNAVAILABLE, StatusCode.ABORTED}
            assert min(load.reads.total(), len(load.acknowledged)) > THREADS
            # Once more, each with its id: nothing happens.
            for title, id in load.acknowledged.items():
                assert world.write(api, title, title).id == id
            rows = world.written(database)
        assert rows == {title: [id] for title, id in load.acknowledged.items()}


# A PostgreSQL that dies.


@pytest.mark.timed
def test_a_database_that_dies_under_load_five_times_loses_no_acknowledged_write(
    own_postgres: embedded.Server, tmp_path: Path
) -> None:
    recoveries = []
    with (
        serving(own_postgres.url, tmp_path / "log", threads=THREADS, cache_mb=0) as service,
        connected(service.address) as api,
    ):
        load = Load(world := World(api), reads=THREADS // 2, writes=THREADS // 2)
        with load.running(service.address):
            for _ in range(5):
                load.wait_for_writes(20)
                with dead(own_postgres):
                    eventually(lambda: health(api.channel) == HealthCheckResponse.NOT_SERVING, within=3)
                    failure = fails(world.read, api)
                    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
                    assert failure.retry_seconds is not None
                returned = time.monotonic()
                eventually(lambda: health(api.channel) == HealthCheckResponse.SERVING, within=3)
                recoveries.append(time.monotonic() - returned)
                world.read(api)
            load.wait_for_writes(20)
        with looking(own_postgres.url) as database:
            rows = world.written(database)
    say(f"health after {[round(seconds, 2) for seconds in recoveries]} s, {len(load.acknowledged)} writes")
    assert rows == {title: [id] for title, id in load.acknowledged.items()}
    assert {code for code, _ in load.reads} == {StatusCode.OK, StatusCode.UNAVAILABLE}
    assert {code for code, _ in load.refused_writes} == {StatusCode.UNAVAILABLE}


# Replies that are cut off between service and database.


@pytest.fixture(scope="module")
def proxied(
    postgres: embedded.Server, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Proxy, Service, Database]]:
    """A service that reaches its database through a proxy, and a connection to the database without it."""
    url = new_database()
    name = url.partition("@/")[2].partition("?")[0]
    with Proxy(postgres.socket_dir) as proxy, looking(url) as database:
        through = f"postgresql://omniflo@127.0.0.1:{proxy.port}/{name}?sslmode=disable&gssencmode=disable"
        log = tmp_path_factory.mktemp("proxied") / "log"
        with serving(through, log, threads=THREADS, cache_mb=0) as service:
            yield proxy, service, database


@pytest.mark.parametrize("is_done", [True, False], ids=["after", "before"])
def test_a_write_without_a_request_id_that_is_cut_off_at_its_commit_is_commit_unknown(
    proxied: tuple[Proxy, Service, Database], *, is_done: bool
) -> None:
    proxy, service, database = proxied
    with connected(service.address) as api:
        world = World(api)
        proxy.cuts = AtCommit(1, is_done=is_done)
        failure = fails(world.write, api, "Unknown")
        assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN")
        assert failure.retry_seconds is not None
        assert ("Unknown" in world.written(database)) == is_done
        world.write(api, "Next")


@pytest.mark.parametrize("is_done", [True, False], ids=["after", "before"])
def test_a_write_with_a_request_id_that_is_cut_off_at_its_commit_is_looked_up_and_done_once(
    proxied: tuple[Proxy, Service, Database], *, is_done: bool
) -> None:
    proxy, service, database = proxied
    with connected(service.address) as api:
        world = World(api)
        proxy.cuts, cut = AtCommit(1, is_done=is_done), proxy.cut
        id = world.write(api, "At once", "at once").id
        assert proxy.cut == cut + 1
        # Here the look-up is cut off as well.
        proxy.cuts = AtCommit(2, is_done=is_done)
        failure = fails(world.write, api, "Later", "later")
        assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN")
        later = world.write(api, "Later", "later").id
        assert world.written(database) == {"At once": [id], "Later": [later]}


def test_replies_cut_off_at_random_lose_and_double_no_write_that_has_a_request_id(
    proxied: tuple[Proxy, Service, Database],
) -> None:
    proxy, service, database = proxied
    refusals: Refusals = Counter()
    with connected(service.address) as api:
        world = World(api)

    def write(number: int, client: Api) -> dict[str, str]:
        titles = [f"random {number}-{turn}" for turn in range(50)]
        return {title: world.write_until_done(client, title, refusals) for title in titles}

    cut = proxy.cut
    proxy.cuts = AtRandom(7, commit=0.3, other=0.01)
    try:
        answers = at_once(service.address, THREADS, write)
    finally:
        proxy.cuts = nothing
    say(f"{proxy.cut - cut} connections cut, refused: {dict(refusals)}")
    assert proxy.cut - cut > 100
    rows = world.written(database)
    assert rows == {title: [id] for answer in answers for title, id in answer.items()}
    assert len(rows) == 50 * THREADS
    assert {code for code, _ in refusals} <= {StatusCode.UNAVAILABLE, StatusCode.ABORTED}
    assert refusals[StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN"], "some look-ups were cut off as well"


# A database that hangs.


DEADLINE_SECONDS = 2.0
"""Of the service that meets it."""
SLACK_SECONDS = 0.25


@pytest.fixture(scope="module")
def impatient(own_postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("impatient") / "log"
    with serving(own_postgres.url, log, threads=THREADS, deadline_seconds=DEADLINE_SECONDS, cache_mb=0) as service:
        yield service


@pytest.mark.timed
@pytest.mark.parametrize("connections", ["open", "new"])
@pytest.mark.parametrize("deadline", [1.0, None])
def test_while_the_database_hangs_a_call_holds_its_thread_no_longer_than_its_deadline(
    own_postgres: embedded.Server, impatient: Service, deadline: float | None, connections: str
) -> None:
    with connected(impatient.address) as api, looking(own_postgres.url) as database:
        world = World(api)
        world.warm(impatient)
        if connections == "new":
            terminate(database, wait_ms=5000)
        with hung(own_postgres):
            since = impatient.position()
            calls = [call for number in range(THREADS // 4) for call in four_calls(world, api, deadline, number)]
            # The client gives up on none: what counts is what the server says of itself.
            eventually(lambda: len(impatient.calls(since)) == THREADS, within=20)
            codes = {call.exception(timeout=5).code() for call in calls}
            eventually(lambda: health(api.channel) == HealthCheckResponse.NOT_SERVING, within=3)
        resumed = time.monotonic()
        eventually(lambda: succeeds(world.read, api) and succeeds(world.write, api, "Back"), within=2)
        back = time.monotonic() - resumed
        eventually(lambda: health(api.channel) == HealthCheckResponse.SERVING, within=3)
        written = world.written(database)
    ended = impatient.calls(since)[:THREADS]
    seconds = [call["duration_ms"] / 1000 for call in ended]
    say(f"threads free after {min(seconds):.3f} to {max(seconds):.3f} s, back in {back:.3f} s")
    limit = DEADLINE_SECONDS if deadline is None else deadline
    assert max(seconds) <= limit + SLACK_SECONDS
    assert min(seconds) > limit - SLACK_SECONDS, "it did hang"
    assert {call["code"] for call in ended} == {"DEADLINE_EXCEEDED"}
    assert codes == {StatusCode.DEADLINE_EXCEEDED}
    assert set(written) == {"Back"}


def four_calls(world: World, api: Api, deadline: float | None, number: int) -> list[Any]:
    """Begin reads and writes, with and without a transaction and a request id."""
    with_id = world.request(f"Hung {number}", str(number))
    return [
        api.templates.CreateTemplate.future(world.request("Hung"), timeout=deadline),
        api.templates.CreateTemplate.future(with_id, timeout=deadline),
        api.users.ListUsers.future(ListUsersRequest(), timeout=deadline),
        api.models.GetModel.future(GetModelRequest(openai_id=world.name), timeout=deadline),
    ]


@pytest.mark.timed
def test_a_database_that_hangs_under_load_holds_no_thread_too_long_and_loses_and_doubles_no_write(
    own_postgres: embedded.Server, impatient: Service
) -> None:
    with connected(impatient.address) as api, looking(own_postgres.url) as database:
        load = Load(world := World(api), reads=THREADS // 2, writes=THREADS // 2)
        since = impatient.position()
        with load.running(impatient.address):
            for _ in range(3):
                load.wait_for_writes(50)
                with hung(own_postgres):
                    # Past the deadline of those that it caught, and into those that follow.
                    time.sleep(1.5 * DEADLINE_SECONDS)
                resumed = time.monotonic()
                load.wait_for_writes(1)
                assert time.monotonic() - resumed < 2
        rows = world.written(database)
    slowest = max(call["duration_ms"] / 1000 for call in impatient.calls(since))
    say(f"slowest {slowest} s, {len(rows)} writes, refused: {dict(load.refused_writes)}, reads: {dict(load.reads)}")
    assert DEADLINE_SECONDS < slowest <= DEADLINE_SECONDS + SLACK_SECONDS
    assert rows == {title: [id] for title, id in load.acknowledged.items()}
    expected = {StatusCode.OK, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE}
    assert {code for code, _ in load.refused_writes | load.reads} <= expected


def succeeds(call: Callable[..., object], *arguments: object) -> bool:
    try:
        call(*arguments)
    except RpcError:
        return False
    return True
