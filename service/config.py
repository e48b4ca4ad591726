"""The settings of the service, read from the environment and checked."""

import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, FilePath, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from service import environment, logs, processors
from service.telemetry import Telemetry
from service.variables import (
    Address,
    BackupPlace,
    Issuer,
    Labels,
    Names,
    OptionalAddress,
    Origins,
    PostgresqlUrl,
    Roles,
    RsaPublicKey,
    Schedules,
    Url,
    is_loopback,
)

PREFIX = "OMNIFLO_"

CONNECTIONS_BESIDE = 5
"""The connections of a worker beside those of its threads: one that asks for health, one that reads changes, one for
watches that resume, one for watches of records, and one for the upkeep."""

JOBS_AT_ONCE = 3
"""Jobs that a process for jobs runs at once."""
JOB_CONNECTIONS = JOBS_AT_ONCE + 4
"""Its connections without those of runs: one of each job, two of procrastinate's, one that listens, and one that keeps
all going."""


class ConfigurationError(Exception):
    """A setting is wrong; the message names the variable and what it may be."""


def _bounded(default: float, least: float, most: float, description: str) -> Any:
    return Field(default=default, ge=least, le=most, description=description)


def _quota(default: int, description: str) -> Any:
    return _bounded(default, 1, 10_000_000, f"{description}, 1 to 10000000")


class Settings(Telemetry):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True)

    database_url: PostgresqlUrl = Field(
        default=None, description="the PostgreSQL to use, 15 or later; unset starts an embedded one in OMNIFLO_DATA_DIR"
    )
    database_direct_url: PostgresqlUrl = Field(
        default=None,
        description="the same database past a pooler, for migrations and for reading changes; unset is"
        " OMNIFLO_DATABASE_URL",
    )
    database_owner_url: PostgresqlUrl = Field(
        default=None,
        description="the same database for the role that owns its tables, past a pooler, for migrations; they give the"
        " role of OMNIFLO_DATABASE_URL what it needs; unset is OMNIFLO_DATABASE_DIRECT_URL or OMNIFLO_DATABASE_URL",
    )
    data_dir: Path = Field(default=Path(".data"), description="where the embedded PostgreSQL keeps its data")
    listen: Address = Field(default="127.0.0.1:50051", description="host:port to serve on; port 0 takes a free one")
    auth: Literal["none", "required"] = Field(
        default="required",
        description="required: every call needs a session, an API key or a service's certificate; none: anybody may do"
        " anything, which listens on loopback only",
    )
    clerk_issuer: Issuer = Field(default=None, description="the issuer of Clerk's sessions; unset takes no sessions")
    clerk_jwks_url: Url = Field(default=None, description="where Clerk's public keys are, read again as they change")
    clerk_jwt_key: RsaPublicKey = Field(
        default=None, description="Clerk's public key in PEM, instead of OMNIFLO_CLERK_JWKS_URL"
    )
    clerk_authorized_parties: Origins = Field(
        default=(), description="the origins that sessions may be for (azp), joined by commas"
    )
    clerk_allow_no_azp: bool = Field(default=False, description="whether a session may be without azp")
    admins: Names = Field(default=(), description="the Clerk ids of the platform's administrators, joined by commas")
    services: Roles = Field(
        default={},
        description="services by the SPIFFE URI or DNS name of their certificate, as name=role joined by commas; a role"
        " is reader, writer or admin",
    )
    tls_cert: FilePath | None = Field(
        default=None, description="the server's certificate chain in PEM; unset is plain text"
    )
    tls_key: FilePath | None = Field(default=None, description="its key in PEM")
    tls_client_ca: FilePath | None = Field(default=None, description="what client certificates are signed by, in PEM")
    listen_mtls: OptionalAddress = Field(
        default=None, description="host:port for callers with client certificates; unset serves none"
    )
    trust_xfcc: Literal["on", "off"] = Field(
        default="off",
        description="on: x-forwarded-client-cert names the service, from loopback or from a proxy of OMNIFLO_PROXIES",
    )
    proxies: Names = Field(
        default=(), description="the names in the certificates of proxies whose header is trusted, joined by commas"
    )
    reflection: Literal["auto", "on", "off"] = Field(
        default="auto", description="whether reflection is served; auto: only with OMNIFLO_AUTH=none"
    )
    health_listen: OptionalAddress = Field(
        default=None, description="host:port for health alone, in plain text; unset serves none"
    )
    workers: int = Field(
        default_factory=processors.count,
        ge=1,
        le=256,
        description="server processes that share the port, 1 to 256; by default one for each processor that the service"
        " may use, by its affinity and the quota of its cgroup",
    )
    pin_workers: Literal["on", "off"] = Field(
        default="off",
        description="on: each worker uses one processor alone, the first worker the first that the service may use",
    )
    threads: int = _bounded(
        8, 1, 64, "calls that each worker works on at once, each with a connection to the database, 1 to 64"
    )
    prepare: Literal["on", "off"] = Field(
        default="on",
        description="on: statements are prepared; off: they are not, for poolers that lend connections to transactions",
    )
    cache_mb: int = _bounded(64, 0, 65_536, "megabytes of answers that each process keeps, 0 to 65536; 0 keeps none")
    queue: int = _bounded(
        1_024, 1, 10_000, "calls that wait for a thread in each process before it rejects more, 1 to 10000"
    )
    max_templates: int = _quota(5_000, "templates that a user may be the author of")
    max_organizations: int = _quota(500, "organizations that a user may be a member of")
    max_api_keys: int = _quota(5_000, "API keys that a user may have")
    max_members: int = _quota(10_000, "members that an organization may have")
    max_invitations: int = _quota(1_000, "invitations that an organization may have")
    max_request_ids: int = _quota(50_000, "request ids that are kept for a caller within 24 hours")
    max_revisions: int = _quota(10_000, "revisions that a template may have")
    max_usages: int = _quota(100_000, "usages that a user may record within 48 hours")
    max_processing_records: int = _quota(10_000, "processing records that a user may have")
    protected_labels: Labels = Field(
        default=("production",),
        description="the labels of templates that only those may move who may set defaults, joined by commas",
    )
    changes_days: int = Field(
        default=400, ge=1, le=36_500, description="days for which it is kept what happened, 1 to 36500"
    )
    records_days: int = Field(
        default=90, ge=1, le=36_500, description="days for which processing records are kept, 1 to 36500"
    )
    usage_days: int = _bounded(
        60, 2, 36_500, "days for which each usage by itself, and usage by the hour, is kept, 2 to 36500"
    )
    backup_dir: BackupPlace = Field(
        default=None, description="where backups are kept: a folder, or s3://bucket/prefix; unset keeps none"
    )
    backup_key_file: FilePath | None = Field(
        default=None,
        description="the file with the key that backups are encrypted with, 32 bytes in base64; unset encrypts none",
    )
    backup_days: int = _bounded(14, 1, 36_500, "days for which backups are kept, 1 to 36500; the last three always are")
    watch_hours: int = _bounded(
        24, 1, 720, "hours for which a watch can be resumed, 1 to 720; at most OMNIFLO_CHANGES_DAYS"
    )
    watches: int = Field(
        default=1_000, ge=1, le=10_000, description="watches that a process has open at most, 1 to 10000"
    )
    work: Literal["on", "off"] = Field(
        default="on", description="on: `serve` runs jobs too, in a process of its own; off: only `work` does"
    )
    uploads: int = Field(
        default=4, ge=1, le=64, description="files that a worker takes at once on their way to OpenAI, 1 to 64"
    )
    max_file_mb: int = Field(
        default=50, ge=1, le=512, description="megabytes of 1048576 bytes that a file may have, 1 to 512"
    )
    processing_concurrency: int = Field(
        default=4, ge=1, le=64, description="runs of templates that a process for jobs does at once, 1 to 64"
    )
    assistants: Literal["on", "off"] = Field(
        default="off", description="on: templates are copied as assistants, at a server with OpenAI's Assistants API"
    )
    assistants_settle_seconds: float = Field(
        default=60, ge=1, le=3_600, description="after how long a new assistant is listed at the latest, 1 to 3600"
    )
    assistants_sweep_age_seconds: float = _bounded(
        3_600, 1, 604_800, "how old an assistant is at least that is deleted as it belongs to no template, 1 to 604800"
    )
    jobs_schedule: Schedules = Field(
        default={},
        description="when tasks run that should not when they would, as name=time joined by commas, in UTC: 03:30 is"
        " daily, :30 hourly, and 10m every 10 minutes",
    )
    jobs_off: Names = Field(default=(), description="the tasks that are not run by the clock, joined by commas")
    deadline_seconds: float = _bounded(
        30, 0.1, 300, "the longest a call may take, and the deadline of one that sets none, 0.1 to 300"
    )
    receive_seconds: float = _bounded(
        10, 0.1, 300, "how long a call may wait for a message of its caller, or for its caller to read one, 0.1 to 300"
    )
    drain_seconds: float = Field(
        default=20, ge=0, le=600, description="how long running calls may go on after SIGTERM, 0 to 600"
    )
    drain_delay_seconds: float = Field(
        default=0,
        ge=0,
        le=300,
        description="how long a server goes on accepting calls after SIGTERM while health says NOT_SERVING, 0 to 300",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="the key for OpenAI; unset refuses what asks OpenAI",
    )
    openai_base_url: Url = Field(
        default=None,
        validation_alias="OPENAI_BASE_URL",
        description="where OpenAI's API is served, https unless on this machine; unset is OpenAI itself",
    )

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Read the environment; ConfigurationError names every variable that is wrong and what it may be."""
        try:
            in_files = environment.from_files(cls.secrets())
            settings = cls(**in_files | overrides)
        except environment.SecretError as error:
            raise ConfigurationError(str(error)) from None
        except ValidationError as error:
            complaints = [cls._complaint(str(item["loc"][0]).lower(), item["msg"], in_files) for item in error.errors()]
            raise ConfigurationError("\n".join(complaints)) from None
        if conflicts := list(settings.conflicts()):
            raise ConfigurationError("\n".join(conflicts))
        return settings

    @classmethod
    def secrets(cls) -> Mapping[str, str]:
        """Return the variables of those settings that are secrets, each of which may be in a file instead."""
        return {
            name: variable(name)
            for name, field in cls.model_fields.items()
            if SecretStr in (field.annotation, *get_args(field.annotation))
        }

    @classmethod
    def _complaint(cls, name: str, message: str, in_files: Container[str]) -> str:
        named = environment.file_of(variable(name)) if name in in_files else variable(name)
        return f"{named}: {message.removeprefix('Value error, ')} ({cls.model_fields[name].description})"

    @property
    def connections(self) -> int:
        """How many connections to the database `serve` may have: of each thread, beside them, and of jobs."""
        of_workers = self.workers * (self.threads + CONNECTIONS_BESIDE)
        return of_workers + (self.job_connections if self.work == "on" else 0)

    @property
    def job_connections(self) -> int:
        """How many connections a process for jobs may have."""
        # One of each run, one that looks for them, and one that tidies up after them.
        of_runs = 0 if self.openai_api_key is None else self.processing_concurrency + 2
        # One that follows what changes, one that compares, and one that copies.
        return JOB_CONNECTIONS + of_runs + (3 if self.assistants == "on" else 0)

    def listeners(self) -> dict[str, str]:
        """Return the addresses that workers serve, by their settings."""
        addresses = {"listen": self.listen, "listen_mtls": self.listen_mtls, "health_listen": self.health_listen}
        return {name: address for name, address in addresses.items() if address is not None}

    def addresses(self) -> dict[str, str]:
        """Return all addresses that are listened on, by their settings."""
        return self.listeners() | ({} if self.metrics_listen is None else {"metrics_listen": self.metrics_listen})

    def conflicts(self) -> Iterator[str]:
        """Yield what settings demand of each other and do not get."""
        for name, address in self.addresses().items():
            if self.auth == "none" and not is_loopback(address):
                yield (
                    f"{variable(name)}={address}: with OMNIFLO_AUTH=none anybody may do anything, so only a loopback"
                    " address such as 127.0.0.1 is listened on; set OMNIFLO_AUTH=required"
                )
        if self.pin_workers == "on" and not hasattr(os, "sched_setaffinity"):
            yield "OMNIFLO_PIN_WORKERS=on: this system pins no process"
        if (self.tls_cert is None) != (self.tls_key is None):
            yield "OMNIFLO_TLS_CERT and OMNIFLO_TLS_KEY go together"
        if self.listen_mtls is not None and (self.tls_cert is None or self.tls_client_ca is None):
            yield "OMNIFLO_LISTEN_MTLS needs OMNIFLO_TLS_CERT, OMNIFLO_TLS_KEY and OMNIFLO_TLS_CLIENT_CA"
        keys = [key for key in (self.clerk_jwks_url, self.clerk_jwt_key) if key is not None]
        if len(keys) != (0 if self.clerk_issuer is None else 1):
            yield "OMNIFLO_CLERK_ISSUER goes with one of OMNIFLO_CLERK_JWKS_URL and OMNIFLO_CLERK_JWT_KEY"
        if self.clerk_issuer is not None and not (self.clerk_authorized_parties or self.clerk_allow_no_azp):
            yield "OMNIFLO_CLERK_ISSUER needs OMNIFLO_CLERK_AUTHORIZED_PARTIES, or OMNIFLO_CLERK_ALLOW_NO_AZP=true"
        if self.watch_hours > 24 * self.changes_days:
            yield "OMNIFLO_WATCH_HOURS is more than OMNIFLO_CHANGES_DAYS: what a watch resumes from is deleted by then"
        if self.assistants == "on" and self.openai_api_key is None:
            yield "OMNIFLO_ASSISTANTS=on needs OPENAI_API_KEY"
        yield from self._conflicts_of_services()

    def _conflicts_of_services(self) -> Iterator[str]:
        is_trusting = self.trust_xfcc == "on"
        if self.services and self.listen_mtls is None and not is_trusting:
            yield "OMNIFLO_SERVICES needs OMNIFLO_LISTEN_MTLS, or OMNIFLO_TRUST_XFCC=on: otherwise no call names one"
        if self.proxies and (self.listen_mtls is None or not is_trusting):
            yield "OMNIFLO_PROXIES needs OMNIFLO_LISTEN_MTLS and OMNIFLO_TRUST_XFCC=on: nobody else is a proxy"
        for name in sorted(self.services.keys() & set(self.proxies)):
            yield f"OMNIFLO_SERVICES and OMNIFLO_PROXIES both have {name}: a proxy is never taken for a service"

    @property
    def is_open(self) -> bool:
        """Whether credentials come over the network in plain text."""
        return self.tls_cert is None and not is_loopback(self.listen)

    @property
    def shows_metrics(self) -> bool:
        """Whether metrics are there for others than this machine."""
        return self.metrics_listen is not None and not is_loopback(self.metrics_listen)

    @property
    def serves_reflection(self) -> bool:
        return self.reflection == "on" or (self.reflection == "auto" and self.auth == "none")


def log_format() -> logs.Format:
    """Return the setting alone, which is there also where others are wrong."""
    value = environment.value(variable("log_format"))
    return "json" if value == "json" else "text" if value == "text" else "auto"


def variable(name: str) -> str:
    """Return the variable of a setting; those of OpenAI's and OpenTelemetry's have the names that their tools read."""
    return name.upper() if name.startswith(("openai_", "otel_")) else PREFIX + name.upper()


def unknown_variables() -> Iterator[tuple[str, str | None]]:
    """Yield the variables that look like settings and are none, each with the setting that has the nearest name."""
    files = map(environment.file_of, Settings.secrets().values())
    return environment.unknown(PREFIX, [*map(variable, Settings.model_fields), *files])
