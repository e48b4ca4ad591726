"""The settings: what each may be, and what a person reads when one is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.commands.config import describe
from service.config import ConfigurationError, Settings, unknown_variables, variable
from service.variables import Schedule, split_address
from tests.clerk_stand_in import SigningKey


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
        ("BACKUP_DIR", "gs://bucket", "must be a folder, or a bucket and a prefix"),
        ("DATABASE_URL", "mysql://host/database", "postgresql://user:password@host:5432/database"),
        ("DATABASE_URL", "host=localhost", "postgresql://user:password@host:5432/database"),
        ("DATABASE_URL", "postgresql://[::1/database", "the PostgreSQL to use"),
        ("LISTEN", "50051", "must be host:port"),
        ("LISTEN", ":50051", "must be host:port"),
        ("LISTEN", "127.0.0.1:", "must be host:port"),
        ("LISTEN", "127.0.0.1:http", "must be host:port"),
        ("LISTEN", "127.0.0.1:-1", "must be host:port"),
        ("LISTEN", "127.0.0.1:65536", "must be host:port"),
        ("LISTEN", "[127.0.0.1]:50051", "must be host:port"),
        ("WORKERS", "0", "1 to 256"),
        ("WORKERS", "257", "1 to 256"),
        ("WORKERS", "many", "1 to 256"),
        ("THREADS", "0", "1 to 64"),
        ("THREADS", "65", "1 to 64"),
        ("QUEUE", "0", "1 to 10000"),
        ("QUEUE", "10001", "1 to 10000"),
        ("PROTECTED_LABELS", "production,Staging", "'Staging' is no label"),
        ("MAX_TEMPLATES", "0", "1 to 10000000"),
        ("MAX_MEMBERS", "10000001", "1 to 10000000"),
        ("DEADLINE_SECONDS", "0", "0.1 to 300"),
        ("DEADLINE_SECONDS", "301", "0.1 to 300"),
        ("DEADLINE_SECONDS", "nan", "0.1 to 300"),
        ("DRAIN_SECONDS", "-1", "0 to 600"),
        ("DRAIN_SECONDS", "inf", "0 to 600"),
        ("LOG_FORMAT", "xml", "json, text, or auto"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("AUTH", "maybe", "every call needs a session"),
        ("WORK", "maybe", "`serve` runs jobs too"),
        ("JOBS_SCHEDULE", "purge_jobs", "'purge_jobs' must be the name of a task and when it runs, in UTC"),
        ("JOBS_SCHEDULE", "purge_jobs=24:00", "03:30 is daily"),
        ("JOBS_SCHEDULE", "purge_jobs=3:30", ":30 hourly"),
        ("JOBS_SCHEDULE", "purge_jobs=0m", "10m every 10 minutes"),
        ("JOBS_SCHEDULE", "purge_jobs=:30,purge_jobs=:31", "each name once"),
        ("CLERK_ISSUER", "clerk.example.com", "must be an https URL"),
        ("CLERK_ISSUER", "http://clerk.example.com", "must be an https URL"),
        ("CLERK_ISSUER", "https://clerk.example.com/", "can never match: must be the iss of Clerk's sessions"),
        ("CLERK_ISSUER", "https://example.com/__clerk/", "without a slash at the end"),
        ("CLERK_ISSUER", "https://Clerk.example.com", "in lower case"),
        ("CLERK_ISSUER", "https://clerk.example.com:443", "default port"),
        ("CLERK_ISSUER", "https://*.example.com", "can never match"),
        ("CLERK_ISSUER", "https://clerk.example.com?a=b", "can never match"),
        ("CLERK_ISSUER", "https://user:hunter2@clerk.example.com", "can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com/", "'https://app.example.com/' can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "https://a.example.com,https://b.example.com/app", "b.example.com/app' can never"),
        ("CLERK_AUTHORIZED_PARTIES", "https://*.example.com", "must be an origin such as https://app.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "*", "can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "null", "can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "app.example.com", "can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "https://App.example.com", "in lower case"),
        ("CLERK_AUTHORIZED_PARTIES", "https://äpp.example.com", "can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com:443", "default port"),
        ("CLERK_AUTHORIZED_PARTIES", "http://localhost:80", "default port"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com?a=b", "can never match"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com https://b.example.com", "can never match"),
        ("CLERK_JWKS_URL", "http://clerk.example.com/jwks.json", "must be an https URL"),
        ("CLERK_JWKS_URL", "file:///etc/passwd", "must be an https URL"),
        ("CLERK_JWKS_URL", "http://localhost.example.com/jwks.json", "must be an https URL"),
        ("CLERK_JWKS_URL", "https://", "must be an https URL"),
        ("CLERK_ALLOW_NO_AZP", "perhaps", "without azp"),
        ("SERVICES", "spiffe://mesh/a", "each with a role of reader, writer, admin"),
        ("SERVICES", "spiffe://mesh/a=owner", "each with a role of reader, writer, admin"),
        ("SERVICES", "spiffe://mesh/a=", "each with a role of reader, writer, admin"),
        ("SERVICES", "=writer", "each with a role of reader, writer, admin"),
        ("SERVICES", "a=reader,a=writer", "must be unique names"),
        ("TLS_CERT", "/nowhere/cert.pem", "certificate chain in PEM"),
        ("TLS_KEY", "/nowhere/key.pem", "key in PEM"),
        ("CLERK_JWT_KEY", "-----BEGIN PUBLIC KEY-----", "must be an RSA public key"),
        ("TLS_CLIENT_CA", "/", "client certificates are signed by"),
        ("LISTEN_MTLS", "50052", "must be host:port"),
        ("HEALTH_LISTEN", "127.0.0.1:", "must be host:port"),
        ("TRUST_XFCC", "yes", "x-forwarded-client-cert"),
        ("REFLECTION", "yes", "whether reflection is served"),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, may_be: str
) -> None:
    monkeypatch.setenv(f"OMNIFLO_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"OMNIFLO_{name}: ")
    assert may_be in line


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIFLO_LISTEN", "here")
    monkeypatch.setenv("OMNIFLO_THREADS", "0")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["OMNIFLO_LISTEN", "OMNIFLO_THREADS"]


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIFLO_DATABASE_URL", "mysql://user:hunter2@host/database")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("workers", "256", 256),
        ("threads", "64", 64),
        ("queue", "10000", 10_000),
        ("max_templates", "1", 1),
        ("max_api_keys", "10000000", 10_000_000),
        ("deadline_seconds", "0.1", 0.1),
        ("drain_seconds", "0", 0.0),
        ("log_format", "json", "json"),
        ("log_level", "debug", "debug"),
        ("listen", "[::]:0", "[::]:0"),
        ("listen", "localhost:65535", "localhost:65535"),
        ("auth", "none", "none"),
        ("admins", " user_1 ,user_2,, ", ("user_1", "user_2")),
        (
            "clerk_authorized_parties",
            "https://app.example.com, http://localhost:3000,https://[::1]:8443,chrome-extension://abc,tauri://localhost",
            (
                "https://app.example.com",
                "http://localhost:3000",
                "https://[::1]:8443",
                "chrome-extension://abc",
                "tauri://localhost",
            ),
        ),
        ("trust_xfcc", "on", "on"),
        ("health_listen", "0.0.0.0:50053", "0.0.0.0:50053"),
        ("metrics_listen", "127.0.0.1:9464", "127.0.0.1:9464"),
    ],
)
def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
    monkeypatch.setenv(variable(name), text)
    assert getattr(Settings.load(), name) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("spiffe://mesh/a=reader, b.internal=admin,", {"spiffe://mesh/a": "reader", "b.internal": "admin"}),
        ("spiffe://mesh/a?b=c=writer", {"spiffe://mesh/a?b=c": "writer"}),
    ],
)
def test_services_are_names_with_roles(monkeypatch: pytest.MonkeyPatch, text: str, value: Any) -> None:
    monkeypatch.setenv("OMNIFLO_TRUST_XFCC", "on")
    monkeypatch.setenv("OMNIFLO_SERVICES", text)
    assert Settings.load().services == value


ISSUER = {"CLERK_ISSUER": "https://clerk.example.com"}
URL = {"CLERK_JWKS_URL": "https://clerk.example.com/jwks.json"}
KEY = SigningKey("ins_1").pem
PEM = {"CLERK_JWT_KEY": KEY}
PARTY = {"CLERK_AUTHORIZED_PARTIES": "https://app.example.com"}
TLS = {"TLS_CERT": __file__, "TLS_KEY": __file__}
CA = {"TLS_CLIENT_CA": __file__}
MTLS = {"LISTEN_MTLS": "127.0.0.1:50052"}
XFCC = {"TRUST_XFCC": "on"}
SERVICES = {"SERVICES": "spiffe://mesh/a=reader"}
PROXIES = {"PROXIES": "spiffe://mesh/envoy"}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"AUTH": "none", "LISTEN": "0.0.0.0:50051"}, "OMNIFLO_LISTEN=0.0.0.0:50051: with OMNIFLO_AUTH=none"),
        ({"AUTH": "none", "LISTEN": "[::]:50051"}, "OMNIFLO_LISTEN=[::]:50051: with OMNIFLO_AUTH=none"),
        ({"AUTH": "none", "LISTEN": "192.0.2.1:50051"}, "OMNIFLO_LISTEN=192.0.2.1:50051: with OMNIFLO_AUTH=none"),
        ({"AUTH": "none", "LISTEN": "example.com:50051"}, "OMNIFLO_LISTEN=example.com:50051: with OMNIFLO_AUTH=none"),
        ({"AUTH": "none", "LISTEN": "localhost.example.com:1"}, "OMNIFLO_LISTEN=localhost.example.com:1: with"),
        ({"AUTH": "none", "LISTEN": "127.1:50051"}, "OMNIFLO_LISTEN=127.1:50051: with OMNIFLO_AUTH=none"),
        ({"AUTH": "none", "HEALTH_LISTEN": "0.0.0.0:50053"}, "OMNIFLO_HEALTH_LISTEN=0.0.0.0:50053: with"),
        ({"AUTH": "none", "METRICS_LISTEN": "0.0.0.0:9464"}, "OMNIFLO_METRICS_LISTEN=0.0.0.0:9464: with"),
        ({"METRICS_LISTEN": ":9464"}, "OMNIFLO_METRICS_LISTEN: must be host:port"),
        ({"AUTH": "none", **TLS, **CA, "LISTEN_MTLS": "0.0.0.0:50052"}, "OMNIFLO_LISTEN_MTLS=0.0.0.0:50052: with"),
        ({"TLS_CERT": __file__}, "OMNIFLO_TLS_CERT and OMNIFLO_TLS_KEY go together"),
        ({"TLS_KEY": __file__}, "OMNIFLO_TLS_CERT and OMNIFLO_TLS_KEY go together"),
        ({**MTLS, **TLS}, "OMNIFLO_LISTEN_MTLS needs"),
        ({**MTLS, **CA}, "OMNIFLO_LISTEN_MTLS needs"),
        (MTLS, "OMNIFLO_LISTEN_MTLS needs"),
        ({**ISSUER, **PARTY}, "OMNIFLO_CLERK_ISSUER goes with one of"),
        ({**ISSUER, **PARTY, **URL, **PEM}, "OMNIFLO_CLERK_ISSUER goes with one of"),
        (URL, "OMNIFLO_CLERK_ISSUER goes with one of"),
        (PEM, "OMNIFLO_CLERK_ISSUER goes with one of"),
        ({**ISSUER, **URL}, "OMNIFLO_CLERK_ISSUER needs OMNIFLO_CLERK_AUTHORIZED_PARTIES"),
        (SERVICES, "OMNIFLO_SERVICES needs OMNIFLO_LISTEN_MTLS, or OMNIFLO_TRUST_XFCC=on"),
        ({**SERVICES, **TLS, **CA}, "OMNIFLO_SERVICES needs OMNIFLO_LISTEN_MTLS, or OMNIFLO_TRUST_XFCC=on"),
        ({**PROXIES, **XFCC}, "OMNIFLO_PROXIES needs OMNIFLO_LISTEN_MTLS and OMNIFLO_TRUST_XFCC=on"),
        ({**PROXIES, **TLS, **CA, **MTLS}, "OMNIFLO_PROXIES needs OMNIFLO_LISTEN_MTLS and OMNIFLO_TRUST_XFCC=on"),
        (
            {**TLS, **CA, **MTLS, **XFCC, "SERVICES": "a=reader,b=writer", "PROXIES": "b,c"},
            "OMNIFLO_SERVICES and OMNIFLO_PROXIES both have b",
        ),
    ],
)
def test_what_settings_demand_of_each_other_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OMNIFLO_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(named)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"AUTH": "none"},
        {"AUTH": "none", "LISTEN": "localhost:50051"},
        {"AUTH": "none", "LISTEN": "127.8.8.8:50051"},
        {"AUTH": "none", "LISTEN": "[::1]:50051", "HEALTH_LISTEN": "127.0.0.1:50053"},
        {"LISTEN": "0.0.0.0:50051"},
        {**ISSUER, **URL, **PARTY},
        {**ISSUER, **PEM, **PARTY},
        {**ISSUER, **URL, "CLERK_ALLOW_NO_AZP": "true"},
        TLS,
        {**TLS, **CA, **MTLS},
        {**SERVICES, **XFCC},
        {**SERVICES, **TLS, **CA, **MTLS},
        {**SERVICES, **PROXIES, **TLS, **CA, **MTLS, **XFCC},
        {"CLERK_ISSUER": "https://app.example.com/__clerk", **URL, **PARTY},
        {"CLERK_ISSUER": "http://localhost:8080", **URL, **PARTY},
    ],
)
def test_what_goes_together_is_taken(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OMNIFLO_{name}", value)
    Settings.load()


def test_authentication_is_the_default() -> None:
    assert Settings.load().auth == "required"


def test_a_key_in_pem_may_have_its_lines_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ISSUER | PARTY | {"CLERK_JWT_KEY": KEY.replace("\n", "\\n")}).items():
        monkeypatch.setenv(f"OMNIFLO_{name}", value)
    settings = Settings.load()
    assert settings.clerk_jwt_key == KEY
    # And is shown so that it may be given again.
    joined = KEY.replace("\n", "\\n")
    assert f"OMNIFLO_CLERK_JWT_KEY={joined}\n" in describe(settings)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    defaults = Settings.load()
    monkeypatch.setenv(variable(name), "")
    assert Settings.load() == defaults


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("OMNIFLO_LISTN", "OMNIFLO_LISTEN"),
        ("OMNIFLO_DB_URL", "OMNIFLO_DATABASE_URL"),
        ("OMNIFLO_DATABASE", "OMNIFLO_DATABASE_URL"),
        ("OMNIFLO_CLERK_AUTHORISED_PARTIES", "OMNIFLO_CLERK_AUTHORIZED_PARTIES"),
        ("OMNIFLO_LOGLEVEL", "OMNIFLO_LOG_LEVEL"),
        ("OMNIFLO_OPENAI_API_KEY", "OPENAI_API_KEY"),
        ("omniflo_worker", "OMNIFLO_WORKERS"),
        ("OMNIFLO_", None),
        ("OMNIFLO_HOST", None),
    ],
)
def test_a_variable_that_is_no_setting_is_told_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str | None
) -> None:
    monkeypatch.setenv(name, "hunter2")
    assert list(unknown_variables()) == [(name, nearest)]


@pytest.mark.parametrize("name", [*map(variable, Settings.model_fields), "omniflo_threads", "MNIFLO_X"])
def test_a_variable_that_is_a_setting_or_of_others_is_not_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert list(unknown_variables()) == []


SECRETS = Settings.secrets().values()


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_every_secret_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, end: str) -> None:
    url = "postgresql://user:hunter2@host/database"
    (tmp_path / "secret").write_bytes(f"{url}{end}".encode())
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    settings = Settings.load()
    found = {variable(field): value for field, value in settings if isinstance(value, SecretStr)}
    assert {field: value.get_secret_value() for field, value in found.items()} == {name: url}
    assert list(unknown_variables()) == []
    assert "hunter2" not in describe(settings)
    assert f"in {name}_FILE)" in describe(settings)


def test_a_new_secret_may_be_in_a_file_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class More(Settings):
        token: SecretStr | None = None
        name: str = ""

    (tmp_path / "secret").write_text(" hunter2 \n\n")
    for setting in ("TOKEN", "NAME"):
        monkeypatch.setenv(f"OMNIFLO_{setting}_FILE", str(tmp_path / "secret"))
    settings = More.load()
    assert (settings.token, settings.name) == (SecretStr(" hunter2 \n"), "")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file cannot be read: No such file or directory"),
        (b"", "the file must have a text of 1 to 65536 bytes"),
        (b"\n", "the file must have a text"),
        (b"hunter2\xff", "the file must have a text"),
        (b"hunter2\0", "the file must have a text"),
        (b"hunter2" * 10_000, "the file must have a text"),
        # What it says is judged as what the variable itself says.
        (b"mysql://user:hunter2@host/database", "must be a URL such as postgresql://"),
    ],
)
def test_a_file_that_has_no_secret_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    # Somebody may have written the secret itself in its place.
    path = tmp_path / "hunter2"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("OMNIFLO_DATABASE_URL_FILE", str(path))
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"OMNIFLO_DATABASE_URL_FILE: {said}")
    assert "hunter2" not in str(caught.value)


def test_a_secret_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "postgresql://user:hunter2@host/database")
        monkeypatch.setenv(f"{name}_FILE", "/nowhere")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value).splitlines() == [
        f"{name} and {name}_FILE are both set: unset one of them" for name in SECRETS
    ]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_both_spellings_of_a_database_url_are_read(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("OMNIFLO_DATABASE_URL", f"{scheme}://host/database")
    url = Settings.load().database_url
    assert url is not None
    assert url.get_secret_value() == f"{scheme}://host/database"


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().threads = 1  # type: ignore[misc]  # What is tested.


def test_the_description_has_every_variable_and_its_effective_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIFLO_THREADS", "7")
    lines = describe(Settings.load()).splitlines()
    assert [line.split("=")[0] for line in lines[::2]] == [variable(name) for name in Settings.model_fields]
    assert "OMNIFLO_THREADS=7" in lines
    assert "OMNIFLO_LISTEN=127.0.0.1:50051" in lines
    # Below each stands what it may be.
    assert all(line.startswith("    ") and line.strip() for line in lines[1::2])


def test_the_description_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIFLO_DATABASE_URL", "postgresql://user:hunter2@host/database")
    settings = Settings.load()
    assert "OMNIFLO_DATABASE_URL=*" in describe(settings)
    assert "hunter2" not in describe(settings) + repr(settings)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051),
        ("localhost:0", "localhost", 0),
        ("[::]:50051", "::", 50051),
        ("[::1]:0", "::1", 0),
        ("[0:0:0:0:0:0:0:1]:1", "::1", 1),
    ],
)
def test_an_address_is_split_into_host_and_port(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)


@pytest.mark.parametrize(
    ("text", "wanted", "spelled"),
    [
        ("03:30", (86_400, 12_600), "03:30"),
        ("00:00", (86_400, 0), "00:00"),
        (":05", (3600, 300), ":05"),
        ("10m", (600, 0), "10m"),
        ("90s", (90, 0), "90s"),
        ("120s", (120, 0), "2m"),
        ("2h", (7200, 0), "2h"),
    ],
)
def test_a_schedule_is_read_and_spelled(text: str, wanted: tuple[int, int], spelled: str) -> None:
    assert Schedule.of(text) == wanted
    assert str(Schedule.of(text)) == spelled
