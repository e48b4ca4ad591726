"""What the tests of authentication share: an authority, and servers that ask who calls."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest

from tests.auth.servers import InProcess, Mesh, Served, listening, served
from tests.certificates import Authority
from tests.clerk_stand_in import ISSUER, PARTY, Clerk
from tests.conftest import PLATFORM_ADMIN, Callers, Database


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """The certificates of servers, services and proxies."""
    return Mesh(Authority(tmp_path_factory.mktemp("mesh")))


@pytest.fixture(scope="session")
def meshed_session(url: str, clerk: Clerk, mesh: Mesh) -> Iterator[InProcess]:
    with listening(
        url,
        {"listen", "listen_mtls", "health_listen"},
        **mesh.settings,
        clerk_issuer=ISSUER,
        clerk_jwks_url=clerk.url,
        clerk_authorized_parties=(PARTY,),
        admins=(PLATFORM_ADMIN,),
        trust_xfcc="on",
    ) as server:
        yield server


@pytest.fixture
def meshed(meshed_session: InProcess, database: Database, clerk: Clerk) -> InProcess:
    """A server of this process with TLS and mTLS, which trusts XFCC of loopback and of the proxy."""
    del database
    clerk.is_away = False
    meshed_session.forget()
    return meshed_session


@pytest.fixture(scope="session")
def processes(
    new_database: Callable[[], str], clerk: Clerk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service of two processes, with its own database, that logs all that it can."""
    folder = tmp_path_factory.mktemp("processes")
    with served(
        new_database(),
        folder / "log",
        auth="required",
        workers=2,
        log_level="debug",
        clerk_issuer=ISSUER,
        clerk_jwks_url=clerk.url,
        clerk_authorized_parties=PARTY,
        trust_xfcc="on",
        services=Mesh.services_variable(),
    ) as service:
        yield service


@pytest.fixture
def connect(clerk: Clerk) -> Iterator[Callable[..., Callers]]:
    """Connects anew to an address, with or without credentials, until the test ends."""
    with ExitStack() as stack:

        def open_channel(address: str, credentials: grpc.ChannelCredentials | None = None) -> Callers:
            # A connection of its own, where grpcio would share one.
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = (
                grpc.insecure_channel(address, options)
                if credentials is None
                else grpc.secure_channel(address, credentials, options)
            )
            return Callers(stack.enter_context(channel), clerk)

        yield open_channel
