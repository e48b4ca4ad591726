"""Responses too large to be kept for a retry: it reads again what they showed, or is told that the write was done."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from omniflo.templates.v1.organization_pb2 import Member, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import UpdateMemberRequest
from omniflo.templates.v1.selection_service_pb2 import SetSelectionRequest
from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import UpdateTemplateTypeRequest
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ProvisionUserRequest
from service.actor import SYSTEM
from service.operations import idempotency, maintenance, quotas
from tests.conftest import PLATFORM_ADMIN, WRITER, Api, Callers, Database, Failure, fails
from tests.contract import samples
from tests.contract.methods import WRITES, Method
from tests.contract.tables import contents

KIB = 1024
LARGE = "x" * (200 * KIB)
MAY_BE_LARGE = {
    *("ProcessingRecord", "RestoreTemplateRevisionResponse", "Template", "Selection", "TemplateTool", "TemplateType"),
}
"""What a write returns that has a text or a list without a small bound."""
KEPT_WHOLE = [method for method in WRITES if method.descriptor.output_type.name not in MAY_BE_LARGE]
READ_AGAIN = [method for method in WRITES if method not in KEPT_WHOLE]

NAME = "{0.name}".format


def keyed(request: Message) -> Any:
    changed: Any = type(request)()
    changed.CopyFrom(request)
    changed.request_id = "order-17"
    return changed


def kept(database: Database) -> tuple[int | None, int | None, str | None]:
    """Return how many bytes of the one response are kept, how many of its digest, and the id."""
    ((response, digest, id),) = database.query(
        "select octet_length(response), octet_length(digest), resource_id from idempotency_keys"
        " where not starts_with(caller, 'deleted:')"
    )
    return response, digest, id


def assert_not_kept(failure: Failure, id: str) -> None:
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "ANSWER_NOT_KEPT")
    assert failure.metadata == {"id": id}


@pytest.fixture
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEEP_BYTES", -1)


@pytest.mark.usefixtures("_nothing_is_small")
@pytest.mark.parametrize("method", READ_AGAIN, ids=NAME)
def test_what_may_be_large_is_read_again(api: Api, database: Database, method: Method) -> None:
    request = keyed(samples.of(api, method))
    answer = method.on(api)(request)
    shown = answer.template if method.name == "RestoreTemplateRevision" else answer
    assert kept(database) == (None, 32, shown.id)
    before = contents(database)
    assert method.on(api)(request) == answer
    assert contents(database) == before


@pytest.mark.usefixtures("_nothing_is_small")
@pytest.mark.parametrize("method", KEPT_WHOLE, ids=NAME)
def test_what_is_small_or_for_administrators_alone_is_kept_whole(api: Api, database: Database, method: Method) -> None:
    request = keyed(samples.of(api, method))
    method.on(api)(request)
    response, digest, id = kept(database)
    assert response is not None
    assert (digest, id) == (None, None)


@pytest.mark.parametrize("view", [TemplateView.TEMPLATE_VIEW_FULL, TemplateView.TEMPLATE_VIEW_UNSPECIFIED])
def test_a_large_template_is_read_again_in_the_view_that_was_asked_for(
    api: Api, database: Database, view: TemplateView.ValueType
) -> None:
    template = api.template(instructions=LARGE)
    body = Template(id=template.id, title="After")
    request = UpdateTemplateRequest(template=body, view=view, request_id="order-17")
    updated = api.templates.UpdateTemplate(request)
    assert updated.HasField("author") == (view == TemplateView.TEMPLATE_VIEW_FULL)
    assert kept(database) == (None, 32, template.id)
    assert api.templates.UpdateTemplate(request) == updated


def test_up_to_64_kib_the_response_is_kept(api: Api, database: Database) -> None:
    template = api.template()
    sizes: dict[int, object] = {}
    # A time takes a byte less in a quarter of each second.
    for number in range(50):
        if len(sizes) == 2:
            break
        delta = number % 2
        database.query("delete from idempotency_keys")
        body = Template(id=template.id, instructions="x")
        size = api.templates.UpdateTemplate(UpdateTemplateRequest(template=body)).ByteSize()
        # A longer text needs two more bytes for its length; the etag stays as long as it is.
        body.instructions = "x" * (64 * KIB - size - 1 + delta)
        request = UpdateTemplateRequest(template=body, request_id=f"order-{number}")
        size = api.templates.UpdateTemplate(request).ByteSize()
        if size - 64 * KIB in {0, 1}:
            sizes[size] = kept(database)[:2]
    assert sizes == {64 * KIB: (64 * KIB, None), 64 * KIB + 1: (None, 32)}


def test_updates_of_nothing_take_little(api: Api, database: Database) -> None:
    template = api.template(instructions="x" * 250_000)
    for number in range(50):
        body = Template(id=template.id, title=template.title)
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, request_id=f"order-{number}"))
    ((size,),) = database.query("select sum(pg_column_size(t)) from idempotency_keys t")
    assert size < 50 * 1000


def _changed(api: Api, template: Template) -> None:
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id, title="Changed since")))


def _deleted(api: Api, template: Template) -> None:
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))


def _of_a_changed_type(api: Api, template: Template) -> None:
    request = GetTemplateRequest(id=template.id, view=TemplateView.TEMPLATE_VIEW_FULL)
    id = api.templates.GetTemplate(request).type_details.id
    api.types.UpdateTemplateType(UpdateTemplateTypeRequest(template_type=TemplateType(id=id, description="Changed")))


@pytest.mark.parametrize("change", [_changed, _deleted, _of_a_changed_type])
def test_what_has_changed_since_is_not_passed_off_as_the_response(api: Api, database: Database, change: Any) -> None:
    template = api.template(instructions=LARGE)
    request = UpdateTemplateRequest(
        template=Template(id=template.id, title="After"),
        view=TemplateView.TEMPLATE_VIEW_FULL,
        request_id="order-17",
    )
    api.templates.UpdateTemplate(request)
    change(api, template)
    before = contents(database)
    for _ in range(2):
        assert_not_kept(fails(api.templates.UpdateTemplate, request), template.id)
    assert contents(database) == before
    # It is still the one request of this id.
    request.template.title = "Another"
    assert fails(api.templates.UpdateTemplate, request).reason == "REQUEST_ID_REUSED"


def test_a_creation_whose_response_was_lost_is_found_by_its_id(api: Api) -> None:
    other = api.template()
    body = Template(title="A", instructions=LARGE, user_id=other.user_id, template_type=other.template_type)
    body.model = other.model
    request = CreateTemplateRequest(template=body, request_id="order-17")
    created = api.templates.CreateTemplate(request)
    _changed(api, created)
    failure = fails(api.templates.CreateTemplate, request)
    assert_not_kept(failure, created.id)
    assert api.templates.GetTemplate(GetTemplateRequest(id=failure.metadata["id"])).title == "Changed since"


def test_who_lost_the_right_is_told_nothing_of_it(api: Api, callers: Callers) -> None:
    program = callers.user("user_author")
    author = program.users.GetUser(GetUserRequest(clerk_id="user_author"))
    organization = api.organization()
    member = api.member(organization, author)
    template = api.template(user_id=author.id, organization_id=organization.id, instructions=LARGE)
    request = UpdateTemplateRequest(template=Template(id=template.id, title="After"), request_id="order-17")
    assert program.templates.UpdateTemplate(request) == program.templates.UpdateTemplate(request)
    viewer = Member(id=member.id, role=OrganizationRole.ORGANIZATION_ROLE_VIEWER)
    api.organizations.UpdateMember(UpdateMemberRequest(member=viewer))
    failure = fails(program.templates.UpdateTemplate, request)
    assert (failure.reason, failure.metadata) == ("PERMISSION_DENIED", {})
    _changed(api, template)
    failure = fails(program.templates.UpdateTemplate, request)
    assert (failure.reason, failure.metadata) == ("PERMISSION_DENIED", {})


def test_an_older_release_refuses_what_it_cannot_read(api: Api, database: Database) -> None:
    """It asks for the rights before it looks at the response, and knows none of this name."""
    template = api.template(instructions=LARGE)
    body = Template(id=template.id, title="After")
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, request_id="order-17"))
    ((rights,),) = database.query("select rights from idempotency_keys")
    assert rights[-1] == ["read_again"]


def test_request_ids_are_kept_for_24_hours(api: Api, database: Database) -> None:
    for number, hours in enumerate((23.9, 24.1)):
        request = keyed(samples.SAMPLES["CreateModel"](api))
        request.request_id = f"order-{number}"
        api.models.CreateModel(request)
        database.query(
            "update idempotency_keys set create_time = now() - make_interval(mins => %s) where request_id = %s",
            (int(60 * hours), request.request_id),
        )
    assert maintenance.purge_batch(SYSTEM) == 1
    assert database.query("select request_id from idempotency_keys") == [("order-0",)]


LIMIT = 5


@pytest.fixture
def _few_are_kept() -> Iterator[None]:
    before = quotas._Now.limits
    quotas.configure(before._replace(request_ids=LIMIT))
    idempotency.forget_room()
    yield
    quotas.configure(before)
    idempotency.forget_room()


def write(api: Api, user: User, number: int, template: Template) -> None:
    """Select what is selected, under a request id of its own."""
    request = SetSelectionRequest(
        user_id=user.id, template_type=template.template_type, template_id=template.id, request_id=f"order-{number}"
    )
    api.selections.SetSelection(request)


@pytest.mark.usefixtures("_few_are_kept")
def test_a_caller_has_room_for_so_many_request_ids(
    api: Api, callers: Callers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = api.template()
    program, other = callers.user("user_a"), callers.user("user_b")
    user, them = (
        caller.users.GetUser(GetUserRequest(clerk_id=name)) for caller, name in ((program, "user_a"), (other, "user_b"))
    )
    for number in range(LIMIT):
        write(program, user, number, template)
    for _ in range(2):
        failure = fails(write, program, user, LIMIT, template)
        assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert failure.metadata == {"quota": "request_ids", "limit": str(LIMIT), "count": str(LIMIT + 1)}
    # Retries are answered, writes without an id are done, and others have room of their own.
    write(program, user, 0, template)
    program.select(user, template)
    write(other, them, 0, template)
    # Services and administrators are the operator's.
    service = callers.service(WRITER)
    platform = callers.user(PLATFORM_ADMIN)
    me = platform.users.GetUser(GetUserRequest(clerk_id=PLATFORM_ADMIN))
    for number in range(LIMIT + 1):
        request = ProvisionUserRequest(clerk_id="user_c", request_id=f"order-{number}")
        service.users.ProvisionUser(request)
        write(platform, me, number, template)
    # Room that has come is found within a minute.
    database.query("delete from idempotency_keys where request_id = 'order-0'")
    assert fails(write, program, user, LIMIT, template).reason == "QUOTA_EXCEEDED"
    later = time.monotonic() + idempotency.FULL_SECONDS
    monkeypatch.setattr(idempotency, "_clock", lambda: later)
    write(program, user, LIMIT, template)
