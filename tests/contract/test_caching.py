"""Answers from the cache: the same as others, never older than they may be, and for the same rights."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyRequest
from omniflo.templates.v1.model_service_pb2 import ReplaceModelRequest, UpdateModelRequest
from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.organization_service_pb2 import CreateOrganizationRequest, RemoveMemberRequest
from omniflo.templates.v1.selection_service_pb2 import DeleteSelectionRequest, ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import Template, TemplateView, Variable
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    RenderTemplateRequest,
    ResolutionKey,
    SetTemplateLabelRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import DeleteTemplateToolRequest, UpdateTemplateTypeRequest
from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from service import tags
from service.actor import SYSTEM
from service.cache import watching
from service.config import Settings
from service.database import handle
from service.interceptors import consistency, logging
from service.models.templates import View
from service.operations import templates
from tests.conftest import TABLES, Api, Callers, Database, Failure, fails
from tests.contract import samples
from tests.contract.methods import METHODS
from tests.e2e.serving import eventually

pytestmark = [
    pytest.mark.modes,
    pytest.mark.skipif(Settings.load().cache_mb == 0, reason="OMNIFLO_CACHE_MB=0 keeps nothing"),
]

FULL = TemplateView.TEMPLATE_VIEW_FULL
STRONG = (("x-omniflo-consistency", "strong"),)


@pytest.fixture
def from_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """For each call since, whether its answer came from the cache."""
    answers: list[bool] = []
    add = logging.add

    def note(**fields: Any) -> None:
        if "caller" in fields:
            answers.append(False)
        if "cached" in fields:
            answers[-1] = True
        add(**fields)

    monkeypatch.setattr(logging, "add", note)
    yield answers
    assert answers, "nothing was called"


def test_a_rendering_with_variables_is_neither_kept_nor_answered_from_the_cache(
    api: Api, from_cache: list[bool]
) -> None:
    template = api.template(
        instructions="Do it in {{language}}.", variables=[Variable(name="language", default_value="English")]
    )
    plain = RenderTemplateRequest(id=template.id)
    warm(api.templates.RenderTemplate, plain, from_cache)
    with_variables = RenderTemplateRequest(id=template.id, variables={"language": "French"})
    for _ in range(3):
        assert "in French." in api.templates.RenderTemplate(with_variables).responses_request
        assert not from_cache[-1]
    # A change of an earlier test may still come, and what is kept goes with it.
    assert "in English." in str(warm(api.templates.RenderTemplate, plain, from_cache))


def warm(call: Callable[[Any], Message], request: Message, from_cache: list[bool]) -> Message:
    """Make the call until the cache has its answer."""
    answers: list[Message] = []

    def is_known() -> bool:
        answers.append(call(request))
        return from_cache[-1]

    eventually(is_known, within=5)
    return answers[-1]


class World:
    def __init__(self, api: Api) -> None:
        self.tool = api.tool(name="tool")
        self.template = api.template(template_type=self.tool.template_type, is_default=True, title="First")
        label = SetTemplateLabelRequest(template_id=self.template.id, label="production", revision=1)
        api.templates.SetTemplateLabel(label)
        body = Template(id=self.template.id, title="Before")
        self.template = api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
        self.user = self.template.user_id
        # Another one of the same type, to be selected.
        api.template(user_id=self.user, template_type=self.template.template_type, model=self.template.model)
        self.organization = api.organization(api.users.GetUser(GetUserRequest(id=self.user))).id

    def requests(self, api: Api) -> list[tuple[Callable[[Any], Message], Message]]:
        key = ResolutionKey(user_id=self.user, template_type=self.template.template_type)
        return [
            (api.templates.GetTemplate, GetTemplateRequest(id=self.template.id)),
            (api.templates.GetTemplate, GetTemplateRequest(id=self.template.id, view=FULL)),
            (api.templates.BatchGetTemplates, BatchGetTemplatesRequest(ids=[self.template.id], view=FULL)),
            (api.templates.RenderTemplate, RenderTemplateRequest(id=self.template.id)),
            (api.templates.RenderTemplate, RenderTemplateRequest(resolve=key)),
            (
                api.selections.ResolveTemplate,
                ResolveTemplateRequest(user_id=key.user_id, template_type=key.template_type, view=FULL),
            ),
            (
                api.selections.ResolveTemplate,
                ResolveTemplateRequest(
                    user_id=key.user_id, template_type=key.template_type, organization_id=self.organization
                ),
            ),
            (api.templates.GetTemplate, GetTemplateRequest(id=self.template.id, labels=["production"])),
            (api.templates.RenderTemplate, RenderTemplateRequest(resolve=key, labels=["production"])),
        ]


def test_an_answer_from_the_cache_is_the_answer(api: Api, from_cache: list[bool]) -> None:
    world = World(api)
    for call, request in world.requests(api):
        assert warm(call, request, from_cache) == call(request, metadata=STRONG)  # type: ignore[call-arg]
        assert not from_cache[-1]


def _retitled(api: Api, world: World) -> None:
    body = Template(id=world.template.id, title="After")
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))


def _replaced(api: Api, world: World) -> None:
    request = ReplaceModelRequest(old_openai_id=world.template.model, new_openai_id=api.model().openai_id)
    api.models.ReplaceModel(request)


@pytest.mark.parametrize("change", [_retitled, _replaced])
def test_a_writer_sees_its_write_at_once_everywhere(
    api: Api, from_cache: list[bool], change: Callable[[Api, World], None]
) -> None:
    world = World(api)
    before = [warm(call, request, from_cache) for call, request in world.requests(api)]
    change(api, world)
    after = [call(request) for call, request in world.requests(api)]
    assert after == [call(request, metadata=STRONG) for call, request in world.requests(api)]  # type: ignore[call-arg]
    assert all(
        # A label stays where it is.
        old != new or request.labels  # type: ignore[attr-defined]
        for old, new, (_, request) in zip(before, after, world.requests(api), strict=True)
    )


def test_every_write_shows_in_what_it_changes(api: Api, from_cache: list[bool]) -> None:
    world = World(api)
    (resolve, resolving), (render, rendering) = world.requests(api)[5], world.requests(api)[3]

    def resolved() -> Any:
        return resolve(resolving)

    for call, request in world.requests(api):
        warm(call, request, from_cache)
    api.types.UpdateTemplateType(
        UpdateTemplateTypeRequest(
            template_type=TemplateType(id=resolved().template.type_details.id, description="After.")
        )
    )
    assert resolved().template.type_details.description == "After."
    model = resolved().template.model_details
    model.name = "After"
    api.models.UpdateModel(UpdateModelRequest(model=model))
    assert resolved().template.model_details.name == "After"
    warm(render, rendering, from_cache)
    api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=world.tool.id))
    assert "tools" not in json.loads(render(rendering).responses_request)  # type: ignore[attr-defined]
    other = api.template(template_type=world.template.template_type, is_default=True)
    assert resolved().template.id == other.id
    warm(resolve, resolving, from_cache)
    user = api.users.GetUser(GetUserRequest(id=world.user))
    api.select(user, world.template)
    assert resolved().template.id == world.template.id
    warm(resolve, resolving, from_cache)
    key = DeleteSelectionRequest(user_id=world.user, template_type=world.template.template_type)
    api.selections.DeleteSelection(key)
    assert resolved().template.id == other.id
    warm(resolve, resolving, from_cache)
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=other.id))
    assert fails(resolve, resolving).reason == "NO_TEMPLATE_RESOLVED"


def test_a_write_by_hand_shows_soon(api: Api, database: Database, from_cache: list[bool]) -> None:
    world = World(api)
    call, request = world.requests(api)[0]
    warm(call, request, from_cache)
    database.query("update templates set title = 'By hand' where id = %s", (world.template.id,))
    assert call(request, metadata=STRONG).title == "By hand"  # type: ignore[call-arg,attr-defined]
    eventually(lambda: call(request).title == "By hand", within=5)  # type: ignore[attr-defined]
    database.query("truncate templates cascade")
    eventually(lambda: _is_gone(call, request), within=5)


# What each request shows of any row, as SQL by hand may change it: no trigger of a version, no API.
BY_HAND = {
    "the name of the type": "update template_types set name = 'renamed'",
    "the description of the type": "update template_types set description = 'By hand'",
    "the name of the model": "update openai_models set openai_id = 'gpt-renamed'",
    "the end of the model": "update openai_models set shutdown_date = current_date + 1",
    "the author": "update users set clerk_id = 'user_renamed'",
    "a tool": "update template_tools set description = 'By hand'",
    "the default": "update templates set is_default = false",
    "the instructions": "update templates set instructions = 'By hand'",
    "the selection": """
        insert into user_template_selections (id, user_id, template_type_id, template_id)
        select 'by-hand', user_id, template_type_id, id from templates where not is_default
        """,
    "a selection of a revision": """
        insert into user_template_selections (id, user_id, template_type_id, template_id, revision)
        select 'by-hand', user_id, template_type_id, id, 1 from templates where is_default
        """,
    "a label": """update templates set labels = '{"production": 2}' where is_default""",
    "the membership": "delete from organization_members",
    "the state of its assistant": """
        insert into assistants (template_id, epoch, state) select id, epoch, 'failed' from templates, registry
        """,
}


@pytest.mark.parametrize("change", BY_HAND)
def test_nothing_that_a_response_shows_is_stale_for_long(
    api: Api, database: Database, from_cache: list[bool], change: str
) -> None:
    world = World(api)
    before = [warm(call, request, from_cache) for call, request in world.requests(api)]
    database.query(BY_HAND[change])
    # What is promised of SQL by hand; the log is read every quarter of a second.
    time.sleep(0.5)
    after = []
    for call, request in world.requests(api):
        # The read of the cache comes first: a strong one would tell the cache of what it has seen.
        after.append(outcome(call, request))
        assert after[-1] == outcome(call, request, metadata=STRONG), request
    assert before != after


def test_what_every_cached_method_reads_is_changed_by_hand(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(api)
    read: set[str] = set()

    def noting(execute: Callable[..., Any]) -> Callable[..., Any]:
        def note(sql: str, *parameters: Any) -> Any:
            read.update(re.findall(r"\b(?:from|join) \(?(\w+)", sql))
            return execute(sql, *parameters)

        return note

    for name in ("execute_sql", "execute_prepared"):
        monkeypatch.setattr(handle.database, name, noting(getattr(handle.database, name)))
    made = set()
    for call, request in world.requests(api):
        call(request, metadata=STRONG)  # type: ignore[call-arg]
        made.add(type(request).__name__.removesuffix("Request"))
    assert made == {path.rpartition("/")[2] for path in consistency.METHODS}, "add one to World.requests"
    changed = set(re.findall(r"(?:update|insert into|delete from) (\w+)", " ".join(BY_HAND.values())))
    assert read & set(TABLES.split(", ")) <= changed, "add a change of the table to BY_HAND"


@pytest.mark.parametrize("view", View)
def test_a_read_notes_the_state_of_every_row_that_it_shows(api: Api, database: Database, view: View) -> None:
    template = api.template()
    changes = {"template": "the instructions", "type": "the name of the type", "model": "the name of the model"}
    for kind, change in changes.items():
        with watching() as before:
            templates.get(SYSTEM, template.id, view=view)
        database.query(BY_HAND[change])
        with watching() as after:
            templates.get(SYSTEM, template.id, view=view)
        assert [tag.partition(":")[0] for tag in after if before.get(tag) != after[tag]] == [kind]
    assert (tags.user(template.user_id) in after) == (view is View.FULL)


def outcome(call: Callable[..., Any], request: Message, **options: Any) -> Any:
    """Return the response, or the reason of the refusal."""
    try:
        return call(request, **options)
    except grpc.RpcError as error:
        return Failure(error).reason


@pytest.mark.parametrize("path", sorted(consistency.METHODS))
def test_every_method_that_is_cached_is_answered_from_the_cache(api: Api, from_cache: list[bool], path: str) -> None:
    (method,) = [method for method in METHODS if method.path == path]
    warm(method.on(api), samples.of(api, method), from_cache)


def _is_gone(call: Callable[[Any], Message], request: Message) -> bool:
    try:
        call(request)
    except grpc.RpcError as error:
        return bool(error.code() == StatusCode.NOT_FOUND)
    return False


def test_an_error_is_not_kept(api: Api, from_cache: list[bool]) -> None:
    template = api.template()
    request = ResolveTemplateRequest(user_id=template.user_id, template_type=template.template_type)
    for _ in range(3):
        assert fails(api.selections.ResolveTemplate, request).reason == "NO_TEMPLATE_RESOLVED"
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id, is_default=True)))
    assert api.selections.ResolveTemplate(request).template.id == template.id
    assert not any(from_cache)


def test_a_consistency_that_is_unknown_is_refused_by_its_name(api: Api) -> None:
    template = api.template()
    request = GetTemplateRequest(id=template.id)
    for metadata in ([("x-omniflo-consistency", "weak")], [("x-omniflo-consistency", "strong")] * 2):
        failure = fails(api.templates.GetTemplate, request, metadata=metadata)
        assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert list(failure.violations) == ["x-omniflo-consistency"]


def test_what_one_caller_may_read_is_not_answered_to_another(callers: Callers, from_cache: list[bool]) -> None:
    admin, member, other = (
        callers.user("user_platform_admin"),
        callers.user("cache_member"),
        callers.user("cache_other"),
    )
    organization = member.organizations.CreateOrganization(
        CreateOrganizationRequest(organization=Organization(name="House"))
    )
    body = Template(title="Secret", instructions="Do it.", organization_id=organization.id)
    body.template_type, body.model = admin.type().name, admin.model().openai_id
    me = member.users.GetUser(GetUserRequest(clerk_id="cache_member"))
    template = member.template(
        **{field.name: value for field, value in body.ListFields()}, user_id=me.id, is_default=True
    )
    request = GetTemplateRequest(id=template.id)
    warm(member.templates.GetTemplate, request, from_cache)
    limited = ApiKey(name="limited", scope=ApiKeyScope.API_KEY_SCOPE_READ, organization_id=organization.id)
    key = callers.bearing(member.keys.CreateApiKey(CreateApiKeyRequest(api_key=limited)).secret)
    warm(key.templates.GetTemplate, request, from_cache)
    for stranger in (other, callers.service("spiffe://mesh/reader")):
        assert fails(stranger.templates.GetTemplate, request).reason == "TEMPLATE_NOT_FOUND"

    them = other.users.GetUser(GetUserRequest(clerk_id="cache_other"))
    membership = other.accept(member.invitation(organization, them, "VIEWER"))
    resolving = ResolveTemplateRequest(template_type=template.template_type, organization_id=organization.id)
    warm(other.templates.GetTemplate, request, from_cache)
    warm(other.selections.ResolveTemplate, resolving, from_cache)
    member.organizations.RemoveMember(RemoveMemberRequest(id=membership.id))
    assert fails(other.templates.GetTemplate, request).reason == "TEMPLATE_NOT_FOUND"
    assert fails(other.selections.ResolveTemplate, resolving).reason == "ORGANIZATION_NOT_FOUND"
    assert member.templates.GetTemplate(request) == template
