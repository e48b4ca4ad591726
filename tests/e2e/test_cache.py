"""The cache of several processes: how soon each hears of a write, and what it answers when it hears nothing."""

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, UpdateTemplateRequest
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from service.cache import Cache
from service.config import Settings
from service.database import embedded
from service.identity import identities
from service.server import wiring
from tests.conftest import Api, Calling, Database, fails
from tests.e2e.clients import connected, say
from tests.e2e.proxy import Proxy
from tests.e2e.serving import eventually, key, serving
from tests.e2e.test_faults import dead, hung
from tests.scale import CACHED_WRITES, HISTORY_SECONDS

FULL = TemplateView.TEMPLATE_VIEW_FULL
STRONG = (("x-omniflo-consistency", "strong"),)
AVAILABLE = (("x-omniflo-consistency", "available"),)
LISTENS = "query like '%%omniflo_feed%%' and datname = current_database() and pid <> pg_backend_pid()"
AWAY = {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}


class Counter:
    """A template whose title is a number, which one caller counts up."""

    def __init__(self, api: Api) -> None:
        self.template = api.template(title="0")
        self.value = 0

    def increase(self, api: Api) -> int:
        body = Template(id=self.template.id, title=str(self.value + 1))
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
        self.value += 1
        return self.value

    def increase_with_token(self, api: Api) -> Any:
        """Answer the metadata with which a read shows it."""
        body = Template(id=self.template.id, title=str(self.value + 1))
        _, call = api.templates.UpdateTemplate.with_call(UpdateTemplateRequest(template=body))
        self.value += 1
        return (("x-omniflo-at-least", dict(call.trailing_metadata())["x-omniflo-token"]),)

    def increase_by_hand(self, database: Database) -> int:
        self.value += 1
        database.query("update templates set title = %s where id = %s", (str(self.value), self.template.id))
        return self.value

    def read(self, api: Api, view: TemplateView.ValueType = FULL, **options: Any) -> int:
        return int(api.templates.GetTemplate(GetTemplateRequest(id=self.template.id, view=view), **options).title)


@pytest.fixture
def database(new_database: Callable[[], str]) -> Iterator[Database]:
    """A database of its own, since some of these tests break its connections."""
    database = Database(new_database())
    yield database
    database.close()


@contextmanager
def serving_api(url: str, log: Path, **settings: object) -> Iterator[Api]:
    with serving(url, log, **settings) as running, connected(running.address) as api:
        yield api


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[embedded.Server]:
    """A PostgreSQL that may be killed and stopped."""
    running = embedded.Server(tmp_path, ["-c", "fsync=off"])
    running.start()
    yield running
    running.stop()


@pytest.fixture
def pair(database: Database, tmp_path: Path) -> Iterator[tuple[Api, Api]]:
    """Two services on one database."""
    first, second = (serving_api(database.url, tmp_path / f"{number}.log") for number in (1, 2))
    with first as one, second as two:
        yield one, two


def known(counter: Counter, api: Api) -> None:
    """Read until what is read is what was written: from the cache, as it is read twice."""
    eventually(lambda: counter.read(api) == counter.read(api) == counter.value, within=5)


@pytest.mark.timed
@pytest.mark.soak
def test_a_write_shows_in_another_process_at_once(pair: tuple[Api, Api]) -> None:
    writer, reader = pair
    counter = Counter(writer)
    behind = []
    for _ in range(CACHED_WRITES):
        known(counter, reader)
        value = counter.increase(writer)
        answered = time.perf_counter()
        while counter.read(reader) != value:
            assert time.perf_counter() < answered + 1
        behind.append((time.perf_counter() - answered) * 1000)
    say(f"another process answers with a write {statistics.median(behind):.1f} ms after it, {max(behind):.1f} at most")


@pytest.mark.timed
@pytest.mark.soak
def test_a_write_shows_in_another_process_to_who_sends_its_token(database: Database, tmp_path: Path) -> None:
    with (
        serving_api(database.url, tmp_path / "1.log") as writer,
        serving(database.url, tmp_path / "2.log") as service,
        connected(service.address) as reader,
    ):
        counter = Counter(writer)
        for _ in range(CACHED_WRITES):
            known(counter, reader)
            token = counter.increase_with_token(writer)
            assert counter.read(reader, metadata=token) == counter.value

        def is_from_memory() -> bool:
            position = service.position()
            assert counter.read(reader, metadata=token) == counter.value
            return eventually(lambda: service.calls(position), within=5)[-1].get("cached") is True

        # From the database at first, and from memory as soon as that has seen the write.
        eventually(is_from_memory, within=5)


@pytest.mark.timed
@pytest.mark.soak
def test_a_write_shows_in_its_own_process_with_its_answer(pair: tuple[Api, Api]) -> None:
    counter = Counter(pair[0])
    for _ in range(CACHED_WRITES):
        known(counter, pair[0])
        assert counter.increase(pair[0]) == counter.read(pair[0])


@pytest.mark.timed
def test_a_listener_that_is_killed_leaves_no_answer_stale_for_a_second(
    pair: tuple[Api, Api], database: Database
) -> None:
    counter = Counter(pair[0])
    for _ in range(5):
        known(counter, pair[1])
        assert database.query(f"select pg_terminate_backend(pid) from pg_stat_activity where {LISTENS}")
        cut = time.monotonic()
        value = counter.increase_by_hand(database)
        never_stale_after(cut + 1, lambda value=value: counter.read(pair[1]) == value)  # type: ignore[misc]


@pytest.mark.timed
def test_a_listener_that_hears_nothing_leaves_no_answer_stale_for_a_second(
    database: Database, postgres: embedded.Server, tmp_path: Path
) -> None:
    silence, falls = threading.Event(), threading.Event()

    def swallow(data: bytes, to_service: bool) -> bool:
        del data, to_service
        if falls.is_set():
            silence.wait(30)
        return False

    with Proxy(postgres.socket_dir) as proxy:
        ((name,),) = database.query("select current_database()")
        heard = f"postgresql://omniflo@127.0.0.1:{proxy.port}/{name}"
        with serving_api(database.url, tmp_path / "log", database_direct_url=heard) as api:
            counter = Counter(api)
            known(counter, api)
            proxy.cuts = swallow
            falls.set()
            cut = time.monotonic()
            value = counter.increase_by_hand(database)
            never_stale_after(cut + 1, lambda: counter.read(api) == value)
            silence.set()
            falls.clear()
            # Heard again: it answers from the cache, and nothing old.
            for _ in range(20):
                counter.increase_by_hand(database)
                known(counter, api)


def never_stale_after(moment: float, is_new: Callable[[], bool]) -> None:
    """Ask from now on until well after the moment; from then on every answer must be the new one."""
    while (now := time.monotonic()) < moment + 0.5:
        assert is_new() or now < moment
        time.sleep(0.005)


@pytest.mark.timed
@pytest.mark.parametrize("away", [dead, hung])
def test_while_the_database_is_away_who_takes_what_was_last_known_gets_it(
    own_postgres: embedded.Server, tmp_path: Path, away: Callable[[embedded.Server], AbstractContextManager[None]]
) -> None:
    with serving_api(own_postgres.url, tmp_path / "log", deadline_seconds=3) as api:
        counter, unread = Counter(api), Counter(api)
        known(counter, api)
        request = GetTemplateRequest(id=counter.template.id, view=FULL)
        with away(own_postgres):
            eventually(lambda: not _is_answered(api, request), within=5)
            answer, call = api.templates.GetTemplate.with_call(request, metadata=AVAILABLE)
            assert answer.title == "0"
            assert 1 <= int(dict(call.trailing_metadata())["x-omniflo-stale-seconds"]) <= 10
            for metadata in ((), STRONG):
                assert fails(api.templates.GetTemplate, request, metadata=metadata).code in AWAY
            nothing_known = GetTemplateRequest(id=unread.template.id)
            assert fails(api.templates.GetTemplate, nothing_known, metadata=AVAILABLE).code in AWAY
        eventually(lambda: _is_answered(api, request), within=10)
        _, call = api.templates.GetTemplate.with_call(request, metadata=AVAILABLE)
        assert "x-omniflo-stale-seconds" not in dict(call.trailing_metadata() or ())


def test_while_the_database_is_away_only_callers_who_were_known_are_answered(
    own_postgres: embedded.Server, tmp_path: Path
) -> None:
    settings = {"auth": "required", "admins": "user_1"}
    with serving(own_postgres.url, tmp_path / "log", **settings) as running, connected(running.address) as anybody:
        known_key, other_key = (key(own_postgres.url, "user_1", "write") for _ in range(2))
        channel = grpc.intercept_channel(anybody.channel, Calling([("authorization", f"Bearer {known_key}")]))
        api = Api(channel)
        me = api.users.ListUsers(ListUsersRequest()).users[0]
        template = api.template(user_id=me.id, title="0")
        request = GetTemplateRequest(id=template.id)
        for _ in range(2):
            api.templates.GetTemplate(request)
        with dead(own_postgres):
            eventually(lambda: not _is_answered(api, request), within=5)
            assert api.templates.GetTemplate(request, metadata=AVAILABLE) == template
            # After it would have been asked for anew.
            time.sleep(identities.TRUST_SECONDS)
            assert api.templates.GetTemplate(request, metadata=AVAILABLE) == template
            stranger = [*AVAILABLE, ("authorization", f"Bearer {other_key}")]
            assert fails(anybody.templates.GetTemplate, request, metadata=stranger).code in AWAY
            body = Template(id=template.id, title="1")
            write = UpdateTemplateRequest(template=body)
            assert fails(api.templates.UpdateTemplate, write, metadata=AVAILABLE).code in AWAY


def _is_answered(api: Api, request: GetTemplateRequest) -> bool:
    try:
        api.templates.GetTemplate(request)
    except grpc.RpcError as error:
        if error.code() not in AWAY:
            raise
        return False
    return True


def histories(counter: Counter, apis: list[Api], database: Database, seconds: float) -> list[tuple[int, int]]:
    """Write and read for a time, and answer each pair of values of which a reader saw the newer one first."""
    end = time.monotonic() + seconds

    def reader(api: Api, seed: int) -> list[tuple[int, int]]:
        dice = random.Random(seed)
        newest, back = 0, []
        while time.monotonic() < end:
            # Each view is kept by itself: one that is read anew shows whether another is old.
            view = dice.choice(TemplateView.values())
            value = counter.read(api, view, metadata=STRONG if dice.random() < 0.2 else ())
            if value < newest:
                back.append((newest, value))
            newest = max(newest, value)
        return back

    with ThreadPoolExecutor(2 * len(apis)) as pool:
        readers = [pool.submit(reader, api, seed) for seed, api in enumerate(apis * 2)]
        while time.monotonic() < end:
            counter.increase(random.choice(apis)) if random.random() < 0.5 else counter.increase_by_hand(database)
            time.sleep(random.random() * 0.02)
        return [pair for running in readers for pair in running.result(30)]


@pytest.mark.timed
@pytest.mark.soak
def test_no_reader_sees_an_old_value_after_a_new_one(pair: tuple[Api, Api], database: Database) -> None:
    counter = Counter(pair[0])
    assert histories(counter, list(pair), database, HISTORY_SECONDS) == []
    assert counter.value > 10


@pytest.mark.timed
def test_the_histories_show_when_nothing_is_forgotten(
    api: Api, database_session: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "change", lambda *_: None)
    running = wiring.build(Settings(auth="none", drain_seconds=0), url)
    port = running.start({"listen": "127.0.0.1:0"})["listen"]
    try:
        with connected(f"127.0.0.1:{port}") as deaf:
            counter = Counter(api)
            known(counter, deaf)
            assert histories(counter, [deaf], database_session, 1)
    finally:
        running.drain()
