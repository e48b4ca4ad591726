"""Where the service listens, what is served there, and what a person is told who starts it wrongly."""

import argparse
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from omniflo.templates.v1.api_key_pb2 import ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import ListApiKeysRequest
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest, ProvisionUserRequest
from service.commands import probe as command
from service.config import ConfigurationError, Settings, variable
from service.server import tls, wiring
from tests import commands
from tests.auth.answers import REFUSED, SECONDS, is_let_in, knock, who
from tests.auth.servers import Listening, Mesh, Served, listening, served
from tests.certificates import Authority
from tests.clerk_stand_in import SigningKey
from tests.conftest import WRITER, Callers, Database
from tests.e2e.serving import eventually, logged
from tests.e2e.test_process import said


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these settings and none that the tests were started with."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMNIFLO_")}
    ours = {"listen": "127.0.0.1:0", "database_url": "postgresql://127.0.0.1:1/nothing", "workers": 1, **settings}
    environment = inherited | {variable(name): str(value) for name, value in ours.items()}
    with tempfile.TemporaryDirectory() as folder:
        return commands.run(arguments, environment, Path(folder), within=60)


def refused(name: str, done: subprocess.CompletedProcess[str]) -> str:
    """Require that a command ended with a complaint about a setting, and answer the complaint."""
    assert done.returncode == 1, done.stdout
    why = said(done)
    assert why.startswith(variable(name)), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return why


def health(channel: grpc.Channel, **options: Any) -> Any:
    return HealthStub(channel).Check(HealthCheckRequest(), **{"timeout": SECONDS, **options}).status


@pytest.mark.parametrize("name", ["listen", "listen_mtls", "health_listen"])
def test_without_authentication_only_this_machine_is_listened_on(name: str) -> None:
    complaint = refused(name, run("serve", auth="none", **{name: "0.0.0.0:0"}))
    assert complaint.startswith(f"{variable(name)}=0.0.0.0:0: with OMNIFLO_AUTH=none")
    assert "OMNIFLO_AUTH=required" in complaint


def test_the_main_listener_speaks_tls_and_asks_for_no_certificate(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]
) -> None:
    callers = connect(meshed["listen"], mesh.with_files(None))
    assert who(callers.user("user_by_tls")) == "user_by_tls"
    assert knock(callers.nobody()) == REFUSED
    # It is on this machine, as a proxy may be.
    service = callers.service(WRITER)
    assert service.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_by_tls")).clerk_id == "user_by_tls"
    with pytest.raises(grpc.RpcError) as caught:
        connect(meshed["listen"]).user("user_by_tls").users.ListUsers(ListUsersRequest(), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_health_stands_beside_it_in_plain_text_and_nothing_else(
    meshed: Listening, connect: Callable[..., Callers]
) -> None:
    callers = connect(meshed["health_listen"])
    eventually(lambda: health(callers.nobody().channel) == HealthCheckResponse.SERVING, within=SECONDS)
    for api in (callers.nobody(), callers.user("user_at_the_wrong_door"), callers.service(WRITER)):
        with pytest.raises(grpc.RpcError) as caught:
            api.users.ListUsers(ListUsersRequest(), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert _reflected(callers.nobody().channel) is None


def test_health_is_open_on_every_listener(meshed: Listening, mesh: Mesh, connect: Callable[..., Callers]) -> None:
    for callers in (
        connect(meshed["listen"], mesh.with_files(None)),
        connect(meshed["listen_mtls"], mesh.shows("spiffe://mesh/unknown")),
        connect(meshed["health_listen"]),
    ):
        channel = callers.nobody().channel
        eventually(lambda open_=channel: health(open_) == HealthCheckResponse.SERVING, within=SECONDS)  # type: ignore[misc]


def probe(*arguments: str | Path, **settings: Any) -> None:
    """Run the command in this process."""
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    options = parser.parse_args(["probe", "--timeout", "10", *map(str, arguments)])
    options.run(Settings(**settings), options)


def test_probe_asks_every_listener(
    meshed: Listening, mesh: Mesh, capsys: pytest.CaptureFixture[str], connect: Callable[..., Callers]
) -> None:
    channel = connect(meshed["health_listen"]).nobody().channel
    eventually(lambda: health(channel) == HealthCheckResponse.SERVING, within=SECONDS)
    wildcard = "0.0.0.0"  # noqa: S104 - nothing listens there
    everywhere = {name: meshed[name].replace("127.0.0.1", wildcard) for name in ("listen", "health_listen")}
    ca = ("--ca", mesh.authority.path)
    cert, key = mesh.authority.issue("probe", uris=["spiffe://mesh/unknown"])
    probe(**everywhere)
    probe("--service", "liveness", health_listen=meshed["health_listen"])
    probe("--service", wiring.SERVICES[0], *ca, listen=meshed["listen"])
    probe(*ca, "--server-name", "localhost", tls_cert=cert, tls_key=key, listen=everywhere["listen"])
    probe(meshed["listen_mtls"], *ca, "--cert", cert, "--key", key)
    # The server, which is in this process, logs there too.
    assert capsys.readouterr().out.splitlines().count("SERVING") == 5


@pytest.mark.parametrize(
    "names", [{"dns": ["a.example.com"]}, {"dns": ["*.example.com"]}, {"addresses": ["10.1.2.3"]}, {}], ids=str
)
def test_probe_trusts_the_certificate_of_its_own_server(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: dict[str, Any]
) -> None:
    """Whoever has signed it, and whatever host it is for."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("own", **names)
    other = authority.issue("other", **names).cert
    with listening(url, tls_cert=cert, tls_key=key) as server:
        probe("--service", "liveness", tls_cert=cert, tls_key=key, listen=server["listen"])
        assert "SERVING" in capsys.readouterr().out.splitlines()
        # Another one of the same authority is not trusted for it.
        with pytest.raises(SystemExit, match=r"UNAVAILABLE .*CERTIFICATE_VERIFY_FAILED"):
            probe("--service", "liveness", tls_cert=other, tls_key=key, listen=server["listen"])


def test_probe_says_what_is_wrong(meshed: Listening, mesh: Mesh) -> None:
    plain = meshed["health_listen"]
    for arguments, words in (
        (["127.0.0.1:1"], "127.0.0.1:1: UNAVAILABLE "),
        ([plain, "--service", "of.Nobody"], f"{plain}: NOT_FOUND of.Nobody"),
        # Neither of them takes the other for what it is.
        ([meshed["listen"]], f"{meshed['listen']}: UNAVAILABLE "),
        ([plain, "--ca", mesh.authority.path], f"{plain}: UNAVAILABLE "),
        # The certificate is not signed by anybody whom all know.
        ([meshed["listen"], "--tls"], f"{meshed['listen']}: UNAVAILABLE "),
    ):
        with pytest.raises(SystemExit) as caught:
            probe(*arguments)
        assert str(caught.value.code).startswith(words)
    with taken() as silent, pytest.raises(SystemExit, match=f"{silent}: no answer within 0.2 s"):
        probe(silent, "--timeout", "0.2")
    for arguments, words in (
        ([plain, "--ca", "/nowhere"], "/nowhere: No such file"),
        ([plain, "--cert", mesh.authority.path], "--cert and --key go together"),
        ([], "the server has taken a free port"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            probe(*arguments, listen="127.0.0.1:0")
    with pytest.raises(ConfigurationError, match="OMNIFLO_TLS_CERT: "):
        probe(tls_cert=mesh.server.key, tls_key=mesh.server.key, listen=meshed["listen"])
    # What a shell or a container sees.
    done = run("probe", plain.replace("127.0.0.1", "[::1]"))
    assert (done.returncode, done.stdout) == (1, "")


def _reflected(channel: grpc.Channel) -> set[str] | None:
    """Answer the services that reflection lists; None where it is not served."""
    try:
        return set(ProtoReflectionDescriptorDatabase(channel).get_services())
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        return None


@pytest.mark.parametrize(
    ("auth", "reflection", "is_served"),
    [
        ("required", "auto", False),
        ("required", "on", True),
        ("required", "off", False),
        ("none", "auto", True),
        ("none", "off", False),
    ],
)
def test_reflection_follows_its_setting(
    url: str, connect: Callable[..., Callers], auth: str, reflection: str, is_served: bool
) -> None:
    with listening(url, auth=auth, reflection=reflection) as server:
        found = _reflected(connect(server["listen"]).nobody().channel)
    assert (found is not None) is is_served
    assert found is None or "omniflo.templates.v1.ApiKeyService" in found


def test_without_authentication_a_call_for_a_user_is_refused(url: str, connect: Callable[..., Callers]) -> None:
    with listening(url, auth="none") as server:
        callers = connect(server["listen"])
        assert is_let_in(callers.nobody())
        # Whoever sends it believes to be bounded by what the user may.
        assert knock(callers.sending(("x-omniflo-user", "clerk:user_x"))) == REFUSED


def test_a_key_that_the_command_makes_works_at_once(processes: Served, connect: Callable[..., Callers]) -> None:
    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("keys", "create", *arguments, database_url=processes.url)

    callers = connect(processes["listen"])
    done = make("--user", "user_of_a_command", "--name", "The first", "--scope", "write", "--days", "1")
    assert (done.returncode, done.stderr) == (0, "")
    secret = done.stdout.strip()
    assert done.stdout == f"{secret}\n"
    assert who(callers.bearing(secret)) == "user_of_a_command"
    (key,) = callers.bearing(secret).keys.ListApiKeys(ListApiKeysRequest()).api_keys
    assert (key.name, key.scope) == ("The first", ApiKeyScope.API_KEY_SCOPE_WRITE)
    assert 23 * 3600 < key.expire_time.seconds - time.time() <= 24 * 3600

    with ThreadPoolExecutor(2) as pool:
        wrong = [
            ["--user", "user_of_a_command", "--name", "x", "--organization", "nothing"],
            ["--user", "", "--name", "x"],
            ["--user", "user_of_a_command", "--name", ""],
        ]
        answers = [(done.returncode, done.stderr, done.stdout) for done in pool.map(lambda each: make(*each), wrong)]
    assert [code for code, _, _ in answers] == [1, 1, 1]
    assert all("Traceback" not in stderr and not stdout for _, stderr, stdout in answers)
    assert answers[0][1].startswith("ORGANIZATION_NOT_FOUND: ")
    assert answers[1][1].startswith("FIELD_INVALID: ")


@pytest.mark.parametrize(
    "arguments",
    [["--days", "0"], ["--days", "1e3"], ["--scope", "admin"], ["--user", "\udcff"], ["--organization", "\udced"], []],
)
def test_the_command_for_keys_explains_itself(arguments: list[str]) -> None:
    done = run("keys", "create", "--name", "x", *(["--user", "x", *arguments] if arguments else []))
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m service keys")


def test_config_prints_who_may_call_as_it_is_spelled(mesh: Mesh) -> None:
    settings = {
        "database_url": "postgresql://user:hunter2@host/database",
        "services": Mesh.services_variable(),
        "proxies": "spiffe://mesh/proxy,proxy.internal",
        "admins": "user_1, user_2",
        "clerk_issuer": "https://clerk.example.com",
        "clerk_jwt_key": SigningKey("ins_1").pem,
        "clerk_authorized_parties": "https://a.example.com,https://b.example.com",
        "tls_cert": mesh.server.cert,
        "tls_key": mesh.server.key,
        "tls_client_ca": mesh.server.cert,
        "listen_mtls": "127.0.0.1:50052",
        "trust_xfcc": "on",
    }
    done = run("config", **settings)
    assert done.returncode == 0, done.stderr
    for line in (
        f"OMNIFLO_SERVICES={settings['services']}",
        "OMNIFLO_PROXIES=spiffe://mesh/proxy,proxy.internal",
        "OMNIFLO_ADMINS=user_1,user_2",
        f"OMNIFLO_TLS_KEY={mesh.server.key}",
        "OMNIFLO_AUTH=required",
    ):
        assert f"{line}\n" in done.stdout
    # In one line, as it may be given again.
    (pem,) = [line for line in done.stdout.splitlines() if line.startswith("OMNIFLO_CLERK_JWT_KEY=")]
    assert pem.startswith("OMNIFLO_CLERK_JWT_KEY=-----BEGIN PUBLIC KEY-----\\n")
    assert "hunter2" not in done.stdout + done.stderr
    # Nor does it say what is in the files.
    assert mesh.server.key.read_text().splitlines()[1] not in done.stdout


def _tls(mesh: Mesh) -> dict[str, Any]:
    return {name: value for name, value in mesh.settings.items() if name.startswith("tls_")}


BAD_FILES: dict[str, tuple[str, Callable[[Path], dict[str, object]]]] = {
    "no file": ("tls_cert", lambda folder: {"tls_cert": folder / "none.pem"}),
    "a folder": ("tls_key", lambda folder: {"tls_key": folder}),
    "an empty certificate": ("tls_cert", lambda folder: {"tls_cert": _written(folder, b"")}),
    "a certificate that is none": ("tls_cert", lambda folder: {"tls_cert": _written(folder, b"nonsense")}),
    "the key of another": ("tls_cert", lambda folder: {"tls_key": Authority(folder).issue("other").key}),
    "a key with a password": ("tls_cert", lambda folder: {"tls_key": _locked(folder)}),
    "an empty authority": ("tls_client_ca", lambda folder: {"tls_client_ca": _written(folder, b"")}),
    "half an authority": (
        "tls_client_ca",
        lambda folder: {"tls_client_ca": _written(folder, Authority(folder).path.read_bytes()[:-40])},
    ),
}


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "written.pem"
    path.write_bytes(content)
    return path


def _locked(folder: Path) -> Path:
    key = serialization.load_pem_private_key(Authority(folder).issue("locked").key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"a password")
    form = serialization.PrivateFormat.PKCS8
    return _written(folder, key.private_bytes(serialization.Encoding.PEM, form, encryption))


@pytest.mark.parametrize("bad", BAD_FILES)
def test_files_that_are_no_certificates_are_named_by_their_setting(mesh: Mesh, tmp_path: Path, bad: str) -> None:
    name, settings = BAD_FILES[bad]
    good = {**_tls(mesh), "listen_mtls": "127.0.0.1:0"}
    tls.check(Settings.load(**good))
    with pytest.raises(ConfigurationError) as caught:
        tls.check(Settings.load(**good | settings(tmp_path)))
    assert str(caught.value).startswith(variable(name))


def test_the_command_ends_over_a_certificate_without_its_key(mesh: Mesh) -> None:
    complaint = refused("tls_cert", run("serve", **{**_tls(mesh), "tls_key": mesh.proxy.key}))
    assert complaint.startswith("OMNIFLO_TLS_CERT and OMNIFLO_TLS_KEY: ")


@contextmanager
def taken() -> Iterator[str]:
    """Listen on a port, and answer its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("name", ["listen_mtls", "health_listen"])
def test_a_port_that_is_taken_is_named_by_its_setting(mesh: Mesh, name: str) -> None:
    with taken() as address:
        complaint = refused(name, run("serve", **_tls(mesh), **{name: address}))
    assert complaint.startswith(f"{variable(name)}={address}: the port is taken")


def test_two_listeners_on_one_port_are_refused(mesh: Mesh) -> None:
    with taken() as address:
        pass
    refused("health_listen", run("serve", **_tls(mesh), listen=address, health_listen=address))


def test_sigterm_lets_calls_on_every_listener_finish(
    new_database: Callable[[], str], mesh: Mesh, tmp_path: Path, connect: Callable[..., Callers]
) -> None:
    settings = {
        **_tls(mesh),
        "services": Mesh.services_variable(),
        "trust_xfcc": "on",
    }
    ports = dict.fromkeys(("listen", "listen_mtls", "health_listen"), "127.0.0.1:0")
    with served(new_database(), tmp_path / "log", auth="required", **settings, **ports) as service:
        main = connect(service["listen"], mesh.with_files(None)).service(WRITER)
        mtls = connect(service["listen_mtls"], mesh.shows(WRITER)).nobody()
        probe = connect(service["health_listen"]).nobody().channel
        eventually(lambda: health(probe) == HealthCheckResponse.SERVING, within=SECONDS)
        for api in (main, mtls):
            assert is_let_in(api)
        watched = HealthStub(probe).Watch(HealthCheckRequest(), timeout=60)
        assert next(watched).status == HealthCheckResponse.SERVING
        with service.database() as database, ThreadPoolExecutor(2) as pool:
            database.query("begin")
            database.query("lock table users in access exclusive mode")
            provision = ProvisionUserRequest(clerk_id="user_in_the_drain")
            calls = [pool.submit(api.users.ProvisionUser, provision, timeout=30) for api in (main, mtls)]
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            other = Database(service.url)
            eventually(lambda: other.query(waiting) == [(2,)], within=SECONDS)
            other.close()
            service.service._process.send_signal(signal.SIGTERM)
            assert next(watched).status == HealthCheckResponse.NOT_SERVING
            assert list(watched) == []
            assert not any(call.done() for call in calls)
            database.query("rollback")
            assert {call.result().clerk_id for call in calls} == {"user_in_the_drain"}
        service.service._process.wait(SECONDS)
        for name in ports:
            with socket.socket() as late:
                assert late.connect_ex(("127.0.0.1", service.ports[name])) != 0
    events = [line["event"] for line in logged(service.log)]
    assert events[-1] == "drained"
