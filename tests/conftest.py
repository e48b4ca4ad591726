"""What every test may use: an embedded PostgreSQL, databases in it, a server on a free port, and its stubs."""

import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc
import psycopg2
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status
from pydantic import SecretStr

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyRequest, CreateApiKeyResponse
from omniflo.templates.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from omniflo.templates.v1.change_service_pb2_grpc import ChangeServiceStub
from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.model_service_pb2_grpc import ModelServiceStub
from omniflo.templates.v1.organization_pb2 import Invitation, Member, Organization, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AcceptInvitationRequest,
    AddMemberRequest,
    CreateOrganizationRequest,
    InviteMemberRequest,
)
from omniflo.templates.v1.organization_service_pb2_grpc import OrganizationServiceStub
from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingRunner, ProcessingStatus
from omniflo.templates.v1.processing_service_pb2 import CreateProcessingRecordRequest
from omniflo.templates.v1.processing_service_pb2_grpc import ProcessingServiceStub
from omniflo.templates.v1.selection_pb2 import Selection
from omniflo.templates.v1.selection_service_pb2 import GetSelectionRequest, SetSelectionRequest
from omniflo.templates.v1.selection_service_pb2_grpc import SelectionServiceStub
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType, TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateToolRequest, CreateTemplateTypeRequest
from omniflo.templates.v1.template_type_service_pb2_grpc import TemplateTypeServiceStub
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceStub
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import ProvisionUserRequest
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceStub
from service.config import Settings
from service.database import embedded, feed, handle, migrate
from service.identity.identities import Identities
from service.operations import template_search
from service.server import wiring
from tests import commands
from tests.clerk_stand_in import ISSUER, PARTY, Clerk
from tests.openai_stand_in import KEY, StandIn
from tests.pooler import pooled

T = TypeVar("T")

TABLES = (
    "assistants, assistant_copying, assistant_strays,"
    " processing_inputs, processing_output, openai_leftovers, user_template_selections, templates, template_tools,"
    " template_types, openai_models, api_keys, organization_invitations, organization_members, processing_records,"
    " organizations, users, idempotency_keys, usages, usage_arrivals, usage_events, usage_totals"
)

REVISIONS = ("template_revisions", "template_type_revisions", "revision_texts")
"""What triggers write of what is in TABLES, and what outlives that."""

STATISTICS = ("statement_times", "statistics_samples")

QUEUE = (
    "job_reports",
    "job_schedule",
    "procrastinate_events",
    "procrastinate_periodic_defers",
    "procrastinate_jobs",
    "procrastinate_workers",
)
"""The tables of jobs."""

# Several servers run in this process: each would read the log after every write, and again for each of the others.
feed.PACE_SECONDS = 0.05
# Where the processors are busy, a page of 1,000 templates takes longer than callers should wait.
template_search.SEARCH_SECONDS = 20.0


COVERING = {name: os.environ[name] for name in ("COVERED", "PYTHONPATH") if "COVERED" in os.environ}
"""What has a process count which lines of it run, where that is asked for."""


def pytest_configure(config: pytest.Config) -> None:
    """Have this process and commands counted, and the processes that they start for `covered` tests alone."""
    if COVERING and (hasattr(config, "workerinput") or not config.option.numprocesses):
        commands.preload()
        for name in COVERING:
            del os.environ[name]


def pytest_sessionfinish() -> None:
    """Write the notes of this process now: xdist kills one that takes more than 10 seconds to end."""
    if COVERING:
        importlib.import_module("sitecustomize").write()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Before the fixtures of its module, which may start a service.
    is_covered = item.get_closest_marker("covered") is not None
    for name, value in COVERING.items():
        if is_covered:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def _stub(make: Callable[[grpc.Channel], T]) -> "cached_property[T]":
    """Return an attribute that is made when it is asked for: a test calls few of the services."""
    return cached_property(lambda api: make(api.channel))


class Api:
    """The stubs of all services on one channel, and what tests start from."""

    _numbers = itertools.count(1)
    """Of all together, since several may use one database."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    users = _stub(UserServiceStub)
    types = _stub(TemplateTypeServiceStub)
    models = _stub(ModelServiceStub)
    templates = _stub(TemplateServiceStub)
    selections = _stub(SelectionServiceStub)
    organizations = _stub(OrganizationServiceStub)
    keys = _stub(ApiKeyServiceStub)
    changes = _stub(ChangeServiceStub)
    usage = _stub(UsageServiceStub)
    processing = _stub(ProcessingServiceStub)

    def user(self) -> User:
        return self.users.ProvisionUser(ProvisionUserRequest(clerk_id=f"user_{next(self._numbers)}"))

    def type(self) -> TemplateType:
        body = TemplateType(name=f"type-{next(self._numbers)}")
        return self.types.CreateTemplateType(CreateTemplateTypeRequest(template_type=body))

    def tool(self, **fields: Any) -> TemplateTool:
        """Create a tool; its template type is made anew unless it is given."""
        search = OpenAIToolType.OPEN_AI_TOOL_TYPE_FILE_SEARCH
        body = TemplateTool(**{"name": f"tool_{next(self._numbers)}", "type": search, **fields})
        body.template_type = body.template_type or self.type().name
        return self.types.CreateTemplateTool(CreateTemplateToolRequest(template_tool=body))

    def model(self) -> Model:
        name = f"model-{next(self._numbers)}"
        return self.models.CreateModel(CreateModelRequest(model=Model(openai_id=name, name=name)))

    def template(self, *, select: bool = False, **fields: Any) -> Template:
        """Create a template; what it refers to and is not given is made anew."""
        body = Template(**{"title": "A title", "instructions": "Do it.", **fields})
        body.user_id = body.user_id or self.user().id
        body.template_type = body.template_type or self.type().name
        body.model = body.model or self.model().openai_id
        return self.templates.CreateTemplate(CreateTemplateRequest(template=body, select=select))

    def select(self, user: User, template: Template, organization_id: str = "") -> Selection:
        request = SetSelectionRequest(
            user_id=user.id,
            organization_id=organization_id,
            template_type=template.template_type,
            template_id=template.id,
        )
        return self.selections.SetSelection(request)

    def selected(self, user: User, template_type: str, organization_id: str = "") -> str:
        """Answer the id of the template that the user has selected for the type."""
        request = GetSelectionRequest(user_id=user.id, organization_id=organization_id, template_type=template_type)
        return self.selections.GetSelection(request).template_id

    def organization(self, admin: User | None = None) -> Organization:
        """Create an organization, whose only member is the user, or a new one."""
        body = Organization(name=f"Organization {next(self._numbers)}")
        request = CreateOrganizationRequest(organization=body, user_id=(admin or self.user()).id)
        return self.organizations.CreateOrganization(request)

    def member(self, organization: Organization, user: User | None = None, role: str = "MEMBER") -> Member:
        """Make the user, or a new one, a member of the organization."""
        body = Member(
            organization_id=organization.id,
            user_id=(user or self.user()).id,
            role=OrganizationRole.Value(f"ORGANIZATION_ROLE_{role}"),
        )
        return self.organizations.AddMember(AddMemberRequest(member=body))

    def invitation(self, organization: Organization, user: User | None = None, role: str = "MEMBER") -> Invitation:
        """Invite the user, or a new one, to become a member of the organization."""
        body = Invitation(
            organization_id=organization.id,
            user_id=(user or self.user()).id,
            role=OrganizationRole.Value(f"ORGANIZATION_ROLE_{role}"),
        )
        return self.organizations.InviteMember(InviteMemberRequest(invitation=body)).invitation

    def accept(self, invitation: Invitation) -> Member:
        return self.organizations.AcceptInvitation(AcceptInvitationRequest(id=invitation.id)).member

    def key(self, **fields: Any) -> CreateApiKeyResponse:
        """Create an API key; its owner is made anew unless it is given."""
        body = ApiKey(**{"name": "A key", "scope": ApiKeyScope.API_KEY_SCOPE_WRITE, **fields})
        body.user_id = body.user_id or self.user().id
        return self.keys.CreateApiKey(CreateApiKeyRequest(api_key=body))

    def record(self, **fields: Any) -> ProcessingRecord:
        """Create the record of a caller's own run; its user and its template are made anew unless they are given."""
        body = ProcessingRecord(
            **{
                "filename": "a.pdf",
                "status": ProcessingStatus.PROCESSING_STATUS_UPLOADING,
                "runner": ProcessingRunner.PROCESSING_RUNNER_CALLER,
                **fields,
            }
        )
        body.template_id = body.template_id or self.template().id
        body.user_id = body.user_id or self.user().id
        return self.processing.CreateProcessingRecord(CreateProcessingRecordRequest(record=body))

    def run(self, **fields: Any) -> ProcessingRecord:
        """Create the record of a run of the registry, which nobody does as long as no worker runs."""
        runner = ProcessingRunner.PROCESSING_RUNNER_REGISTRY
        return self.record(
            **{"status": ProcessingStatus.PROCESSING_STATUS_UNSPECIFIED, "openai_file_id": "file-1", **fields},
            runner=runner,
        )


class Failure:
    """A refused call: its code, its one ErrorInfo, and what else it carries."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        status = rpc_status.from_call(error)
        assert status is not None, f"no details: {error}"
        self.message = status.message
        info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        unpacked = [[detail.Unpack(kind) for detail in status.details] for kind in (info, bad_request, retry)]
        assert sum(unpacked[0]) == 1, "exactly one ErrorInfo"
        assert info.domain == "templates.omniflo"
        self.reason = info.reason
        self.metadata = dict(info.metadata)
        self.violations = {violation.field: violation.description for violation in bad_request.field_violations}
        self.retry_seconds = retry.retry_delay.ToSeconds() if any(unpacked[2]) else None


def fails(call: Callable[..., object], *arguments: Any, **options: Any) -> Failure:
    """Make a call that must be refused, and answer how."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return Failure(caught.value)


class Database:
    """A database of its own on the embedded PostgreSQL, and a connection to look at it past the service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True

    def query(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    # A process that is killed loses nothing without fsync; only a machine that loses power does.
    running = embedded.Server(tmp_path_factory.mktemp("data dir"), ["-c", "fsync=off", "-c", "max_connections=300"])
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def new_database(postgres: embedded.Server) -> Callable[[], str]:
    """Makes an empty database and answers its URL."""
    numbers = itertools.count(1)

    def make() -> str:
        name = f"test_{next(numbers)}"
        admin = Database(postgres.admin_url)
        admin.query(f"create database {name} owner omniflo")
        admin.close()
        return postgres.url.replace("/postgres?", f"/{name}?")

    return make


def as_service(url: str) -> str:
    """Answer the URL of a database for the role that serves, of the one for its owner."""
    return url.replace("//omniflo@", "//omniflo_service@")


@pytest.fixture(scope="session")
def url(new_database: Callable[[], str]) -> str:
    """The URL of the migrated database that the server of this process works on, for its owner."""
    url = new_database()
    handle.database.configure(url)
    migrate.up(migrate.load(), role="omniflo_service")
    handle.database.drop()
    handle.database.configure(as_service(url))
    return url


@pytest.fixture(scope="session")
def served(url: str) -> Iterator[dict[str, Any]]:
    """The settings for the database of the servers of this process; TEST_POOLER=on puts a PgBouncer in between."""
    direct = as_service(url)
    if os.environ.get("TEST_POOLER") != "on":
        yield {"database_url": SecretStr(direct)}
        return
    with pooled(direct) as through:
        yield {"database_url": SecretStr(through), "database_direct_url": SecretStr(direct), "prepare": "off"}


@pytest.fixture(scope="session")
def openai() -> Iterator[StandIn]:
    running = StandIn()
    yield running
    running.close()


@pytest.fixture
def stand_in(openai: StandIn) -> StandIn:
    """The stand-in for OpenAI that the server asks, as it was at the start."""
    openai.reset()
    return openai


@pytest.fixture(scope="session")
def address(served: dict[str, Any], openai: StandIn) -> Iterator[str]:
    """The address of a server in this process."""
    settings = Settings(
        **served,
        auth="none",
        drain_seconds=5,
        threads=16,
        assistants="on",
        openai_api_key=SecretStr(KEY),
        openai_base_url=openai.url,
    )
    running = wiring.build(settings, served["database_url"].get_secret_value())
    yield f"127.0.0.1:{running.start({'listen': '127.0.0.1:0'})['listen']}"
    running.drain()


@pytest.fixture(scope="session")
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="session")
def database_session(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def emptying(url: str, postgres: embedded.Server) -> Iterator[Database]:
    """A connection past all triggers: what it deletes is not recorded, row by row."""
    name = url.partition("?")[0].rpartition("/")[2]
    superuser = Database(postgres.admin_url.replace("/postgres?", f"/{name}?"))
    superuser.query("set session_replication_role = replica")
    yield superuser
    superuser.close()


ALL_CHANGED = (
    "insert into changes (epoch, kind, resource_id, action, tags, actor, method, request_id)"
    " select epoch, 'user', '*', 'delete', '{*}', 'sql', '', '' from registry"
)
"""Tells the caches what is done past the triggers."""


def tables_of(database: Database) -> set[str]:
    """Answer the names of all tables, but not of their partitions."""
    sql = "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
    return {name for (name,) in database.query(f"{sql} and not relispartition")}


def empty(emptying: Database) -> None:
    """Leave no row in the server's database but one in the log, for the caches: everything has changed."""
    # Faster than truncate, which makes new files for every table and index.
    emptying.query(
        ";".join(f"delete from {table}" for table in (*TABLES.split(", "), *REVISIONS, *QUEUE, *STATISTICS, "changes"))
    )
    emptying.query(ALL_CHANGED)


@pytest.fixture
def database(database_session: Database, emptying: Database) -> Database:
    """The server's database, without a row."""
    empty(emptying)
    return database_session


@pytest.fixture(scope="session")
def clerk() -> Iterator[Clerk]:
    running = Clerk()
    yield running
    running.close()


READER, WRITER, ADMIN = (f"spiffe://mesh/{role}" for role in ("reader", "writer", "admin"))
"""The names of services, by their roles."""

DNS_WRITER = "writer.mesh.internal"
"""The name of a service that has none of SPIFFE's."""

PLATFORM_ADMIN = "user_platform_admin"
"""The Clerk id of the platform's administrator."""


SHORT_TRUST_SECONDS = 0.3
"""For how long servers of this process remember a caller, so that tests need not wait for the 3 seconds of others."""


class Guarded(NamedTuple):
    """A server that asks who calls: a channel to it, what it remembers of its callers, and its address."""

    channel: grpc.Channel
    identities: Identities
    address: str


@pytest.fixture(scope="session")
def guarded(served: dict[str, Any], openai: StandIn, clerk: Clerk) -> Iterator[Guarded]:
    """A server in this process that lets nobody in without an identity, and trusts XFCC from loopback."""
    settings = Settings(
        **served,
        auth="required",
        clerk_issuer=ISSUER,
        clerk_jwks_url=clerk.url,
        clerk_authorized_parties=(PARTY,),
        admins=(PLATFORM_ADMIN,),
        services={READER: "reader", WRITER: "writer", ADMIN: "admin", DNS_WRITER: "writer"},
        trust_xfcc="on",
        drain_seconds=5,
        threads=16,
        openai_api_key=SecretStr(KEY),
        openai_base_url=openai.url,
    )
    url = served["database_url"].get_secret_value()
    running = wiring.build(settings, url, trust_seconds=SHORT_TRUST_SECONDS)
    assert running.identities is not None
    address = f"127.0.0.1:{running.start({'listen': '127.0.0.1:0'})['listen']}"
    with grpc.insecure_channel(address) as channel:
        yield Guarded(channel, running.identities, address)
    running.drain()


@pytest.fixture
def identities(guarded: Guarded) -> Identities:
    """What the server that asks who calls remembers of its callers: nothing of earlier tests."""
    # The users of earlier tests are deleted, past the server.
    guarded.identities.forget()
    return guarded.identities


class Calling(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Sends metadata with every call."""

    def __init__(self, metadata: list[tuple[str, str]]) -> None:
        self._metadata = metadata

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        metadata = [*(client_call_details.metadata or ()), *self._metadata]
        return continuation(client_call_details._replace(metadata=metadata), request)

    intercept_unary_stream = intercept_unary_unary
    intercept_stream_unary = intercept_unary_unary  # type: ignore[assignment]


class Callers:
    """The stubs of a guarded server, for callers of every kind."""

    def __init__(self, channel: grpc.Channel, clerk: Clerk) -> None:
        self._channel = channel
        self._clerk = clerk

    def nobody(self) -> Api:
        return Api(self._channel)

    def sending(self, *metadata: tuple[str, str]) -> Api:
        return Api(grpc.intercept_channel(self._channel, Calling(list(metadata))))

    def bearing(self, token: str) -> Api:
        """Answer the stubs of a caller with the token of a session, or with an API key."""
        return self.sending(("authorization", f"Bearer {token}"))

    def user(self, clerk_id: str) -> Api:
        """Answer the stubs of a user with a session."""
        return self.bearing(self._clerk.session(clerk_id))

    def service(self, name: str, user: str | None = None) -> Api:
        """Answer the stubs of a service, as a proxy on this machine names it; it may call for a user."""
        metadata = [("x-forwarded-client-cert", f"URI={name}")]
        return self.sending(*metadata, *([("x-omniflo-user", user)] if user else []))


@pytest.fixture
def callers(guarded: Guarded, identities: Identities, clerk: Clerk, database: Database, stand_in: StandIn) -> Callers:
    """Callers of a server that asks who they are, and whose database has no rows."""
    del identities, database, stand_in
    clerk.is_away = False
    return Callers(guarded.channel, clerk)


@pytest.fixture
def api(channel: grpc.Channel, database: Database, stand_in: StandIn) -> Api:
    """The stubs of a server whose database has no rows."""
    del database, stand_in
    return Api(channel)


ROOT = Path(__file__).parent.parent
