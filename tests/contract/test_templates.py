"""TemplateService, through its stub. Defaults, and finding templates, have files of their own."""

import math
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from omniflo.templates.v1.model_service_pb2 import GetModelRequest
from omniflo.templates.v1.selection_service_pb2 import GetSelectionRequest
from omniflo.templates.v1.template_pb2 import AssistantState, ReasoningEffort, Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_service_pb2 import GetTemplateTypeRequest
from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from tests.conftest import Api, Failure, fails
from tests.contract import samples

pytestmark = pytest.mark.modes

BASIC = TemplateView.TEMPLATE_VIEW_UNSPECIFIED
SUMMARY = TemplateView.TEMPLATE_VIEW_SUMMARY
FULL = TemplateView.TEMPLATE_VIEW_FULL
LARGE = "é" * 256_000


def get(api: Api, template: Template, view: TemplateView.ValueType = BASIC) -> Template:
    return api.templates.GetTemplate(GetTemplateRequest(id=template.id, view=view))


def update(api: Api, template: Template, *paths: str, **fields: Any) -> Template:
    body = Template(id=template.id, **fields)
    return api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, update_mask=FieldMask(paths=paths)))


def batch_get(api: Api, *ids: str, view: TemplateView.ValueType = BASIC) -> list[Template]:
    return list(api.templates.BatchGetTemplates(BatchGetTemplatesRequest(ids=ids, view=view)).templates)


def in_view(api: Api, template: Template, view: TemplateView.ValueType) -> Template:
    """Answer what a template, which is as the unspecified view shows it, is in another view."""
    expected = Template()
    expected.CopyFrom(template)
    if view == SUMMARY:
        expected.instructions = ""
    if view == FULL:
        expected.author.CopyFrom(api.users.GetUser(GetUserRequest(id=template.user_id)))
        type_ = api.types.GetTemplateType(GetTemplateTypeRequest(name=template.template_type))
        expected.type_details.CopyFrom(type_)
        expected.model_details.CopyFrom(api.models.GetModel(GetModelRequest(openai_id=template.model)))
    return expected


def assert_invalid(failure: Failure, *names: str) -> None:
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(failure.violations) == {f"template.{name}" for name in names}


def everything(api: Api) -> Template:
    """Create a template with every field set, of a type with tools."""
    tool = api.tool(type=samples.FUNCTION, schema=samples.SCHEMA)
    api.tool(template_type=tool.template_type)
    return api.template(
        title="Export",
        description="Writes what was found.",
        instructions="Read, then write.",
        template_type=tool.template_type,
        is_default=True,
        temperature=0.25,
        reasoning_effort=ReasoningEffort.REASONING_EFFORT_MEDIUM,
    )


def test_create_answers_the_template_as_it_was_sent(api: Api) -> None:
    user, model = api.user(), api.model()
    body = Template(
        title="Export",
        description="Writes what was found.",
        instructions="Read,\r\n\tthen write. ",
        user_id=user.id,
        template_type=api.type().name,
        is_default=True,
        model=model.openai_id,
        temperature=0.1,
        reasoning_effort=ReasoningEffort.REASONING_EFFORT_XHIGH,
    )
    created = api.templates.CreateTemplate(CreateTemplateRequest(template=body))
    assert created.id
    assert created.etag
    assert created.create_time.ToNanoseconds() > 0
    body.id, body.etag, body.assistant_state = created.id, created.etag, AssistantState.ASSISTANT_STATE_NONE
    body.create_time.CopyFrom(created.create_time)
    body.update_time.CopyFrom(created.update_time)
    body.revision = 1
    assert created == body
    assert get(api, created) == created


def test_what_is_not_given_is_left_to_the_model(api: Api) -> None:
    created = api.template()
    assert not created.HasField("temperature")
    assert created.reasoning_effort == ReasoningEffort.REASONING_EFFORT_UNSPECIFIED
    assert created.description == ""
    assert created.is_default is False
    assert created.assistant_id == ""


def test_create_wants_what_is_required(api: Api) -> None:
    failure = fails(api.templates.CreateTemplate, CreateTemplateRequest(template=Template(description="Empty.")))
    assert_invalid(failure, "title", "instructions", "template_type", "model")
    assert set(failure.violations.values()) == {"is required"}
    body = Template(title="A title", instructions="Do it.", template_type=api.type().name, model=api.model().openai_id)
    assert_invalid(fails(api.templates.CreateTemplate, CreateTemplateRequest(template=body)), "user_id")


@pytest.mark.parametrize(
    ("field", "reason", "key"),
    [
        ("user_id", "USER_NOT_FOUND", "id"),
        ("template_type", "TEMPLATE_TYPE_NOT_FOUND", "name"),
        ("model", "MODEL_NOT_FOUND", "openai_id"),
    ],
)
def test_create_names_what_does_not_exist_and_leaves_no_trace(api: Api, field: str, reason: str, key: str) -> None:
    old = api.template(is_default=True, select=True)
    fields = {"user_id": old.user_id, "template_type": old.template_type, "model": old.model}
    failure = fails(api.template, select=True, is_default=True, **{**fields, field: "none"})
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, reason)
    assert failure.metadata == {key: "none"}
    assert list(api.templates.ListTemplates(ListTemplatesRequest()).templates) == [old]


@pytest.mark.parametrize("temperature", [0.0, 0.1, 1e-300, 1.0, 1.9999999999999998, 2.0])
def test_a_temperature_is_kept_to_the_bit(api: Api, temperature: float) -> None:
    created = api.template(temperature=temperature)
    assert created.HasField("temperature")
    assert created.temperature == temperature
    assert get(api, created) == created


@pytest.mark.parametrize("temperature", [-5e-324, -0.1, 2.0000000000000004, 100.0, math.nan, math.inf, -math.inf])
def test_another_temperature_is_refused(api: Api, temperature: float) -> None:
    assert_invalid(fails(api.template, temperature=temperature), "temperature")
    template = api.template(temperature=1.0)
    assert_invalid(fails(update, api, template, temperature=temperature), "temperature")
    assert get(api, template) == template


@pytest.mark.parametrize("effort", ReasoningEffort.values())
def test_every_effort_is_kept(api: Api, effort: ReasoningEffort.ValueType) -> None:
    created = api.template(reasoning_effort=effort)
    assert created.reasoning_effort == effort
    assert get(api, created) == created


def test_select_makes_the_new_template_the_selection_of_its_author(api: Api) -> None:
    old = api.template(select=True)
    other = api.template(template_type=old.template_type, select=True)
    new = api.template(template_type=old.template_type, user_id=old.user_id, select=True)
    request = GetSelectionRequest(user_id=old.user_id, template_type=old.template_type)
    assert api.selections.GetSelection(request).template == new
    request.user_id = other.user_id
    assert api.selections.GetSelection(request).template_id == other.id


def test_without_select_nothing_is_selected(api: Api) -> None:
    template = api.template(is_default=True)
    request = GetSelectionRequest(user_id=template.user_id, template_type=template.template_type)
    assert fails(api.selections.GetSelection, request).reason == "SELECTION_NOT_FOUND"


@pytest.mark.parametrize("view", [BASIC, SUMMARY, FULL])
def test_every_method_answers_in_the_view_that_was_asked_for(api: Api, view: TemplateView.ValueType) -> None:
    template = everything(api)
    expected = in_view(api, template, view)
    assert get(api, template, view) == expected
    assert batch_get(api, template.id, view=view) == [expected]
    assert list(api.templates.ListTemplates(ListTemplatesRequest(view=view)).templates) == [expected]
    same = UpdateTemplateRequest(template=Template(id=template.id), view=view)
    assert api.templates.UpdateTemplate(same) == expected
    create = CreateTemplateRequest(template=template, view=view)
    create.template.is_default = False
    created = api.templates.CreateTemplate(create)
    assert created == in_view(api, get(api, created), view)


def test_what_was_read_in_full_can_be_sent_back(api: Api) -> None:
    template = everything(api)
    request = UpdateTemplateRequest(template=get(api, template, FULL))
    assert api.templates.UpdateTemplate(request) == template


def test_the_largest_template_is_answered_to_a_client_with_default_limits(api: Api) -> None:
    template = api.template(
        title="\N{ROCKET}" * 256,
        description="\N{ROCKET}" * 2000,
        instructions="\N{ROCKET}" * 256_000,
        template_type=samples.largest_type(api),
    )
    full = get(api, template, FULL)
    assert full.instructions == template.instructions
    assert len(full.type_details.tools) == 128
    listed = api.templates.ListTemplates(ListTemplatesRequest(view=FULL))
    assert list(listed.templates) == [full]
    assert not listed.next_page_token


def test_get_names_an_unknown_id(api: Api) -> None:
    failure = fails(get, api, Template(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


@pytest.mark.parametrize("view", [BASIC, SUMMARY, FULL])
def test_batch_get_answers_in_the_order_asked_also_twice(api: Api, view: TemplateView.ValueType) -> None:
    templates = {template.id: in_view(api, template, view) for template in (api.template() for _ in range(3))}
    first, second, third = templates
    asked = [third, first, second, third]
    assert batch_get(api, *asked, view=view) == [templates[id] for id in asked]


def test_batch_get_answers_100(api: Api) -> None:
    template = api.template()
    assert batch_get(api, *[template.id] * 100) == [template] * 100
    failure = fails(batch_get, api, *[template.id] * 101)
    assert list(failure.violations) == ["ids"]


def test_batch_get_names_the_missing_in_the_order_asked(api: Api) -> None:
    template = api.template()
    failure = fails(batch_get, api, "none-2", template.id, "none-1")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert failure.metadata == {"ids": "none-2,none-1"}


def test_batch_get_names_20_of_the_missing_at_most(api: Api) -> None:
    failure = fails(batch_get, api, *[f"none-{number}" for number in range(100)])
    assert failure.metadata == {"ids": ",".join(f"none-{number}" for number in range(20))}


def test_an_error_with_many_long_ids_stays_within_4_kib(api: Api) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        batch_get(api, *["\N{ROCKET}" * 64] * 100)
    call: Any = caught.value
    assert call.code() == StatusCode.NOT_FOUND
    (details,) = [entry.value for entry in call.trailing_metadata() if entry.key == "grpc-status-details-bin"]
    assert len(details) <= 4096


@pytest.mark.parametrize("view", [BASIC, FULL])
def test_batch_get_says_how_many_of_the_first_fit(api: Api, view: TemplateView.ValueType) -> None:
    small = api.template()
    large = api.template(instructions=LARGE, template_type=small.template_type)
    ids = [small.id] * 10 + [large.id] * 10
    failure = fails(batch_get, api, *ids, view=view)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RESPONSE_TOO_LARGE")
    assert list(failure.metadata) == ["fitting"]
    fitting = int(failure.metadata["fitting"])
    assert 14 <= fitting <= 16, "some of them are large"
    assert [found.id for found in batch_get(api, *ids[:fitting], view=view)] == ids[:fitting]
    assert fails(batch_get, api, *ids[: fitting + 1], view=view).metadata == {"fitting": str(fitting)}
    assert len(batch_get(api, *ids, view=SUMMARY)) == 20


def test_batch_get_names_the_missing_also_when_the_others_are_too_large(api: Api) -> None:
    large = api.template(instructions=LARGE)
    assert fails(batch_get, api, *[large.id] * 10, "none").metadata == {"ids": "none"}


def test_update_writes_every_writable_field(api: Api) -> None:
    before = api.template()
    type_, model = api.type(), api.model()
    after = update(
        api,
        before,
        title="Import",
        description="Another purpose.",
        instructions="Do the opposite.",
        template_type=type_.name,
        is_default=True,
        model=model.openai_id,
        temperature=2.0,
        reasoning_effort=ReasoningEffort.REASONING_EFFORT_NONE,
        etag=before.etag,
    )
    assert (after.title, after.description, after.instructions) == ("Import", "Another purpose.", "Do the opposite.")
    assert (after.template_type, after.model, after.is_default) == (type_.name, model.openai_id, True)
    assert (after.temperature, after.reasoning_effort) == (2.0, ReasoningEffort.REASONING_EFFORT_NONE)
    assert (after.id, after.user_id, after.create_time) == (before.id, before.user_id, before.create_time)
    assert get(api, before) == after


def test_a_mask_unsets_what_is_left_to_the_model(api: Api) -> None:
    after = update(api, everything(api), "temperature", "reasoning_effort", "description")
    assert not after.HasField("temperature")
    assert after.reasoning_effort == ReasoningEffort.REASONING_EFFORT_UNSPECIFIED
    assert after.description == ""
    assert after.title == "Export"


def test_a_temperature_of_0_is_written_without_a_mask(api: Api) -> None:
    after = update(api, api.template(temperature=1.0), temperature=0.0)
    assert after.HasField("temperature")
    assert after.temperature == 0.0


@pytest.mark.parametrize(
    ("field", "reason", "key"),
    [("template_type", "TEMPLATE_TYPE_NOT_FOUND", "name"), ("model", "MODEL_NOT_FOUND", "openai_id")],
)
@pytest.mark.parametrize("is_default", [False, True])
def test_update_names_what_does_not_exist_and_writes_nothing(
    api: Api, field: str, reason: str, key: str, is_default: bool
) -> None:
    old = api.template(is_default=True)
    template = api.template(template_type=old.template_type)
    fields = {"title": "Another title", "is_default": is_default, field: "none"}
    failure = fails(update, api, template, **fields)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, reason)
    assert failure.metadata == {key: "none"}
    assert get(api, template) == template
    assert get(api, old) == old


@pytest.mark.parametrize("fields", [{"title": "Another"}, {"is_default": True}, {"model": "gpt"}, {"temperature": 1.0}])
def test_update_names_an_unknown_id(api: Api, fields: dict[str, Any]) -> None:
    if "model" in fields:
        fields = {"model": api.model().openai_id}
    failure = fails(update, api, Template(id="none"), **fields)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_the_type_of_a_selected_template_cannot_change(api: Api) -> None:
    template = api.template(select=True, is_default=True)
    for _ in range(2):
        api.select(api.user(), template)
    other = api.template(is_default=True)
    for fields in ({}, {"is_default": True}, {"title": "Another title"}):
        failure = fails(update, api, template, template_type=other.template_type, **fields)
        assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_SELECTED")
        assert failure.metadata == {"selections": "3"}
        assert get(api, template) == template
        assert get(api, other) == other


def test_a_selected_template_may_be_sent_with_the_type_it_has(api: Api) -> None:
    template = api.template(select=True)
    after = update(api, template, title="Another title", template_type=template.template_type)
    assert after.title == "Another title"


def test_the_type_of_a_template_that_nobody_selected_can_change(api: Api) -> None:
    template = api.template(select=True)
    user = api.users.GetUser(GetUserRequest(id=template.user_id))
    api.select(user, api.template(template_type=template.template_type))
    other = api.type().name
    assert update(api, template, template_type=other).template_type == other


def test_delete_takes_the_selections_along(api: Api) -> None:
    template = api.template(select=True)
    user = api.user()
    api.select(user, template)
    request = DeleteTemplateRequest(id=template.id, etag=template.etag)
    assert api.templates.DeleteTemplate(request) == Empty()
    assert fails(get, api, template).reason == "TEMPLATE_NOT_FOUND"
    for user_id in (user.id, template.user_id):
        request_ = GetSelectionRequest(user_id=user_id, template_type=template.template_type)
        assert fails(api.selections.GetSelection, request_).reason == "SELECTION_NOT_FOUND"


def test_delete_names_an_unknown_id(api: Api) -> None:
    failure = fails(api.templates.DeleteTemplate, DeleteTemplateRequest(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert failure.metadata == {"id": "none"}
