"""Quotas: nobody fills the database, however often and with however many calls at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import RpcError, StatusCode

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyRequest, RevokeApiKeyRequest
from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.organization_service_pb2 import CreateOrganizationRequest, DeclineInvitationRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    CreateTemplateRequest,
    DeleteTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.usage_pb2 import Usage
from omniflo.templates.v1.usage_service_pb2 import RecordUsageRequest, RecordUsageResponse
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from service.actor import SYSTEM
from service.config import Settings
from service.identity.identities import Identities
from service.operations import maintenance, orphans, quotas
from tests.conftest import ADMIN, PLATFORM_ADMIN, WRITER, Api, Callers, Database, Failure, fails
from tests.contract.tables import contents

LIMIT = 3
AT_ONCE = 12


@pytest.fixture(autouse=True)
def _limits(callers: Callers) -> Iterator[None]:
    """Few of everything, in a server that asks who calls."""
    del callers
    before = quotas._Now.limits
    quotas.configure(quotas.Limits(*[LIMIT] * len(quotas.Limits._fields)))
    yield
    quotas.configure(before)


class Setting:
    """A user, its organization, and a type and a model for its templates."""

    def __init__(self, callers: Callers, name: str = "user_a") -> None:
        self.callers = callers
        self.api = callers.user(name)
        self.user = self.api.users.GetUser(GetUserRequest(clerk_id=name))
        platform = callers.user(PLATFORM_ADMIN)
        self.template = Template(title="A", instructions="Do.", template_type=platform.type().name)
        self.template.model = platform.model().openai_id
        self.organization = self.create_organization()
        self.revised = ""
        self._lock = threading.Lock()

    def create_template(self, api: Api | None = None, organization_id: str = "") -> str:
        body = Template(organization_id=organization_id)
        body.MergeFrom(self.template)
        return (api or self.api).templates.CreateTemplate(CreateTemplateRequest(template=body)).id

    def revise(self, number: int) -> None:
        """Make a revision of one template."""
        if self._has_made_it():
            return
        body = Template(id=self.revised, title=f"Title {number}")
        self.api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))

    def run(self) -> None:
        self._has_made_it()
        self.api.record(template_id=self.revised, user_id=self.user.id)

    def _has_made_it(self) -> bool:
        """Make the template that all calls share, and answer whether this one has."""
        with self._lock:
            if self.revised:
                return False
            self.revised = self.create_template()
            return True

    def create_organization(self, api: Api | None = None) -> Organization:
        request = CreateOrganizationRequest(organization=Organization(name="Sales"))
        return (api or self.api).organizations.CreateOrganization(request)

    def create_key(self, api: Api | None = None) -> str:
        body = ApiKey(name="A", scope=ApiKeyScope.API_KEY_SCOPE_READ)
        return (api or self.api).keys.CreateApiKey(CreateApiKeyRequest(api_key=body)).api_key.id

    def new_user(self, number: int) -> tuple[Api, User]:
        api = self.callers.user(f"user_new_{number}")
        return api, api.users.GetUser(GetUserRequest(clerk_id=f"user_new_{number}"))

    def invite(self, number: int) -> str:
        return self.api.invitation(self.organization, self.new_user(number)[1]).id

    def record(self, number: int) -> None:
        usage = Usage(event_id=f"event-{number}", duration=Duration(seconds=1))
        self.api.usage.RecordUsage(RecordUsageRequest(usages=[usage]))

    def join(self, number: int) -> str:
        api, user = self.new_user(number)
        return api.accept(self.callers.user("user_a").invitation(self.organization, user)).id


FILLS: dict[str, tuple[Callable[[Setting, int], object], int, str]] = {
    "templates": (lambda setting, _: setting.create_template(), 0, "the user"),
    "organizations": (lambda setting, _: setting.create_organization(), 1, "the user"),
    "api_keys": (lambda setting, _: setting.create_key(), 0, "the user"),
    "members": (lambda setting, number: setting.join(number), 1, "the organization"),
    "invitations": (lambda setting, number: setting.invite(number), 0, "the organization"),
    "usages": (lambda setting, number: setting.record(number), 0, "the user"),
    "revisions": (lambda setting, number: setting.revise(number), 0, "the template"),
    "processing_records": (lambda setting, _: setting.run(), 0, "the user"),
}
"""By the quota: what makes one more, how many there are at first, and whose they are."""


def assert_exceeded(failure: Failure, kind: str) -> None:
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert failure.metadata == {"quota": kind, "limit": str(LIMIT), "count": str(LIMIT)}
    assert failure.retry_seconds is None


def test_every_quota_has_a_setting_and_is_tried_here() -> None:
    assert {f"max_{kind}" for kind in quotas.Limits._fields} == {
        name for name in Settings.model_fields if name.startswith("max_") and name != "max_file_mb"
    }
    # Request ids have tests of their own.
    assert {*FILLS, "request_ids"} == set(quotas.Limits._fields)
    defaults = Settings()
    assert quotas.Limits(*(getattr(defaults, f"max_{kind}") for kind in quotas.Limits._fields)) == quotas.Limits()


@pytest.mark.parametrize("kind", FILLS)
def test_what_passes_a_quota_is_refused_whole(callers: Callers, database: Database, kind: str) -> None:
    setting = Setting(callers)
    fill, there, owner = FILLS[kind]
    for number in range(there, LIMIT):
        fill(setting, number)
    setting.new_user(99)
    before = contents(database)
    failure = fails(fill, setting, 99)
    assert_exceeded(failure, kind)
    assert failure.message.startswith(owner)
    left = {table for table, rows in contents(database).items() if rows != before[table]}
    # The invitation of whom the organization has no room for stays.
    assert left == ({"organization_invitations"} if kind == "members" else set())


def test_what_is_recorded_already_needs_no_room(callers: Callers) -> None:
    usages = [Usage(event_id=f"event-{number}", duration=Duration(seconds=1)) for number in range(LIMIT)]
    api = Setting(callers).api
    for duplicates in (0, LIMIT):
        response = api.usage.RecordUsage(RecordUsageRequest(usages=[*usages, usages[0]]))
        assert (response.recorded_count, response.duplicate_count) == (LIMIT - duplicates, duplicates + 1)
    usages.append(Usage(event_id="one-more", duration=Duration(seconds=1)))
    assert_exceeded(fails(api.usage.RecordUsage, RecordUsageRequest(usages=usages)), "usages")


@pytest.mark.parametrize("kind", FILLS)
def test_calls_at_once_do_not_pass_a_quota(callers: Callers, kind: str) -> None:
    setting = Setting(callers)
    fill, there, _ = FILLS[kind]
    if kind == "members":
        # Each has an invitation before the first of them accepts.
        quotas.configure(quotas._Now.limits._replace(invitations=AT_ONCE))
        guests = [setting.new_user(number) for number in range(AT_ONCE)]
        invitations = [setting.api.invitation(setting.organization, user) for _, user in guests]
        fill = lambda _, number: guests[number][0].accept(invitations[number])  # noqa: E731
    elif kind == "invitations":
        for number in range(AT_ONCE):
            setting.new_user(number)

    def attempt(number: int) -> str:
        try:
            fill(setting, number)
        except RpcError as error:
            return str(Failure(error).reason)
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(attempt, range(AT_ONCE)))
    assert sorted(outcomes) == [""] * (LIMIT - there) + ["QUOTA_EXCEEDED"] * (AT_ONCE - LIMIT + there)


def test_there_is_room_again_when_some_are_gone(callers: Callers) -> None:
    setting = Setting(callers)
    templates = [setting.create_template() for _ in range(LIMIT)]
    setting.api.templates.DeleteTemplate(DeleteTemplateRequest(id=templates[0]))
    assert setting.create_template()
    assert_exceeded(fails(setting.create_template), "templates")
    invitations = [setting.invite(number) for number in range(LIMIT)]
    setting.api.organizations.DeclineInvitation(DeclineInvitationRequest(id=invitations[0]))
    assert setting.invite(7)


def test_templates_count_wherever_they_are_and_whoever_calls(callers: Callers) -> None:
    setting = Setting(callers)
    service = callers.service(WRITER, user=setting.user.id)
    setting.create_template()
    setting.create_template(organization_id=setting.organization.id)
    setting.create_template(service)
    for attempt in (setting.create_template, lambda: setting.create_template(service)):
        assert_exceeded(fails(attempt), "templates")
    # Another author has room of its own.
    assert Setting(callers, "user_b").create_template()


def test_an_organization_that_one_joins_counts_as_well(callers: Callers) -> None:
    setting, other = Setting(callers), Setting(callers, "user_b")
    for _ in range(LIMIT - 1):
        other.create_organization()
    invitation = setting.api.invitation(setting.organization, other.user)
    assert_exceeded(fails(other.api.accept, invitation), "organizations")


def test_a_key_that_has_ended_counts_until_it_is_purged(callers: Callers, database: Database) -> None:
    setting = Setting(callers)
    ended = [setting.create_key() for _ in range(LIMIT)]
    for id in ended:
        setting.api.keys.RevokeApiKey(RevokeApiKeyRequest(id=id))
    assert maintenance.purge_keys(SYSTEM) == 0
    assert_exceeded(fails(setting.create_key), "api_keys")
    database.query("update api_keys set revoke_time = now() - interval '31 days' where id = %s", (ended[0],))
    database.query(
        "update api_keys set revoke_time = null, expire_time = now() - interval '31 days' where id = %s", (ended[1],)
    )
    database.query("update api_keys set revoke_time = null where id = %s", (ended[2],))
    assert maintenance.purge_keys(SYSTEM) == 2
    assert database.query("select id from api_keys") == [(ended[2],)]
    assert setting.create_key()


def test_a_key_is_purged_with_those_that_were_made_with_it(api: Api, database: Database) -> None:
    parent, child, other = (api.key().api_key.id for _ in range(3))
    database.query("update api_keys set parent_id = %s where id = %s", (parent, child))
    database.query("update api_keys set revoke_time = now() - interval '31 days' where id = %s", (parent,))
    assert maintenance.purge_keys(SYSTEM) == 1
    assert database.query("select id from api_keys") == [(other,)]


def test_administrators_have_no_quotas(callers: Callers) -> None:
    setting = Setting(callers)
    platform = callers.user(PLATFORM_ADMIN)
    me = platform.users.GetUser(GetUserRequest(clerk_id=PLATFORM_ADMIN))
    for api in (platform, callers.service(ADMIN, user=me.id)):
        for _ in range(LIMIT + 1):
            setting.create_template(api)
            setting.create_organization(api)
            setting.create_key(api)


def test_where_calls_are_not_authenticated_there_are_no_quotas(api: Api) -> None:
    user = api.user()
    template = api.template(user_id=user.id)
    organization = api.organization(user)
    fields: dict[str, Any] = {"user_id": user.id, "template_type": template.template_type, "model": template.model}
    for _ in range(LIMIT + 1):
        api.template(**fields)
        api.organization(user)
        api.key(user_id=user.id)
        api.invitation(organization)
        api.member(organization)


def test_a_retry_is_answered_though_there_is_no_room_any_more(callers: Callers) -> None:
    setting = Setting(callers)
    request = CreateTemplateRequest(template=setting.template, request_id="order-17")
    first = setting.api.templates.CreateTemplate(request)
    for _ in range(LIMIT - 1):
        setting.create_template()
    assert setting.api.templates.CreateTemplate(request) == first
    request.request_id = "order-18"
    assert_exceeded(fails(setting.api.templates.CreateTemplate, request), "templates")


def test_a_quota_below_what_is_there_takes_nothing_away_and_counts_no_further_than_it(callers: Callers) -> None:
    setting = Setting(callers)
    quotas.configure(quotas.Limits())
    for _ in range(LIMIT + 4):
        setting.create_template()
    quotas.configure(quotas.Limits(templates=LIMIT))
    failure = fails(setting.create_template)
    assert failure.metadata == {"quota": "templates", "limit": str(LIMIT), "count": str(LIMIT + 1)}


def come_back(setting: Setting, identities: Identities) -> None:
    """Delete the user by its own call; the next call of the same session makes a new one."""
    setting.api.users.DeleteUser(DeleteUserRequest(id=setting.user.id))
    # As a process does within seconds.
    identities.forget()
    before, setting.user = setting.user, setting.api.users.GetUser(GetUserRequest(clerk_id="user_a"))
    assert setting.user.id != before.id


@pytest.mark.parametrize("service", [None, WRITER], ids=["itself", "through a service"])
def test_who_is_deleted_and_comes_back_has_no_new_room_for_usages(
    callers: Callers, identities: Identities, service: str | None
) -> None:
    setting = Setting(callers)
    session = setting.api
    if service is not None:
        # It may record for anybody, but acts for the user here, who has the quota.
        session = callers.service(service, user="clerk:user_a")

    def record(number: int) -> None:
        usage = Usage(event_id=f"event-{number}", duration=Duration(seconds=1))
        session.usage.RecordUsage(RecordUsageRequest(usages=[usage]))

    for number in range(LIMIT - 1):
        record(number)
    come_back(setting, identities)
    record(LIMIT)
    assert_exceeded(fails(record, LIMIT + 1), "usages")
    come_back(setting, identities)
    assert_exceeded(fails(record, LIMIT + 1), "usages")
    # What was recorded before is recorded.
    record(0)
    # Others have their own room.
    Setting(callers, "user_b").record(0)


@pytest.mark.parametrize("service", [None, WRITER], ids=["itself", "through a service"])
def test_who_is_deleted_and_comes_back_has_no_new_room_for_request_ids(
    callers: Callers, identities: Identities, service: str | None
) -> None:
    setting = Setting(callers)
    session = setting.api if service is None else callers.service(service, user="clerk:user_a")
    usage = Usage(event_id="event", duration=Duration(seconds=1))

    def write(number: int) -> RecordUsageResponse:
        return session.usage.RecordUsage(RecordUsageRequest(usages=[usage], request_id=f"order-{number}"))

    def is_full(number: int) -> bool:
        failure = fails(write, number)
        return (failure.reason, failure.metadata["quota"]) == ("QUOTA_EXCEEDED", "request_ids")

    assert write(0).recorded_count == write(0).recorded_count == 1
    come_back(setting, identities)
    # One that was deleted counts as one more.
    answer = write(0)
    assert is_full(1)
    # The new user did not get the response of the one who was deleted.
    assert answer.duplicate_count == 1
    come_back(setting, identities)
    assert is_full(0)
    assert (
        orphans.remove(SYSTEM, next(rule for rule in orphans.rules(SYSTEM) if rule.name == "request_ids_of_users")) == 0
    )
    assert is_full(0)
    other = Setting(callers, "user_b").api
    assert other.usage.RecordUsage(RecordUsageRequest(usages=[usage], request_id="order-0")).recorded_count == 1
