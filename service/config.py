"""The settings of the service, read from the environment and checked; nothing else reads it."""

import os
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "OMNIFLO_"


class ConfigurationError(Exception):
    """A setting is wrong; the message names the variable and what it may be."""


def _postgresql_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in {"postgresql", "postgres"}:
        raise ValueError("must be a URL such as postgresql://user:password@host:5432/database")
    return value


def _https_url(value: str) -> str:
    parts = urlsplit(value)
    is_local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or not (is_local or parts.scheme == "https"):
        raise ValueError("must be an https URL such as https://api.openai.com/v1, or http on this machine")
    return value


def _address(value: str) -> str:
    host, port = split_address(value)
    if not host or not 0 <= port <= 65535:  # noqa: PLR2004 - the highest port
        raise ValueError
    return value


def _listen(value: str) -> str:
    try:
        return _address(value)
    except ValueError:
        raise ValueError("must be host:port, such as 127.0.0.1:50051, 0.0.0.0:50051 or [::]:50051") from None


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host stands in brackets on the wire and without them in the answer."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(IPv6Address(host[1:-1]))
    return host, int(port)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True)

    database_url: Annotated[SecretStr | None, AfterValidator(lambda url: url and _postgresql_url(url))] = Field(
        default=None, description="the PostgreSQL to use, 15 or later; unset starts an embedded one in OMNIFLO_DATA_DIR"
    )
    data_dir: Path = Field(default=Path(".data"), description="where the embedded PostgreSQL keeps its data")
    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:50051", description="host:port to serve on; port 0 takes a free one"
    )
    processes: int = Field(
        default_factory=lambda: min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1),
        ge=1,
        le=256,
        description="server processes that share the port, 1 to 256; by default one a core, 8 at most",
    )
    threads: int = Field(
        default=8,
        ge=1,
        le=64,
        description="threads of each process, 1 to 64; each keeps one connection to the database",
    )
    queue: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="calls a process holds, running and waiting, before it refuses, 1 to 10000",
    )
    deadline_seconds: float = Field(
        default=30,
        ge=0.1,
        le=300,
        description="the longest a call may take, and the deadline of one that sets none, 0.1 to 300",
    )
    drain_seconds: float = Field(
        default=20, ge=0, le=600, description="how long running calls may go on after SIGTERM, 0 to 600"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="json, text, or auto: text on a terminal and json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="the key for OpenAI; unset refuses what asks OpenAI",
    )
    openai_base_url: Annotated[str | None, AfterValidator(lambda url: url and _https_url(url))] = Field(
        default=None,
        validation_alias="OPENAI_BASE_URL",
        description="where OpenAI's API is served, https unless on this machine; unset is OpenAI itself",
    )

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Read the environment; ConfigurationError names every variable that is wrong and what it may be."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError(
                "\n".join(_complaint(item["loc"][0], item["msg"]) for item in error.errors())
            ) from None


def variable(name: str) -> str:
    """Answer the variable of a setting; those of OpenAI's have the names that OpenAI's own tools read."""
    return name.upper() if name.startswith("openai_") else PREFIX + name.upper()


def describe(settings: Settings) -> str:
    """One line a setting: the variable, its effective value with secrets masked, and what it may be."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "" if value is None else str(value)
        lines.append(f"{variable(name)}={shown}\n    {field.description}")
    return "\n".join(lines)


def _complaint(name: object, message: str) -> str:
    setting = str(name).lower()
    field = Settings.model_fields[setting]
    return f"{variable(setting)}: {message.removeprefix('Value error, ')} ({field.description})"
