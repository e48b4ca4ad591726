"""Revisions of templates and types: what was said can be read, compared, rendered and said again."""

import json
from hashlib import sha256
from typing import Any

import pytest
from grpc import StatusCode

from omniflo.templates.v1.model_service_pb2 import ReplaceModelRequest
from omniflo.templates.v1.template_pb2 import ReasoningEffort, Template, TemplateView
from omniflo.templates.v1.template_revision_pb2 import TemplateRevision
from omniflo.templates.v1.template_service_pb2 import (
    CreateTemplateRequest,
    DiffTemplateRevisionsRequest,
    DiffTemplateRevisionsResponse,
    GetTemplateRevisionRequest,
    ListTemplateRevisionsRequest,
    RenderTemplateRequest,
    RenderTemplateResponse,
    RestoreTemplateRevisionRequest,
    SetTemplateLabelRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import (
    DeleteTemplateToolRequest,
    GetTemplateTypeRequest,
    GetTemplateTypeRevisionRequest,
    ListTemplateTypeRevisionsRequest,
    UpdateTemplateToolRequest,
    UpdateTemplateTypeRequest,
)
from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from service.models.revisions import TEXTS, UNREVISED
from service.models.templates import Template as Row
from service.rendering import families
from tests.conftest import ADMIN, PLATFORM_ADMIN, WRITER, Api, Callers, Database, fails
from tests.contract import samples

FULL = TemplateView.TEMPLATE_VIEW_FULL
SUMMARY = TemplateView.TEMPLATE_VIEW_SUMMARY


def update(api: Api, template: Template, *, message: str = "", **fields: Any) -> Template:
    request = UpdateTemplateRequest(template=Template(id=template.id, **fields), message=message)
    return api.templates.UpdateTemplate(request)


def revision(api: Api, template: Template, number: int, **fields: Any) -> TemplateRevision:
    request = GetTemplateRevisionRequest(template_id=template.id, revision=number, **fields)
    return api.templates.GetTemplateRevision(request)


def revisions(api: Api, template: Template, **fields: Any) -> list[TemplateRevision]:
    request = ListTemplateRevisionsRequest(template_id=template.id, **fields)
    return list(api.templates.ListTemplateRevisions(request).template_revisions)


def render(api: Api, template: Template, **fields: Any) -> RenderTemplateResponse:
    return api.templates.RenderTemplate(RenderTemplateRequest(id=template.id, **fields))


def test_each_change_of_what_a_template_says_is_a_revision(api: Api) -> None:
    template = api.template(title="One", instructions="First.")
    assert template.revision == 1
    changed = update(api, template, title="Two", message="a better title")
    assert changed.revision == 2
    # Neither the same once more, nor what is no part of a revision.
    assert update(api, template, title="Two").revision == 2
    assert update(api, template, is_default=True).revision == 2
    last = update(api, template, instructions="Second.")
    newest, *older = revisions(api, template)
    assert [newest.revision, *(found.revision for found in older)] == [3, 2, 1]
    assert newest.template == last
    said = [(found.template.title, found.template.instructions, found.message) for found in older]
    assert said == [("Two", "First.", "a better title"), ("One", "First.", "")]
    for found in older:
        assert found == revision(api, template, found.revision)
        assert found.template_id == found.template.id == template.id
        # So that an old text is not written back by mistake.
        assert found.template.etag == ""
        assert found.template.is_default
    assert newest.create_time.ToNanoseconds() > older[0].create_time.ToNanoseconds()


def test_a_revision_says_all_that_was_written(api: Api) -> None:
    create: Any = samples.SAMPLES["CreateTemplate"](api)
    change: Any = samples.SAMPLES["UpdateTemplate"](api)
    create.select = False
    created = api.templates.CreateTemplate(create)
    change.template.id = created.id
    changed = api.templates.UpdateTemplate(change)
    diff = api.templates.DiffTemplateRevisions(
        DiffTemplateRevisionsRequest(template_id=created.id, from_revision=1, to_revision=2)
    )
    # Each of the fields that the samples write, but for those that are no part of a revision.
    written = {field.name for field, _ in change.template.ListFields()} - UNREVISED
    assert set(diff.fields) == written
    for name in written:
        assert getattr(diff.from_template, name) == getattr(created, name)
        assert getattr(diff.to_template, name) == getattr(changed, name)
    assert {field.name for field, _ in diff.from_template.ListFields()} <= written


def test_a_field_that_is_unset_in_one_revision_differs(api: Api) -> None:
    template = api.template()
    update(api, template, temperature=0.0)
    request = DiffTemplateRevisionsRequest(template_id=template.id, from_revision=1, to_revision=2)
    diff = api.templates.DiffTemplateRevisions(request)
    assert list(diff.fields) == ["temperature"]
    assert (diff.from_template.HasField("temperature"), diff.to_template.HasField("temperature")) == (False, True)
    request.from_revision = 2
    assert api.templates.DiffTemplateRevisions(request) == DiffTemplateRevisionsResponse()


@pytest.mark.parametrize("view", [SUMMARY, FULL], ids=TemplateView.Name)
def test_a_revision_comes_in_the_view_that_was_asked_for(api: Api, view: TemplateView.ValueType) -> None:
    template = api.template(instructions="First.")
    update(api, template, instructions="Second.")
    then = revision(api, template, 1, view=view).template
    assert then == revisions(api, template, view=view)[1].template
    assert then.instructions == ("" if view == SUMMARY else "First.")
    assert then.HasField("type_details") == then.HasField("model_details") == (view == FULL)


def test_a_revision_outlives_its_type_and_its_model(api: Api, database: Database) -> None:
    template = api.template()
    rendered = render(api, template)
    update(api, template, template_type=api.type().name, model=api.model().openai_id)
    database.query(
        "delete from template_types where name = %s; delete from openai_models where openai_id = %s",
        (template.template_type, template.model),
    )
    then = revision(api, template, 1, view=FULL).template
    assert (then.template_type, then.model) == (template.template_type, template.model)
    assert (then.HasField("type_details"), then.HasField("model_details")) == (False, False)
    assert render(api, template, revision=1, template_type_revision=1) == with_template(rendered, then)
    failure = fails(api.templates.RenderTemplate, RenderTemplateRequest(id=template.id, revision=1))
    assert (failure.reason, failure.metadata) == ("TEMPLATE_TYPE_NOT_FOUND", {"name": template.template_type})
    request = RestoreTemplateRevisionRequest(template_id=template.id, revision=1)
    failure = fails(api.templates.RestoreTemplateRevision, request)
    assert (failure.reason, failure.metadata) == ("TEMPLATE_TYPE_NOT_FOUND", {"name": template.template_type})


def with_template(rendered: RenderTemplateResponse, template: Template) -> RenderTemplateResponse:
    """Return the same rendering, with the template as it is shown now."""
    summary = Template()
    summary.CopyFrom(template)
    for name in ("instructions", "author"):
        summary.ClearField(name)
    changed = RenderTemplateResponse()
    changed.CopyFrom(rendered)
    changed.template.CopyFrom(summary)
    return changed


@pytest.mark.modes
def test_a_template_says_again_what_it_said(api: Api) -> None:
    template = api.template(instructions="First.", temperature=0.5)
    changed = update(api, template, instructions="Second.", reasoning_effort=ReasoningEffort.REASONING_EFFORT_LOW)
    stale = RestoreTemplateRevisionRequest(template_id=template.id, revision=1, etag=template.etag)
    failure = fails(api.templates.RestoreTemplateRevision, stale)
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
    request = RestoreTemplateRevisionRequest(
        template_id=template.id, revision=1, etag=changed.etag, message="it was better"
    )
    restored = api.templates.RestoreTemplateRevision(request).template
    assert (restored.revision, restored.instructions) == (3, "First.")
    assert (restored.temperature, restored.reasoning_effort) == (0.5, 0)
    assert revision(api, template, 3).message == "it was better"
    # What it says already is no new revision.
    request.etag = ""
    assert api.templates.RestoreTemplateRevision(request).template == restored


@pytest.mark.parametrize("number", [2, 2**63 - 1])
def test_a_revision_that_there_is_not_is_named(api: Api, number: int) -> None:
    template = api.template()
    stub = api.templates
    calls: list[tuple[Any, Any]] = [
        (stub.GetTemplateRevision, GetTemplateRevisionRequest(template_id=template.id, revision=number)),
        (stub.RestoreTemplateRevision, RestoreTemplateRevisionRequest(template_id=template.id, revision=number)),
        (stub.SetTemplateLabel, SetTemplateLabelRequest(template_id=template.id, label="staging", revision=number)),
        (stub.RenderTemplate, RenderTemplateRequest(id=template.id, revision=number)),
        (
            stub.DiffTemplateRevisions,
            DiffTemplateRevisionsRequest(template_id=template.id, from_revision=1, to_revision=number),
        ),
    ]
    for call, request in calls:
        failure = fails(call, request)
        assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_REVISION_NOT_FOUND")
        assert failure.metadata == {"id": template.id, "revision": str(number)}
    failure = fails(stub.RenderTemplate, RenderTemplateRequest(id=template.id, template_type_revision=number))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_REVISION_NOT_FOUND")
    assert failure.metadata == {"template_type": template.template_type, "revision": str(number)}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"revision": 1, "labels": ["staging"]}, "revision"),
        ({"revision": 1, "by_key": True}, "revision"),
        ({"template_type_revision": 1, "by_key": True}, "template_type_revision"),
        ({"revision": -1}, "revision"),
    ],
    ids=str,
)
def test_a_revision_is_for_one_template_and_not_beside_labels(api: Api, fields: dict[str, Any], named: str) -> None:
    template = api.template(is_default=True)
    by_key = fields.pop("by_key", False)
    key = {"user_id": template.user_id, "template_type": template.template_type}
    request = RenderTemplateRequest(**({"resolve": key} if by_key else {"id": template.id}), **fields)
    failure = fails(api.templates.RenderTemplate, request)
    assert failure.reason == "FIELD_INVALID"
    assert any(named in path + rule for path, rule in failure.violations.items())


def test_a_rendering_says_what_it_was_made_of(api: Api) -> None:
    template = update(api, api.template(), instructions="Second.")
    rendered = render(api, template)
    assert (rendered.revision, rendered.template_type_revision, rendered.label) == (2, 1, "")
    assert rendered.rendering_rules == families.rules()
    assert rendered.digest == sha256(rendered.responses_request.encode()).hexdigest()
    assert json.loads(rendered.responses_request)["metadata"] == {
        "template_id": template.id,
        "template_type": template.template_type,
        "template_revision": "2",
        "template_type_revision": "1",
    }


@pytest.mark.modes
def test_the_same_revisions_are_rendered_alike_whatever_happens(api: Api) -> None:
    template = api.template(instructions="Look 🔍 for it.", temperature=0.3)
    config = {"name": "look_up", "type": samples.FUNCTION, "schema": samples.SCHEMA, "description": "Looks."}
    tool = api.tool(template_type=template.template_type, **config)
    rendered = render(api, template)
    assert rendered.template_type_revision == 2
    update(api, template, instructions="No.", title="Other", temperature=1)
    api.types.UpdateTemplateTool(UpdateTemplateToolRequest(template_tool=TemplateTool(id=tool.id, name="other")))
    api.tool(template_type=template.template_type)
    api.templates.SetTemplateLabel(SetTemplateLabelRequest(template_id=template.id, label="production", revision=2))
    api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=tool.id))
    again = render(api, template, revision=1, template_type_revision=2)
    assert again.responses_request == rendered.responses_request
    assert (again.digest, again.adjustments) == (rendered.digest, rendered.adjustments)
    now = render(api, template)
    assert (now.revision, now.template_type_revision) == (2, 5)
    assert now.digest != rendered.digest
    # Each of the two alone, too.
    assert render(api, template, revision=1).template_type_revision == 5
    assert "look_up" in render(api, template, template_type_revision=2).responses_request


@pytest.mark.modes
def test_a_type_and_its_tools_have_one_number(api: Api) -> None:
    owner = api.type()
    tool = api.tool(template_type=owner.name, description="Before.")
    api.types.UpdateTemplateTool(
        UpdateTemplateToolRequest(template_tool=TemplateTool(id=tool.id, description="After."))
    )
    api.types.UpdateTemplateType(UpdateTemplateTypeRequest(template_type=TemplateType(id=owner.id, description="New.")))
    api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=tool.id))
    latest = api.types.GetTemplateType(GetTemplateTypeRequest(id=owner.id))
    assert latest.revision == 5
    request = ListTemplateTypeRevisionsRequest(template_type=owner.name)
    found = list(api.types.ListTemplateTypeRevisions(request).template_type_revisions)
    assert [each.revision for each in found] == [5, 4, 3, 2, 1]
    assert found[0].template_type == latest
    said = [(each.template_type.description, [tool.description for tool in each.template_type.tools]) for each in found]
    assert said == [("New.", []), ("New.", ["After."]), ("", ["After."]), ("", ["Before."]), ("", [])]
    for each in found:
        request_of_one = GetTemplateTypeRevisionRequest(template_type=owner.name, revision=each.revision)
        assert api.types.GetTemplateTypeRevision(request_of_one) == each
        assert (each.template_type_id, each.template_type.revision) == (owner.id, each.revision)
        assert bool(each.template_type.etag) == (each.revision == 5)
    failure = fails(
        api.types.GetTemplateTypeRevision, GetTemplateTypeRevisionRequest(template_type=owner.name, revision=6)
    )
    assert failure.reason == "TEMPLATE_TYPE_REVISION_NOT_FOUND"
    assert failure.metadata == {"template_type": owner.name, "revision": "6"}


def test_replacing_a_model_makes_revisions(api: Api) -> None:
    template = api.template()
    new = api.model().openai_id
    api.models.ReplaceModel(ReplaceModelRequest(old_openai_id=template.model, new_openai_id=new))
    newest, first = revisions(api, template)
    assert (newest.revision, newest.template.model, first.template.model) == (2, new, template.model)


def test_who_made_a_revision_is_kept(callers: Callers) -> None:
    admin, author = callers.user(PLATFORM_ADMIN), callers.user("user_author")
    body = Template(title="A title", instructions="Do.", template_type=admin.type().name, model=admin.model().openai_id)
    template = author.templates.CreateTemplate(CreateTemplateRequest(template=body, message="the first"))
    me = author.users.GetUser(GetUserRequest(clerk_id="user_author")).id
    update(admin, template, title="Another", message="by somebody else")
    update(callers.service(ADMIN), template, title="A third", message="by a program")
    update(callers.service(WRITER, user=me), template, title="A fourth")
    other = admin.users.GetUser(GetUserRequest(clerk_id=PLATFORM_ADMIN)).id
    assert [(found.author_id, found.actor, found.message) for found in revisions(author, template)] == [
        (me, f"service:{WRITER} for user:{me}", ""),
        ("", f"service:{ADMIN}", "by a program"),
        (other, f"user:{other}", "by somebody else"),
        (me, f"user:{me}", "the first"),
    ]
    (type_revision,) = admin.types.ListTemplateTypeRevisions(
        ListTemplateTypeRevisionsRequest(template_type=template.template_type)
    ).template_type_revisions
    assert (type_revision.author_id, type_revision.actor) == (other, f"user:{other}")


def test_what_is_no_part_of_a_revision_is_known_alike_here_and_in_the_database(api: Api, database: Database) -> None:
    api.template()
    ((says,),) = database.query("select says from template_revisions")
    known = {*Row.names()} - UNREVISED - TEXTS
    assert says.keys() == known | {"template_type", "model"}
