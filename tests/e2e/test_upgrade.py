"""A rolling upgrade and its rollback: two releases on one database under load, with a migration in between."""

import json
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.selection_service_pb2 import ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    GetTemplateRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from service.database import migrate
from tests.conftest import ROOT, Api, Database
from tests.e2e.serving import Service, eventually, serving, serving_by
from tests.migrations.conftest import working_on

pytestmark = pytest.mark.waiting

SECONDS = 30.0
NEWEST = len(migrate.load())
NAME = f"{NEWEST + 1:04}_colours"
UP = f"""
{migrate.COMPATIBLE_FROM} {NEWEST:04}
alter table templates add column colour text not null default 'red';
alter table users add column colour text;
create table colours (name text primary key);
"""
DOWN = """
drop table colours;
alter table users drop column colour;
alter table templates drop column colour;
"""
# What a caller's library can do by itself, and nothing else: a replica that says NOT_SERVING gets no more calls.
CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})
CALLERS = 2


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The next release: this one with one migration more."""
    folder = tmp_path / "newer"
    for name in ("service", "migrations"):
        # With what Python has compiled of it.
        shutil.copytree(ROOT / name, folder / name)
    for way, sql in (("up", UP), ("down", DOWN)):
        (folder / "migrations" / f"{NAME}.{way}.sql").write_text(sql)
    return folder


class Callers:
    """Callers of two replicas, who read and write, and count what they have done."""

    def __init__(self, addresses: list[str]) -> None:
        self._target = f"ipv4:{','.join(addresses)}"
        self._stop = threading.Event()
        self._calling: list[Future[None]] = []
        self.done = [0] * CALLERS

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call for the time of the block; a call that fails ends it."""
        with ThreadPoolExecutor(CALLERS) as pool:
            self._calling = [pool.submit(self._call, number) for number in range(CALLERS)]
            try:
                yield
            finally:
                self._stop.set()
            for each in self._calling:
                each.result(SECONDS)

    def go_on(self) -> None:
        """Wait until each has done some more, or has failed."""
        wanted = [count + 3 for count in self.done]

        def has_gone_on() -> bool:
            for each in self._calling:
                if each.done():
                    each.result()
            return all(done >= count for done, count in zip(self.done, wanted, strict=True))

        eventually(has_gone_on, within=SECONDS)

    def _call(self, number: int) -> None:
        options = [
            ("grpc.service_config", CONFIG),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        with grpc.insecure_channel(self._target, options) as channel:
            grpc.channel_ready_future(channel).result(SECONDS)
            api = Api(channel)
            made = api.template(select=True)
            while not self._stop.wait(0.05):
                title = f"{number} {self.done[number]}"
                body = Template(id=made.id, title=title, etag=made.etag)
                update = UpdateTemplateRequest(template=body, request_id=title)
                update.update_mask.paths.append("title")
                made = api.templates.UpdateTemplate(update, timeout=SECONDS)
                found = [
                    api.templates.GetTemplate(GetTemplateRequest(id=made.id), timeout=SECONDS),
                    api.selections.ResolveTemplate(
                        ResolveTemplateRequest(user_id=made.user_id, template_type=made.template_type), timeout=SECONDS
                    ).template,
                    *api.templates.ListTemplates(ListTemplatesRequest(user_id=made.user_id), timeout=SECONDS).templates,
                ]
                assert {each.id for each in found} == {made.id}
                self.done[number] += 1


def free_addresses(count: int) -> list[str]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in held]


class Replica:
    """A service that was started, and is ended by itself."""

    def __init__(self, stack: ExitStack, started: AbstractContextManager[Service]) -> None:
        self._stack = stack.enter_context(ExitStack())
        self.service = self._stack.enter_context(started)
        with grpc.insecure_channel(self.service.address) as channel:
            health = HealthStub(channel)
            eventually(
                lambda: health.Check(HealthCheckRequest(), timeout=SECONDS).status == HealthCheckResponse.SERVING,
                within=SECONDS,
            )

    def is_called(self) -> None:
        """Wait until each caller has found that it is there: before that, they would be left without any replica."""

        def callers() -> set[str]:
            return {line["peer"] for line in self.service.events("call") if line["method"].startswith("/omniflo.")}

        eventually(lambda: len(callers()) >= CALLERS, within=SECONDS)

    def end(self) -> None:
        """Let it drain, as whoever replaces it does."""
        self._stack.close()


def test_old_and_new_releases_take_turns_under_load_and_no_call_fails(
    new_database: Callable[[], str], newer: Path, tmp_path: Path, url: str
) -> None:
    ours = new_database()
    files = migrate.load(newer / "migrations")
    addresses = free_addresses(2)
    callers = Callers(addresses)
    settings = {"drain_delay_seconds": 1, "drain_seconds": 20}

    def old(number: int) -> AbstractContextManager[Service]:
        # With --migrate, as every replica may be.
        return serving(ours, tmp_path / f"log-{number}", listen=addresses[number % 2], **settings)

    with closing(Database(ours)) as database, ExitStack() as stack:

        def newest() -> str:
            ((name,),) = database.query("select name from schema_migrations order by version desc limit 1")
            return str(name)

        first, second = (Replica(stack, old(number)) for number in range(2))
        with callers.calling():
            callers.go_on()
            with working_on(ours, afterwards=url):
                assert migrate.up(files, role="omniflo_service") == [NAME]
            callers.go_on()
            first.end()
            upgraded = Replica(
                stack,
                serving_by(
                    Path(sys.executable),
                    newer,
                    ours,
                    tmp_path / "log-new",
                    "--migrate",
                    listen=addresses[0],
                    **settings,
                ),
            )
            upgraded.is_called()
            second.end()
            callers.go_on()
            # Nothing but the new one is there, and the old one is wanted back.
            Replica(stack, old(3)).is_called()
            upgraded.end()
            callers.go_on()
            assert newest() == NAME
            with working_on(ours, afterwards=url):
                assert migrate.down(files, to=NEWEST) == [NAME]
            callers.go_on()
        assert newest() != NAME
        assert database.query("select count(*) from template_revisions") >= [(sum(callers.done),)]
