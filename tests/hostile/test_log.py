"""That the JSON log is JSON, line by line, whoever writes to it and whatever is sent."""

import json
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.user_service_pb2 import ProvisionUserRequest
from service import logs
from service.database import embedded
from tests.certificates import Authority
from tests.conftest import Database
from tests.e2e.clients import connected
from tests.e2e.serving import Service, eventually, serving
from tests.e2e.test_process import children, run
from tests.hostile.raw import CHECK, connections

FORGED = b'{"event":"call","level":"info","timestamp":"2026-11-26T00:00:00Z","caller":"somebody else"}'
GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b'{"event": "call"}\n', b"\0" * 100]


def parsed(log: Path) -> list[dict[str, Any]]:
    lines = []
    for line in log.read_text().split("\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            pytest.fail(f"no JSON: {line!r}")
        assert isinstance(lines[-1], dict)
        assert {"event", "timestamp", "level"} <= lines[-1].keys()
    return lines


@pytest.mark.parametrize("format_", ["json", "auto"])
def test_every_line_is_json_whoever_writes_it(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    # grpcio's own says more then.
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    server = Authority(tmp_path).issue("server", dns=["localhost"], addresses=["127.0.0.1"])
    settings = {"auth": "required", "tls_cert": server.cert, "tls_key": server.key, "log_format": format_, "workers": 2}
    log = tmp_path / "log"
    with serving(new_database(), log, **settings) as service:
        host, _, port = service.address.rpartition(":")
        for data in GARBAGE * 2:
            with socket.create_connection((host, int(port)), 5) as connection:
                connection.sendall(data)
        # What is written past everything: by a library, by Python, by the system.
        workers = sorted(children(service.pid, "worker"))
        for pid in (service.pid, *workers):
            with Path(f"/proc/{pid}/fd/2").open("wb", buffering=0) as stderr:
                stderr.write(b"E0000 00:00:00 12 ssl.cc:1] no JSON\nand\x1b[31m\xff\xfe\n\n[1]\n7\n" + FORGED + b"\n")
        os.kill(workers[0], signal.SIGABRT)
        eventually(lambda: any(line["event"] == "worker died" for line in parsed(log)), within=10)
        with connected(service.address):
            pass
    lines = parsed(log)
    strays = [line["line"] for line in lines if line["event"] == "stderr"]
    assert strays.count("E0000 00:00:00 12 ssl.cc:1] no JSON") == 3
    assert any("\x1b" in stray for stray in strays)
    assert strays.count(FORGED.decode()) == 3
    assert not [line for line in lines if line.get("caller") == "somebody else"]
    # Those of grpcio.
    assert any("Handshake" in stray or "handshake" in stray for stray in strays)


def test_a_service_that_cannot_start_says_so_in_json() -> None:
    wrong = {"threads": "1000", "listen": "192.0.2.1:1", "database_url": "postgresql://127.0.0.1:1/x"}
    for name, value in wrong.items():
        done = run("serve", "--seed", **{name: value})
        assert done.returncode == 1
        assert [json.loads(line)["event"] for line in done.stderr.splitlines()][-1] == "failed"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def service(new_database: Callable[[], str], log: Path) -> Iterator[Service]:
    """A service that logs there."""
    with serving(new_database(), log, replica="a-pod") as service:
        yield service


def test_metadata_that_is_no_utf_8_writes_no_lines_of_its_own(service: Service, log: Path) -> None:
    with connections(service.address, 1) as (stranger,):
        before = len(parsed(log))
        streams = [stranger.open(CHECK, *[("a", b"\xff")] * 200) for _ in range(10)]
        for stream in streams:
            stranger.send(stream, b"")
        assert all(stranger.wait_until_ended(stream, 10) for stream in streams)
    assert len(parsed(log)) - before < len(streams)


def test_a_line_names_the_replica_and_the_trace_of_its_caller_also_where_the_service_does_not_trace(
    service: Service, log: Path
) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = [f"00-{trace}-{span}-01", f"00-{trace}-{span}-01~", "00-0-0-0"]
    with connected(service.address) as api:
        for header in headers:
            user = ProvisionUserRequest(clerk_id="user_1")
            api.users.ProvisionUser(user, metadata=(("traceparent", header),))
    eventually(lambda: len(service.calls()) == len(headers), within=10)
    assert [line.get("trace_id") for line in service.calls()] == [trace, None, None]
    assert {line["replica"] for line in parsed(log) if line["event"] != "stderr"} == {"a-pod"}


def test_calls_do_not_wait_for_who_reads_the_log(new_database: Callable[[], str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    # Open for both: the service can open it, and has a reader who reads nothing.
    pipe = os.open(log, os.O_RDWR)
    read = bytearray()

    def take() -> None:
        while not read.endswith(b"\nend"):
            read.extend(os.read(pipe, 4096))

    reader = threading.Thread(target=take)
    try:
        with serving(new_database(), log, workers=1) as service:
            with connected(service.address) as api:
                for _ in range(500):
                    api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_1"), timeout=10)
            reader.start()
        os.write(pipe, b"end")
        reader.join(10)
        assert not reader.is_alive()
    finally:
        os.close(pipe)
    assert sum(json.loads(line)["event"] == "call" for line in read.splitlines()[:-1]) == 500


def test_a_log_that_cannot_be_written_for_a_while_stops_no_call_and_no_probe(
    new_database: Callable[[], str], tmp_path: Path, postgres: embedded.Server
) -> None:
    url = new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    with serving(url, tmp_path / "log", workers=1, threads=2, cache_mb=0) as service, connected(service.address) as api:
        processes = [service.pid, service.newest_worker()]
        admin = Database(postgres.admin_url)
        health = HealthStub(api.channel)
        nobodys: Any = api.channel.unary_unary("/a.B/C")

        def call() -> None:
            api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_1"), timeout=10)
            with pytest.raises(grpc.RpcError):
                nobodys(b"", timeout=10)

        def is_serving() -> bool:
            return bool(health.Check(HealthCheckRequest(), timeout=5).status == HealthCheckResponse.SERVING)

        eventually(is_serving, within=10)
        # The same error as that of a full disk.
        _limit_files(processes, 1)
        for _ in range(20):
            call()
        admin.query(f"alter database {name} allow_connections false")
        admin.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        eventually(lambda: not is_serving(), within=10)
        admin.query(f"alter database {name} allow_connections true")
        eventually(is_serving, within=10)
        _limit_files(processes, resource.RLIM_INFINITY)
        for _ in range(20):
            call()
        eventually(lambda: [line for line in parsed(tmp_path / "log") if line["event"] == "lines"], within=10)
        eventually(lambda: len(service.calls()) >= 20, within=10)


def _limit_files(processes: Iterable[int], size: int) -> None:
    for process in processes:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_libraries_write_so_many_lines_a_second_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([*[7.0] * (2 * logs.MOST_OF_LIBRARIES), 8.0])
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    handler = logs._Handler()
    lines: list[str] = []
    monkeypatch.setattr(handler, "_write", lambda record: lines.append(record.msg))
    with structlog.testing.capture_logs() as noted:
        for number in range(2 * logs.MOST_OF_LIBRARIES + 1):
            handler.emit(logging.LogRecord("grpc", logging.ERROR, "", 0, str(number), (), None))
    assert lines == [*map(str, range(logs.MOST_OF_LIBRARIES)), str(2 * logs.MOST_OF_LIBRARIES)]
    assert [line["dropped"] for line in noted if line["event"] == "library"] == [logs.MOST_OF_LIBRARIES]
