"""The settings: what each may be, and what a person reads when one is wrong."""

from typing import Any

import pytest

from service.config import ConfigurationError, Settings, describe, split_address, variable


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
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
        ("PROCESSES", "0", "1 to 256"),
        ("PROCESSES", "257", "1 to 256"),
        ("PROCESSES", "many", "1 to 256"),
        ("THREADS", "0", "1 to 64"),
        ("THREADS", "65", "1 to 64"),
        ("QUEUE", "0", "1 to 10000"),
        ("QUEUE", "10001", "1 to 10000"),
        ("DEADLINE_SECONDS", "0", "0.1 to 300"),
        ("DEADLINE_SECONDS", "301", "0.1 to 300"),
        ("DEADLINE_SECONDS", "nan", "0.1 to 300"),
        ("DRAIN_SECONDS", "-1", "0 to 600"),
        ("DRAIN_SECONDS", "inf", "0 to 600"),
        ("LOG_FORMAT", "xml", "json, text, or auto"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
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
        ("processes", "256", 256),
        ("threads", "64", 64),
        ("queue", "10000", 10_000),
        ("deadline_seconds", "0.1", 0.1),
        ("drain_seconds", "0", 0.0),
        ("log_format", "json", "json"),
        ("log_level", "debug", "debug"),
        ("listen", "[::]:0", "[::]:0"),
        ("listen", "localhost:65535", "localhost:65535"),
    ],
)
def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
    monkeypatch.setenv(variable(name), text)
    assert getattr(Settings.load(), name) == value


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    defaults = Settings.load()
    monkeypatch.setenv(variable(name), "")
    assert Settings.load() == defaults


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
