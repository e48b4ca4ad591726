"""Servers that ask who calls: in this process, and as processes of their own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from service.config import Settings
from service.identity.identities import Identities
from service.server import wiring
from tests.certificates import Authority, Files
from tests.conftest import ADMIN, DNS_WRITER, READER, SHORT_TRUST_SECONDS, WRITER, Database
from tests.e2e import serving

PROXY = "spiffe://mesh/proxy"
SERVICES = {READER: "reader", WRITER: "writer", ADMIN: "admin", DNS_WRITER: "writer"}


class Mesh:
    """Certificates of an authority: the server's, the proxy's, and those of services."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.server = authority.issue("server", dns=["localhost"], addresses=["127.0.0.1"])
        self.proxy = authority.issue("proxy", uris=[PROXY])
        self._numbers = 0

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "tls_cert": self.server.cert,
            "tls_key": self.server.key,
            "tls_client_ca": self.authority.path,
            "services": SERVICES,
            "proxies": (PROXY,),
        }

    @staticmethod
    def services_variable() -> str:
        return ",".join(f"{name}={role}" for name, role in SERVICES.items())

    def shows(self, *uris: str, dns: Iterable[str] = ()) -> grpc.ChannelCredentials:
        """Answer what a client needs whose certificate has the names."""
        self._numbers += 1
        return self.with_files(self.authority.issue(f"client-{self._numbers}", uris=uris, dns=list(dns)))

    def with_files(self, files: Files | None) -> grpc.ChannelCredentials:
        """Answer what a client needs that shows the certificate, or none."""
        key, cert = (None, None) if files is None else files.read()
        return grpc.ssl_channel_credentials(self.authority.path.read_bytes(), key, cert)


class Listening:
    """A server, and where it listens."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports

    def __getitem__(self, setting: str) -> str:
        return f"127.0.0.1:{self.ports[setting]}"


class InProcess(Listening):
    """A server of this process, and what it remembers of its callers."""

    def __init__(self, ports: dict[str, int], identities: Identities | None) -> None:
        super().__init__(ports)
        self._identities = identities

    def forget(self) -> None:
        """Forget every caller of earlier tests."""
        if self._identities is not None:
            self._identities.forget()


@contextmanager
def listening(
    url: str, listeners: Iterable[str] = ("listen",), *, host: str = "127.0.0.1", **settings: Any
) -> Iterator[InProcess]:
    """Serve in this process for the time of the block."""
    with_auth = Settings(**{"auth": "required", "drain_seconds": 1, **settings})
    running = wiring.build(with_auth, url, trust_seconds=SHORT_TRUST_SECONDS)
    try:
        yield InProcess(running.start(dict.fromkeys(listeners, f"{host}:0")), running.identities)
    finally:
        running.drain()


class Served(Listening):
    """A service in processes of its own, its database, and its log."""

    def __init__(self, url: str, log: Path, service: serving.Service) -> None:
        self.url = url
        self.log = log
        self.service = service
        starts = [line for line in serving.logged(log) if line["event"] == "serving"]
        super().__init__({name: starts[0][name] for name in starts[0] if "listen" in name})

    @contextmanager
    def database(self) -> Iterator[Database]:
        database = Database(self.url)
        yield database
        database.close()


@contextmanager
def served(url: str, log: Path, **settings: object) -> Iterator[Served]:
    """Serve in processes of their own for the time of the block."""
    with serving.serving(url, log, **settings) as service:
        yield Served(url, log, service)
