"""Services: whose name counts, who may say it for another, and for whom they call."""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from cryptography import x509

from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, ListUsersRequest, ProvisionUserRequest
from service.interceptors.authentication import _is_loopback
from tests.auth.answers import REFUSED, SECONDS, is_let_in, knock, who
from tests.auth.servers import PROXY, Listening, Mesh, listening
from tests.certificates import Authority, Files
from tests.clerk_stand_in import Clerk
from tests.conftest import ADMIN, DNS_WRITER, PLATFORM_ADMIN, READER, WRITER, Callers, fails
from tests.e2e.serving import eventually

XFCC = "x-forwarded-client-cert"
USER = "x-omniflo-user"
PEM = quote("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", safe="")

FORGED: dict[str, list[tuple[str, str]]] = {
    "two headers": [(XFCC, f"URI={WRITER}"), (XFCC, f"URI={WRITER}")],
    "two headers, the first empty": [(XFCC, ""), (XFCC, f"URI={WRITER}")],
    "two elements": [(XFCC, f"URI={WRITER},URI={WRITER}")],
    "two elements, the first of nobody": [(XFCC, f"Hash=00,URI={WRITER}")],
    "two elements, the second empty": [(XFCC, f"URI={WRITER},")],
    "an empty element first": [(XFCC, f",URI={WRITER}")],
    "two elements, one in quotes": [(XFCC, f'Subject="CN=a",URI="{WRITER}"')],
    "a quote that does not end": [(XFCC, f'Subject="CN=a;URI={WRITER}')],
    "a quote that ends twice": [(XFCC, f'Subject="CN=a"";URI={WRITER}')],
    "a quote in the middle": [(XFCC, f'Subject=CN"=a,"b;URI={WRITER}')],
    "an escape at the end of a quote": [(XFCC, f'Subject="CN=a\\";URI={WRITER}')],
    "an escape without a quote": [(XFCC, f"Subject=a\\;URI={WRITER}")],
    "the name in the quotes of a subject": [(XFCC, f'Hash=00;Subject="CN=a;URI={WRITER}"')],
    "the name in the escaped quotes of a subject": [(XFCC, f'Subject="CN=\\";URI={WRITER};X=\\""')],
    "the name in the subject": [(XFCC, f'Subject="{WRITER}"')],
    "the common name": [(XFCC, f'Subject="CN={DNS_WRITER}"')],
    "By": [(XFCC, f"By={ADMIN}")],
    "By beside a service that is unknown": [(XFCC, f"By={ADMIN};URI=spiffe://mesh/unknown")],
    "a key that ends as URI does": [(XFCC, f"XURI={WRITER}")],
    "a key with a space": [(XFCC, f"URI ={WRITER}")],
    "two URIs": [(XFCC, f"URI={WRITER};URI={WRITER}")],
    "two URIs in mixed case": [(XFCC, f"URI=spiffe://mesh/unknown;uri={WRITER}")],
    "two URIs, one of nobody": [(XFCC, f"Uri={WRITER};URI=spiffe://mesh/unknown")],
    "a DNS name beside a URI": [(XFCC, f"URI=spiffe://mesh/unknown;DNS={DNS_WRITER}")],
    "a DNS name twice": [(XFCC, f"DNS={DNS_WRITER};DNS={DNS_WRITER}")],
    "nobody": [(XFCC, "URI=spiffe://mesh/unknown")],
    "the name in another case": [(XFCC, f"URI={WRITER.upper()}")],
    "the DNS name in another case": [(XFCC, f"DNS={DNS_WRITER.upper()}")],
    "a longer name": [(XFCC, f"URI={WRITER}/")],
    "a shorter name": [(XFCC, f"URI={WRITER[:-1]}")],
    "a name with a space": [(XFCC, f"URI= {WRITER}")],
    "the name in escapes of URLs": [(XFCC, f"URI={quote(WRITER, safe='')}")],
    "a DNS name with its dot": [(XFCC, f"DNS={DNS_WRITER}.")],
    "a wildcard": [(XFCC, "DNS=*.mesh.internal")],
    "the proxy": [(XFCC, f"URI={PROXY}")],
    "the role": [(XFCC, "URI=writer")],
    "the name alone": [(XFCC, WRITER)],
    "nothing": [(XFCC, "")],
    "a space": [(XFCC, " ")],
    "an empty name": [(XFCC, "URI=;DNS=")],
    "a semicolon at the end": [(XFCC, f"URI={WRITER};")],
    "an empty pair": [(XFCC, f"Hash=00;;URI={WRITER}")],
    "garbage": [(XFCC, "%00=;;\"',,==")],
    "JSON": [(XFCC, f'{{"URI": "{WRITER}"}}')],
    "8,000 quotes": [(XFCC, '"' * 7500)],
    "8,000 escapes": [(XFCC, 'Subject="' + "\\" * 7400)],
    "a chain alone": [(XFCC, f'Chain="{PEM}"')],
    "another header": [("x-forwarded-client-certificate", f"URI={WRITER}")],
    "a header of nginx": [("ssl-client-verify", "SUCCESS"), ("ssl-client-subject-dn", f"URI={WRITER}")],
    "an actor": [("x-omniflo-actor", "system")],
    # Whoever calls for a user must be a service that may.
    "a user of nobody": [(USER, "clerk:user_somebody")],
    "a user of a reader": [(XFCC, f"URI={READER}"), (USER, "clerk:user_somebody")],
    "a user of a service that is unknown": [(XFCC, "URI=spiffe://mesh/unknown"), (USER, "clerk:user_somebody")],
    "a user that is unknown": [(XFCC, f"URI={WRITER}"), (USER, "nobody")],
    "a user of an unknown id of Clerk's": [(XFCC, f"URI={ADMIN}"), (USER, "clerk:nobody")],
    "no user": [(XFCC, f"URI={WRITER}"), (USER, "")],
    "a user of an empty id": [(XFCC, f"URI={WRITER}"), (USER, "clerk:")],
    "a user in another case": [(XFCC, f"URI={WRITER}"), (USER, "clerk:USER_SOMEBODY")],
    "a user of another scheme": [(XFCC, f"URI={WRITER}"), (USER, "Clerk:user_somebody")],
    "an id of Clerk's without its scheme": [(XFCC, f"URI={WRITER}"), (USER, "user_somebody")],
    "a user twice": [(XFCC, f"URI={WRITER}"), (USER, "clerk:user_somebody"), (USER, "clerk:user_somebody")],
    "two users": [(XFCC, f"URI={WRITER}"), (USER, "clerk:user_somebody"), (USER, "clerk:user_other")],
    "two users in one header": [(XFCC, f"URI={WRITER}"), (USER, "clerk:user_somebody,clerk:user_other")],
    "a pattern": [(XFCC, f"URI={WRITER}"), (USER, "clerk:user_%")],
    "SQL": [(XFCC, f"URI={WRITER}"), (USER, "' or ''='")],
}


@pytest.fixture(scope="module")
def distrusting_session(url: str, mesh: Mesh) -> Iterator[Listening]:
    with listening(url, {"listen", "listen_mtls"}, **mesh.settings, trust_xfcc="off") as server:
        yield server


@pytest.fixture
def somebody(callers: Callers) -> str:
    """A user who is there, by our id."""
    for name in ("user_somebody", "user_other"):
        user = callers.service(WRITER).users.ProvisionUser(ProvisionUserRequest(clerk_id=name))
    del user
    (found,) = callers.user("user_somebody").users.ListUsers(ListUsersRequest()).users
    return str(found.id)


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_identity_is_refused_without_a_reason(callers: Callers, somebody: str, forged: str) -> None:
    del somebody
    assert is_let_in(callers.service(WRITER, user="clerk:user_somebody"))
    assert knock(callers.sending(*FORGED[forged])) == REFUSED


@pytest.mark.parametrize("forged", FORGED)
def test_through_a_proxy_a_forged_identity_is_refused_as_well(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers], somebody: str, forged: str
) -> None:
    del somebody
    proxy = connect(meshed["listen_mtls"], mesh.with_files(mesh.proxy))
    assert knock(proxy.sending(*FORGED[forged])) == REFUSED


def test_a_user_cannot_be_another(callers: Callers, clerk: Clerk, somebody: str) -> None:
    token = ("authorization", f"Bearer {clerk.session('user_honest')}")
    assert who(callers.sending(token)) == "user_honest"
    for user in (somebody, "clerk:user_somebody", "clerk:user_honest", ""):
        assert knock(callers.sending(token, (USER, user))) == REFUSED
        # What a proxy says of the service makes it no better.
        assert knock(callers.sending(token, (USER, user), (XFCC, f"URI={ADMIN}"))) == REFUSED
    # A token is its user, whoever carries it.
    assert who(callers.sending(token, (XFCC, f"URI={ADMIN}"))) == "user_honest"
    # And one that does not count is not made up for.
    assert knock(callers.sending(("authorization", "Bearer no"), (XFCC, f"URI={ADMIN}"))) == REFUSED


@pytest.mark.parametrize(
    "value",
    [
        f"URI={WRITER}",
        f"uri={WRITER}",
        f"DNS={DNS_WRITER}",
        f"By=spiffe://mesh/server;Hash=00;URI={WRITER}",
        f"By={ADMIN};URI={WRITER}",
        f'Hash=00;Subject="CN=a,O=\\"b\\";c";URI={WRITER}',
        f'Chain="{PEM}";URI={WRITER}',
    ],
)
def test_a_proxy_on_this_machine_names_a_service(callers: Callers, value: str) -> None:
    api = callers.sending((XFCC, value))
    # Only a service that writes may have a user provisioned.
    assert api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_of_a_service")).clerk_id == "user_of_a_service"


def test_a_proxy_that_sends_the_certificate_names_who_is_in_it(callers: Callers, mesh: Mesh) -> None:
    for uris, dns, is_known in (
        ([WRITER], [], True),
        ([WRITER], ["other.internal", f";URI={ADMIN}"], True),
        ([], ["other.internal", DNS_WRITER], True),
        (["spiffe://mesh/unknown"], [DNS_WRITER], False),
        ([], [f"a;DNS={DNS_WRITER}"], False),
        ([READER, WRITER], [], False),
        ([], [], False),
    ):
        pem = quote(mesh.authority.issue("shown", uris=uris, dns=dns).cert.read_text(), safe="")
        # What stands beside it does not count.
        api = callers.sending((XFCC, f'Hash=00;Cert="{pem}";Subject="";URI={ADMIN};DNS={DNS_WRITER}'))
        assert is_let_in(api) == is_known
    assert knock(callers.sending((XFCC, f'Cert="{PEM}";URI={WRITER}'))) == REFUSED


def test_a_service_is_known_by_the_names_of_its_certificate(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]
) -> None:
    for credentials in (
        mesh.shows(WRITER),
        mesh.shows(dns=[DNS_WRITER]),
        mesh.shows("spiffe://mesh/unknown", dns=["other.internal", DNS_WRITER]),
    ):
        api = connect(meshed["listen_mtls"], credentials).nobody()
        assert api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_of_mtls")).clerk_id == "user_of_mtls"
    reader = connect(meshed["listen_mtls"], mesh.shows(READER)).nobody()
    assert len(reader.users.ListUsers(ListUsersRequest()).users) == 1
    failure = fails(reader.users.ProvisionUser, ProvisionUserRequest(clerk_id="user_of_mtls"))
    assert failure.reason == "PERMISSION_DENIED"


def _dns(name: str) -> bytes:
    """Answer a DNS name as a certificate has it."""
    return b"\x82" + bytes([len(name)]) + name.encode()


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"uris": ["spiffe://mesh/unknown"]},
        {"uris": [WRITER.upper()]},
        {"dns": [f"a.{DNS_WRITER}"]},
        {"dns": ["*.mesh.internal"]},
        {"uris": [READER, WRITER]},
        {"uris": [READER], "dns": [DNS_WRITER]},
        {"uris": [PROXY], "dns": [DNS_WRITER]},
        {"uris": [PROXY]},
        {"uris": [f"spiffe://mesh/unknown;DNS={DNS_WRITER}"]},
        {"raw": b"\x86\x03\xff\xfe\xfd"},
        {"raw": _dns(f"{DNS_WRITER}\0.evil.example.com")},
        {"raw": _dns(f"{DNS_WRITER}\0")},
    ],
    ids=repr,
)
def test_a_certificate_that_names_no_service_or_several_is_nobodys(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers], names: dict[str, Any]
) -> None:
    # Its subject is a name that nobody looks at.
    files = mesh.authority.issue(DNS_WRITER, **names)
    assert knock(connect(meshed["listen_mtls"], mesh.with_files(files)).nobody()) == REFUSED


def test_only_a_proxy_may_name_another(meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]) -> None:
    for name in (READER, WRITER, ADMIN, "spiffe://mesh/unknown", PROXY.upper()):
        api = connect(meshed["listen_mtls"], mesh.shows(name)).sending((XFCC, f"URI={WRITER}"))
        assert knock(api) == REFUSED
    proxy = connect(meshed["listen_mtls"], mesh.with_files(mesh.proxy))
    # Nor does a proxy name itself.
    for value in (f"URI={PROXY}", f"URI={PROXY};DNS={DNS_WRITER}"):
        assert knock(proxy.sending((XFCC, value))) == REFUSED
    user = proxy.service(WRITER).users.ProvisionUser(ProvisionUserRequest(clerk_id="user_of_a_proxy"))
    assert who(proxy.service(WRITER, user=user.id)) == "user_of_a_proxy"
    assert who(proxy.service(ADMIN, user="clerk:user_of_a_proxy")) == "user_of_a_proxy"


def test_a_certificate_that_is_shown_where_none_is_asked_for_counts_for_nothing(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]
) -> None:
    assert knock(connect(meshed["listen"], mesh.shows(ADMIN)).nobody()) == REFUSED


def test_where_no_proxy_is_trusted_the_header_says_nothing(
    distrusting_session: Listening, mesh: Mesh, connect: Callable[..., Callers]
) -> None:
    for callers in (
        connect(distrusting_session["listen"], mesh.with_files(None)),
        connect(distrusting_session["listen_mtls"], mesh.with_files(mesh.proxy)),
        connect(distrusting_session["listen_mtls"], mesh.shows("spiffe://mesh/unknown")),
    ):
        assert knock(callers.service(WRITER)) == REFUSED
        assert knock(callers.service(ADMIN, user="clerk:user_somebody")) == REFUSED
    # A service stays what its own certificate says.
    reader = connect(distrusting_session["listen_mtls"], mesh.shows(READER)).service(ADMIN)
    failure = fails(reader.users.ProvisionUser, ProvisionUserRequest(clerk_id="user_of_mtls"))
    assert failure.reason == "PERMISSION_DENIED"


def test_a_peer_from_another_machine_is_no_proxy(url: str, clerk: Clerk, connect: Callable[..., Callers]) -> None:
    del clerk
    here = _address_of_this_machine()
    with listening(url, trust_xfcc="on", services={WRITER: "writer"}, host="0.0.0.0") as server:  # noqa: S104 - tested
        port = server.ports["listen"]
        assert is_let_in(connect(f"127.0.0.1:{port}").service(WRITER))
        assert knock(connect(f"{here}:{port}").service(WRITER)) == REFUSED


def _address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing: it only asks which address would.
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("the machine has no address but loopback")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    ("peer", "is_loopback"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv4:127.8.8.8:4711", True),
        ("ipv6:[::1]:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv4:192.0.2.1:4711", False),
        ("ipv4:0.0.0.0:4711", False),
        ("ipv6:[2001:db8::1]:4711", False),
        ("ipv6:%5Bfe80::1%25lo%5D:4711", False),
        ("ipv4:127.0.0.1.example.com:4711", False),
        ("unix:/tmp/socket", False),
        ("unix:127.0.0.1:1", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_a_peer_is_on_this_machine_by_its_address(peer: str, is_loopback: bool) -> None:
    assert _is_loopback(peer) is is_loopback


def test_a_service_calls_for_a_user_by_either_id(callers: Callers, somebody: str) -> None:
    for service in (WRITER, ADMIN):
        for user in (somebody, "clerk:user_somebody"):
            assert who(callers.service(service, user=user)) == "user_somebody"


def test_a_user_who_is_deleted_is_called_for_no_longer(callers: Callers) -> None:
    service = callers.service(WRITER)
    user = service.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_deleted"))
    assert who(callers.service(WRITER, user=user.id)) == "user_deleted"
    service.users.DeleteUser(DeleteUserRequest(id=user.id))
    eventually(lambda: not is_let_in(callers.service(WRITER, user=user.id)), within=5)
    assert knock(callers.service(WRITER, user="clerk:user_deleted")) == REFUSED


def test_a_service_with_a_bearer_token_is_the_tokens_user(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]
) -> None:
    service = connect(meshed["listen_mtls"], mesh.shows(WRITER))
    assert who(service.user(PLATFORM_ADMIN)) == PLATFORM_ADMIN
    assert knock(service.bearing("omf_x_y")) == REFUSED


@pytest.mark.parametrize("shown", ["of another authority", "none", "of its own"])
def test_a_certificate_of_nobody_we_know_does_not_connect(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers], tmp_path: Path, shown: str
) -> None:
    stranger = Authority(tmp_path, "authority")
    files = {
        "of another authority": stranger.issue("writer", uris=[WRITER]),
        "none": None,
        "of its own": Files(stranger.path, stranger.issue("self").key),
    }[shown]
    if shown == "of its own":
        # Its key is not the certificate's, which the client itself may notice.
        files = stranger.issue("alone", uris=[WRITER])
    api = connect(meshed["listen_mtls"], mesh.with_files(files)).nobody()
    with pytest.raises(grpc.RpcError) as caught:
        api.users.ListUsers(ListUsersRequest(), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class Renewing:
    """A server whose files are replaced while it runs."""

    def __init__(self, url: str, folder: Path) -> None:
        self.authority = Authority(folder, "authority")
        self.url = url
        self.folder = folder
        self.server = self.authority.issue("server", dns=["localhost"], addresses=["127.0.0.1"])
        self.ca = Path(shutil.copy(self.authority.path, folder / "client-ca.pem"))

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "tls_cert": self.server.cert,
            "tls_key": self.server.key,
            "tls_client_ca": self.ca,
            "services": {WRITER: "writer"},
        }

    def client(self, authority: Authority | None = None) -> Files:
        return (authority or self.authority).issue("client", uris=[WRITER])

    def shown_by(self, address: str, client: Files) -> int:
        """Answer the serial number of the certificate that the server shows now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority.path)
        context.load_cert_chain(client.cert, client.key)
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    @staticmethod
    def serial(files: Files) -> int:
        return x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number


@pytest.fixture
def renewing(url: str, tmp_path: Path) -> Renewing:
    return Renewing(url, tmp_path)


def test_a_renewed_certificate_is_shown_to_new_connections(
    renewing: Renewing, mesh: Mesh, connect: Callable[..., Callers]
) -> None:
    del mesh
    client = renewing.client()
    with listening(renewing.url, {"listen", "listen_mtls"}, **renewing.settings) as server:
        credentials = grpc.ssl_channel_credentials(renewing.authority.path.read_bytes(), *client.read())
        old = connect(server["listen_mtls"], credentials).nobody()
        assert is_let_in(old)
        first = renewing.serial(renewing.server)
        for listener in server.ports:
            assert renewing.shown_by(server[listener], client) == first
        renewed = renewing.authority.issue("server", dns=["localhost"], addresses=["127.0.0.1"])
        assert renewing.serial(renewed) != first
        for listener in server.ports:
            assert renewing.shown_by(server[listener], client) == renewing.serial(renewed)
        assert is_let_in(old)


def test_files_that_are_half_written_are_not_taken(renewing: Renewing) -> None:
    client = renewing.client()
    with listening(renewing.url, {"listen_mtls"}, **renewing.settings) as server:
        address = server["listen_mtls"]
        first = renewing.serial(renewing.server)
        assert renewing.shown_by(address, client) == first
        cert, key = renewing.server.cert.read_bytes(), renewing.server.key.read_bytes()
        renewed = renewing.authority.issue("other", dns=["localhost"], addresses=["127.0.0.1"])
        # As a program writes them that does not know how: bit by bit, one file after the other.
        for content in (b"", renewed.cert.read_bytes()[:-40], renewed.cert.read_bytes()):
            renewing.server.cert.write_bytes(content)
            assert renewing.shown_by(address, client) == first
        for content in (b"", renewed.key.read_bytes()[:-40]):
            renewing.server.key.write_bytes(content)
            assert renewing.shown_by(address, client) == first
        renewing.server.key.unlink()
        assert renewing.shown_by(address, client) == first
        renewing.server.key.write_bytes(renewed.key.read_bytes())
        assert renewing.shown_by(address, client) == renewing.serial(renewed)
        # And back, the authorities half written as well.
        authorities = renewing.ca.read_bytes()
        renewing.ca.write_bytes(authorities + authorities[:-40])
        renewing.server.cert.write_bytes(cert)
        renewing.server.key.write_bytes(key)
        assert renewing.shown_by(address, client) == renewing.serial(renewed)
        renewing.ca.write_bytes(authorities)
        assert renewing.shown_by(address, client) == first


def test_an_authority_that_is_replaced_lets_in_its_own_and_old_connections_live_on(
    renewing: Renewing, connect: Callable[..., Callers], tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    successor = Authority(tmp_path / "next", "successor")
    roots = renewing.authority.path.read_bytes()

    def connected(files: Files) -> Callers:
        return connect(server["listen_mtls"], grpc.ssl_channel_credentials(roots, *files.read()))

    with listening(renewing.url, {"listen_mtls"}, **renewing.settings) as server:
        of_old, of_new = renewing.client(), renewing.client(successor)
        old = connected(of_old).nobody()
        assert is_let_in(old)
        assert not _connects(connected(of_new))
        renewing.ca.write_bytes(successor.path.read_bytes())
        assert _connects(connected(of_new))
        assert not _connects(connected(of_old))
        assert is_let_in(old)
        # Both, as while one follows the other.
        renewing.ca.write_bytes(roots + successor.path.read_bytes())
        assert _connects(connected(of_new))
        assert _connects(connected(of_old))


def _connects(callers: Callers) -> bool:
    try:
        return is_let_in(callers.nobody())
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
