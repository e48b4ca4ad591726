"""Failover: PostgreSQL's primary is killed under load, and its standby is promoted. Nothing is lost, nothing twice."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from grpc import StatusCode

from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from service.database import connections, embedded, migrate, roles
from service.database.connections import connect
from service.deadline import time_limit
from tests.conftest import Database, as_service
from tests.e2e.clients import connected, say
from tests.e2e.serving import eventually, serving
from tests.e2e.test_docs import blocks
from tests.e2e.test_faults import THREADS, Load, World, children
from tests.e2e.watching import watching
from tests.migrations.conftest import working_on
from tests.pooler import IS_INSTALLED, pooled
from tests.scale import FAILOVERS, IS_SOAK

SECONDS = 30.0
BACK_SECONDS = 3.0
"""How soon after the promotion calls succeed."""
AFRESH_SECONDS = 1.0
"""How soon after that caches and watches have started over."""


class Standby(embedded.Server):
    """A copy of a PostgreSQL that follows it until it is promoted."""

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            # It has the roles of its primary, and can be given none.
            patch.setattr(roles, "prepare", lambda _: None)
            super().start()


@contextmanager
def pair(folder: Path, url: str) -> Iterator[tuple[embedded.Server, embedded.Server]]:
    """Run a migrated primary, each of whose commits waits until its standby shows it, and that one."""
    primary = embedded.Server(folder / "primary", ["-c", "fsync=off"])
    with (primary._folder / "hba.conf").open("a") as rules:
        # Its user may have no name, by which PostgreSQL would know who connects.
        rules.write("local replication all trust\n")
    primary.start()
    try:
        with working_on(primary.url, afterwards=url):
            migrate.up(migrate.load(), role="omniflo_service")
        with closing(Database(primary.admin_url)) as admin:
            for name, value in (("synchronous_standby_names", "*"), ("synchronous_commit", "remote_apply")):
                admin.query(f"alter system set {name} = '{value}'")
        copy = folder / "standby" / "postgresql"
        copy.parent.mkdir()
        source = ("-h", primary.socket_dir, "-U", "postgres")
        subprocess.run(
            [primary.binaries / "pg_basebackup", *source, "-D", copy, "-R", "--checkpoint=fast"],
            check=True,
            timeout=SECONDS,
        )
        standby = Standby(folder / "standby", ["-c", "fsync=off"])
        standby.start()
        try:
            with closing(Database(primary.admin_url)) as admin:
                # Of the copy as well, once it is promoted.
                admin.query("select pg_reload_conf()")
                follows = "select sync_state from pg_stat_replication"
                eventually(lambda: admin.query(follows) == [("sync",)], within=SECONDS)
            yield primary, standby
        finally:
            standby.stop()
    finally:
        kill(primary)
        primary.stop()


def url_of(*hosts: Path) -> str:
    host = ",".join(quote(str(host), safe="") for host in hosts)
    return f"postgresql://omniflo@/postgres?host={host}&target_session_attrs=read-write"


def kill(server: embedded.Server) -> None:
    """Let a machine be gone at once, with all that runs on it."""
    for pid in (server.pid, *children(server.pid)):
        os.kill(pid, signal.SIGKILL)


def freeze(server: embedded.Server) -> None:
    """Let a machine take what comes, and answer nothing."""
    for pid in (server.pid, *children(server.pid)):
        os.kill(pid, signal.SIGSTOP)


def promote(standby: embedded.Server) -> None:
    """Do what docs/operators.md says."""
    (sql,) = blocks("docs/operators.md", "Failover", language="sql")
    with closing(Database(standby.admin_url)) as admin:
        for statement in filter(str.strip, sql.split(";")):
            admin.query(statement)


@contextmanager
def pointing(server: embedded.Server) -> Iterator[Path]:
    """Yield a folder that is the server's for now, as an address of a network would be."""
    # The path of a socket may have 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="omniflo-failover-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "current"
        place.symlink_to(server.socket_dir)
        yield place


TURNS = [
    *("direct" for _ in range(FAILOVERS)),
    *(["frozen"] if IS_SOAK else []),
    *([pytest.param("pooled", marks=pytest.mark.skipif(not IS_INSTALLED, reason="no PgBouncer"))] if IS_SOAK else []),
]


@pytest.mark.timed
@pytest.mark.soak
@pytest.mark.parametrize("way", TURNS)
def test_a_standby_that_is_promoted_under_load_loses_and_doubles_no_write(tmp_path: Path, url: str, way: str) -> None:
    with ExitStack() as stack:
        primary, standby = stack.enter_context(pair(tmp_path, url))
        both = url_of(primary.socket_dir, standby.socket_dir)
        settings: dict[str, object] = {}
        if way == "pooled":
            place = stack.enter_context(pointing(primary))
            pool = stack.enter_context(pooled(as_service(url_of(place))))
            settings = {"database_url": pool, "database_direct_url": as_service(both), "prepare": "off"}
        service = stack.enter_context(serving(both, tmp_path / "log", threads=THREADS, **settings))
        api = stack.enter_context(connected(service.address))
        world = World(api)
        load = Load(world, reads=THREADS // 2, writes=THREADS // 2)
        cached = api.template()
        with load.running(service.address), watching(api.channel) as watch:
            load.wait_for_writes(20)
            (freeze if way == "frozen" else kill)(primary)
            if way == "frozen":
                # Whoever promotes a standby because of that takes longer to be sure.
                eventually(lambda: not service.events("database")[-1]["is_reachable"], within=SECONDS)
            promote(standby)
            promoted, before = time.monotonic(), len(load.acknowledged)
            if way == "pooled":
                place.unlink()
                place.symlink_to(standby.socket_dir)
            eventually(lambda: len(load.acknowledged) > before, within=BACK_SECONDS)
            back = time.monotonic()
            # It was told that it may have missed something, and then that it cannot go on from where it was.
            eventually(lambda: watch.ends[-1:] == [("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED")], within=AFRESH_SECONDS)
            load.wait_for_writes(20)
        with closing(Database(standby.url)) as database, watching(api.channel) as watch:
            database.query("update templates set title = 'After' where id = %s", (cached.id,))
            request = GetTemplateRequest(id=cached.id)
            eventually(lambda: api.templates.GetTemplate(request).title == "After", within=AFRESH_SECONDS)
            eventually(lambda: watch.ids() == [cached.id], within=AFRESH_SECONDS)
            rows = world.written(database)
    say(f"back after {back - promoted:.2f} s, {len(rows)} writes, refused: {dict(load.refused_writes)}")
    assert rows == {title: [id] for title, id in load.acknowledged.items()}
    assert {code for code, _ in load.refused_writes} <= {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}


def test_a_host_that_hangs_is_given_up_for_the_next_which_is_asked_first_from_then_on(
    postgres: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HOST_SECONDS", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        port = hung.getsockname()[1]
        url = f"{url_of(Path('127.0.0.1'), postgres.socket_dir)}&port={port},5432"
        # What has less time leaves some of it for the next one.
        with time_limit(2.0):
            connect(url).close()
        hung.settimeout(SECONDS)
        hung.accept()[0].close()
        connect(url).close()
        hung.settimeout(0)
        with pytest.raises(BlockingIOError):
            hung.accept()


def test_who_waits_for_a_host_is_cut_when_another_one_has_taken_over(postgres: embedded.Server) -> None:
    with pointing(postgres) as place:
        url = url_of(place, postgres.socket_dir)
        with closing(connect(url)) as old, ThreadPoolExecutor(1) as pool:
            began = threading.Event()

            def wait() -> None:
                began.set()
                old.cursor().execute("select pg_sleep(30)")

            waiting = pool.submit(wait)
            began.wait(SECONDS)
            # Its connections stay.
            place.unlink()
            with closing(connect(url)) as new:
                with pytest.raises(psycopg2.OperationalError, match="another host has taken over"):
                    waiting.result(SECONDS)
                new.cursor().execute("select 1")


def test_hosts_that_let_nobody_in_are_named_with_what_they_said() -> None:
    with pytest.raises(psycopg2.OperationalError) as caught:
        connect(url_of(Path("/nowhere"), Path("/elsewhere")))
    first, second = (line for line in str(caught.value).splitlines() if "connection to server" in line)
    assert ("/nowhere" in first, "/elsewhere" in second) == (True, True)
