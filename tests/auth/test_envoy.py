"""A real Envoy in front, as deploy/envoy/mesh.yaml configures it."""

import random
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from string import Template

import grpc
import pytest

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyRequest
from omniflo.templates.v1.change_service_pb2 import WatchChangesRequest
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest, ProvisionUserRequest
from tests.auth import answers
from tests.auth.answers import REFUSED, SECONDS, Refusal, is_let_in, who
from tests.auth.servers import PROXY, Listening, Mesh
from tests.certificates import Authority
from tests.clerk_stand_in import Clerk
from tests.conftest import ADMIN, DNS_WRITER, READER, WRITER, Api, Callers, fails
from tests.envoy import CONFIGS, Envoy, free_port, in_front
from tests.hostile.raw import GET, Raw

XFCC = "x-forwarded-client-cert"


@pytest.fixture(scope="module")
def running(meshed_session: Listening, mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    proxy = mesh.authority.issue("envoy", uris=[PROXY], dns=["localhost"], addresses=["127.0.0.1"])
    port, admin_port = free_port(), free_port()
    values = {
        "ENVOY_LISTEN_ADDRESS": "127.0.0.1",
        "ENVOY_LISTEN_PORT": port,
        "ENVOY_ADMIN_PORT": admin_port,
        "ENVOY_CERT": proxy.cert,
        "ENVOY_KEY": proxy.key,
        "ENVOY_CLIENT_CA": mesh.authority.path,
        "UPSTREAM_ADDRESS": "127.0.0.1",
        "UPSTREAM_PORT": meshed_session.ports["listen_mtls"],
        "UPSTREAM_CA": mesh.authority.path,
        "UPSTREAM_NAME": "localhost",
    }
    # The comment that explains the placeholders has one as well.
    text = Template((CONFIGS / "mesh.yaml").read_text().replace("${NAME}", "$${NAME}")).substitute(values)
    with in_front(text, port, admin_port, tmp_path_factory.mktemp("envoy")) as started:
        yield started


Through = Callable[..., Callers]


def knock(api: Api) -> Refusal:
    """Call as somebody who must be refused, and answer what the service said."""
    refusal = answers.knock(api)
    # Envoy adds which server it is, and how long the other took.
    said = tuple((name, value) for name, value in refusal.trailing if name == "grpc-status-details-bin")
    return refusal._replace(initial=(), trailing=said)


@pytest.fixture
def through(running: Envoy, meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]) -> Through:
    """Connects to Envoy with a certificate of these names."""
    del meshed

    def open_(*uris: str, dns: tuple[str, ...] = ()) -> Callers:
        return connect(running.address, mesh.shows(*uris, dns=dns))

    return open_


@pytest.mark.parametrize("names", [{"uri": WRITER}, {"dns": DNS_WRITER}, {"uri": WRITER, "dns": "a.internal"}])
def test_a_service_gets_in_by_its_certificate(through: Through, names: dict[str, str]) -> None:
    callers = through(*[names[key] for key in names if key == "uri"], dns=tuple(names[k] for k in names if k == "dns"))
    provision = ProvisionUserRequest(clerk_id="user_of_the_mesh")
    assert callers.nobody().users.ProvisionUser(provision).clerk_id == "user_of_the_mesh"


FORGED = {
    "the header": [(XFCC, f"URI={ADMIN}")],
    "the header twice": [(XFCC, f"URI={ADMIN}")] * 2,
    "two elements": [(XFCC, f"URI={ADMIN},URI={WRITER}")],
    "quotes": [(XFCC, f'Subject="CN=a;URI={ADMIN}')],
    "By": [(XFCC, f"By={ADMIN}")],
    "another case": [("X-Forwarded-Client-Cert".lower(), f"uri={ADMIN}")],
    "an empty header": [(XFCC, "")],
    "an underscore": [("x_forwarded_client_cert", f"URI={ADMIN}")],
    "connection": [("x-omniflo-user", "clerk:user_somebody"), (XFCC, f"URI={ADMIN}")],
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_header_is_replaced(through: Through, forged: str) -> None:
    through(WRITER).nobody().users.ProvisionUser(ProvisionUserRequest(clerk_id="user_somebody"))
    with pytest.raises(grpc.RpcError) as caught:
        through("spiffe://mesh/unknown").sending(*FORGED[forged]).users.ListUsers(ListUsersRequest(), timeout=SECONDS)
    # Envoy itself refuses names with underscores.
    assert caught.value.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL}
    assert ("_" in FORGED[forged][0][0]) == (caught.value.code() is grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("value", [f"URI={ADMIN}", f"URI={ADMIN},URI={WRITER}", f'Subject="CN=a;URI={ADMIN}', ""])
def test_a_service_stays_who_it_is_whatever_it_says(through: Through, value: str) -> None:
    through(WRITER).nobody().users.ProvisionUser(ProvisionUserRequest(clerk_id="user_somebody"))
    reader = through(READER).sending((XFCC, value))
    assert len(reader.users.ListUsers(ListUsersRequest()).users) == 1
    failure = fails(reader.users.ProvisionUser, ProvisionUserRequest(clerk_id="user_other"))
    assert failure.reason == "PERMISSION_DENIED"


def test_a_certificate_that_speaks_for_itself_in_the_header_gets_nowhere(through: Through) -> None:
    # Envoy does not quote the names that it puts in.
    uris = (f"spiffe://mesh/a;URI={ADMIN}", f"spiffe://mesh/a;DNS={DNS_WRITER}", f"spiffe://mesh/a,URI={ADMIN}")
    for uri in (*uris, f'"{ADMIN}"x', f"{ADMIN},"):
        assert knock(through(uri).nobody()) == REFUSED
    for dns in (f"a.internal;URI={ADMIN}", f"a.internal,By=a;URI={ADMIN}"):
        assert knock(through("spiffe://mesh/a", dns=(dns,)).nobody()) == REFUSED
        assert knock(through(dns=(dns,)).nobody()) == REFUSED


ODD = [
    ";",
    ",",
    "=",
    '"',
    "\\",
    " ",
    ";URI=",
    ";DNS=",
    ";By=a",
    ';Cert=""',
    '"x"',
    "URI=",
    "DNS=",
    "a.internal",
    "%3B",
    "\t",
]


def test_nobody_is_whom_the_certificate_does_not_name(through: Through) -> None:
    # Fixed, so that a failure comes again.
    random_ = random.Random(20261126)
    let_in = 0
    for number in range(120):
        names: dict[str, list[str]] = {"uri": [], "dns": []}
        for kind in random_.choice([["uri"], ["dns"], ["uri", "dns"], ["dns", "dns"]]):
            pieces = random_.choices([*ODD, ADMIN, DNS_WRITER], k=random_.randrange(1, 4))
            names[kind].append(random_.choice([ADMIN, DNS_WRITER]) if random_.random() < 0.2 else "".join(pieces))
        if number < 4:
            # What passed once.
            names = {"uri": [], "dns": [f";{kind}={name}" for kind in ("URI", "DNS") for name in (ADMIN, DNS_WRITER)]}
            names["dns"] = names["dns"][number : number + 1]
        rightful = set(names["uri"] or names["dns"]) & {ADMIN, DNS_WRITER, READER, WRITER}
        try:
            is_in = is_let_in(through(*names["uri"], dns=tuple(names["dns"])).nobody())
        except grpc.RpcError as error:
            # Envoy itself refuses what cannot be the value of a header.
            if error.code() not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}:
                raise
            continue
        assert is_in <= (len(rightful) == 1), names
        let_in += is_in
    assert let_in


def test_the_proxy_is_no_service(through: Through, running: Envoy, mesh: Mesh, connect: Callable[..., Callers]) -> None:
    del through
    assert knock(connect(running.address, mesh.with_files(mesh.proxy)).nobody()) == REFUSED


def test_a_service_calls_for_a_user(through: Through) -> None:
    user = through(WRITER).nobody().users.ProvisionUser(ProvisionUserRequest(clerk_id="user_called_for_by_mesh"))
    for name in (user.id, "clerk:user_called_for_by_mesh"):
        assert who(through(WRITER).sending(("x-omniflo-user", name))) == "user_called_for_by_mesh"
        assert knock(through(READER).sending(("x-omniflo-user", name))) == REFUSED
    assert knock(through(WRITER).sending(("x-omniflo-user", user.id), ("x-omniflo-user", user.id))) == REFUSED


@pytest.mark.timed
def test_calls_that_send_nothing_leave_room_for_those_of_others(running: Envoy, through: Through, mesh: Mesh) -> None:
    writer = through(WRITER).nobody()
    shown = mesh.authority.issue("silent", uris=[READER])
    encryption = ssl.create_default_context(cafile=str(mesh.authority.path))
    encryption.load_cert_chain(shown.cert, shown.key)
    encryption.set_alpn_protocols(["h2"])
    for _ in range(4):
        with ExitStack() as held:
            for _ in range(3):
                one = held.enter_context(closing(Raw(running.address, encryption=encryption)))
                for _ in range(60):
                    one.open(GET)
            time.sleep(1)
        # A call that has ended counts on its connection for a moment more, on a busy machine.
        time.sleep(1)
        writer.users.ListUsers(ListUsersRequest(), timeout=SECONDS)


def test_changes_are_watched_through_it(through: Through) -> None:
    stream = through(READER).nobody().changes.WatchChanges(WatchChangesRequest())
    assert next(stream).resume_token
    user = through(WRITER).nobody().users.ProvisionUser(ProvisionUserRequest(clerk_id="user_watched_by_mesh"))
    assert [change.resource_id for change in next(part for part in stream if part.changes).changes] == [user.id]
    stream.cancel()


def test_a_token_passes_through(through: Through, clerk: Clerk) -> None:
    callers = through("spiffe://mesh/a-gateway")
    assert who(callers.user("user_behind_the_mesh")) == "user_behind_the_mesh"
    assert knock(callers.bearing(clerk.session("user_behind_the_mesh", sts="pending"))) == REFUSED
    body = ApiKey(name="A key", scope=ApiKeyScope.API_KEY_SCOPE_READ)
    made = callers.user("user_behind_the_mesh").keys.CreateApiKey(CreateApiKeyRequest(api_key=body))
    assert who(callers.bearing(made.secret)) == "user_behind_the_mesh"
    for token in (clerk.session("user_behind_the_mesh"), made.secret):
        bearer = ("authorization", f"Bearer {token}")
        assert knock(callers.sending(bearer, bearer)) == REFUSED
        assert knock(through(WRITER).sending(bearer, ("x-omniflo-user", "clerk:user_behind_the_mesh"))) == REFUSED


def test_nobody_connects_without_a_certificate_of_the_mesh(
    running: Envoy, mesh: Mesh, connect: Callable[..., Callers], tmp_path: Path
) -> None:
    stranger = Authority(tmp_path).issue("writer", uris=[WRITER])
    for credentials in (mesh.with_files(None), mesh.with_files(stranger), None):
        with pytest.raises(grpc.RpcError) as caught:
            connect(running.address, credentials).nobody().users.ListUsers(ListUsersRequest(), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
