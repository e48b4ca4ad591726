"""SelectionService, through its stub: what users selected, and which template holds for them."""

import time
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import StatusCode

from omniflo.templates.v1.selection_pb2 import Selection
from omniflo.templates.v1.selection_service_pb2 import (
    BatchResolveTemplatesRequest,
    DeleteSelectionRequest,
    GetSelectionRequest,
    ListSelectionsRequest,
    ResolutionReason,
    ResolveTemplateRequest,
    ResolveTemplateResponse,
    SetSelectionRequest,
    TemplateResolution,
)
from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import DeleteTemplateRequest, GetTemplateRequest, UpdateTemplateRequest
from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateTypeRequest
from omniflo.templates.v1.user_pb2 import User
from tests.conftest import Api, Database, fails
from tests.contract import samples
from tests.contract.walks import walk

pytestmark = pytest.mark.modes

SELECTED = ResolutionReason.RESOLUTION_REASON_SELECTED
DEFAULT = ResolutionReason.RESOLUTION_REASON_DEFAULT
VIEWS = TemplateView.values()
LARGE = "é" * 256_000

views = pytest.mark.parametrize("view", VIEWS, ids=TemplateView.keys())


def select(api: Api, user_id: str, template_type: str, template_id: str) -> Selection:
    request = SetSelectionRequest(user_id=user_id, template_type=template_type, template_id=template_id)
    return api.selections.SetSelection(request)


def get(api: Api, user: User, template_type: str) -> Selection:
    return api.selections.GetSelection(GetSelectionRequest(user_id=user.id, template_type=template_type))


def resolve(api: Api, user_id: str, template_type: str) -> ResolveTemplateResponse:
    return api.selections.ResolveTemplate(ResolveTemplateRequest(user_id=user_id, template_type=template_type))


def batch_resolve(
    api: Api, user_id: str, *types: str, view: TemplateView.ValueType = TemplateView.TEMPLATE_VIEW_UNSPECIFIED
) -> list[TemplateResolution]:
    request = BatchResolveTemplatesRequest(user_id=user_id, template_types=types, view=view)
    return list(api.selections.BatchResolveTemplates(request).results)


def in_view(api: Api, template: Template, view: TemplateView.ValueType) -> Template:
    return api.templates.GetTemplate(GetTemplateRequest(id=template.id, view=view))


def test_set_answers_the_selection_with_its_template(api: Api) -> None:
    user, template = api.user(), api.template()
    selection = select(api, user.id, template.template_type, template.id)
    assert selection.id
    assert selection.etag
    assert (selection.user_id, selection.template_type) == (user.id, template.template_type)
    assert selection.template_id == template.id
    assert selection.template == template
    assert get(api, user, template.template_type) == selection


def test_set_again_points_the_same_selection_at_another_template(api: Api) -> None:
    user, old = api.user(), api.template()
    new = api.template(template_type=old.template_type)
    before, after = api.select(user, old), api.select(user, new)
    assert (after.id, after.create_time) == (before.id, before.create_time)
    assert after.template == new
    assert after.etag != before.etag
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert get(api, user, old.template_type) == after


def test_set_the_same_again_changes_nothing(api: Api) -> None:
    user, template = api.user(), api.template()
    before = api.select(user, template)
    assert api.select(user, template) == before


def test_users_and_types_do_not_disturb_each_other(api: Api) -> None:
    user, other = api.user(), api.user()
    template = api.template()
    elsewhere = api.template()
    for_other = api.select(other, template)
    for_type = api.select(user, elsewhere)
    api.select(user, api.template(template_type=template.template_type))
    assert get(api, other, template.template_type) == for_other
    assert get(api, user, elsewhere.template_type) == for_type


@pytest.mark.parametrize(
    ("field", "reason", "key"),
    [
        ("user_id", "USER_NOT_FOUND", "id"),
        ("template_type", "TEMPLATE_TYPE_NOT_FOUND", "name"),
        ("template_id", "TEMPLATE_NOT_FOUND", "id"),
    ],
)
def test_set_names_what_does_not_exist(api: Api, field: str, reason: str, key: str) -> None:
    user, template = api.user(), api.template()
    names = {"user_id": user.id, "template_type": template.template_type, "template_id": template.id}
    failure = fails(select, api, **{**names, field: "none"})
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, reason)
    assert failure.metadata == {key: "none"}


def test_set_refuses_a_template_of_another_type_and_leaves_the_selection(api: Api) -> None:
    user, template = api.user(), api.template()
    other = api.template()
    before = api.select(user, template)
    failure = fails(select, api, user.id, template.template_type, other.id)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_TYPE_MISMATCH")
    assert failure.metadata == {"template_type": template.template_type}
    assert get(api, user, template.template_type) == before


@views
def test_every_method_answers_the_template_in_the_view_that_was_asked_for(
    api: Api, view: TemplateView.ValueType
) -> None:
    tool = api.tool(type=samples.FUNCTION, schema=samples.SCHEMA)
    template = api.template(template_type=tool.template_type, temperature=0.5, is_default=True)
    names: dict[str, Any] = {"user_id": api.user().id, "template_type": template.template_type}
    expected = in_view(api, template, view)
    default = api.selections.ResolveTemplate(ResolveTemplateRequest(view=view, **names))
    assert default == ResolveTemplateResponse(template=expected, reason=DEFAULT)
    request = SetSelectionRequest(template_id=template.id, view=view, **names)
    selection = api.selections.SetSelection(request)
    assert selection.template == expected
    assert api.selections.GetSelection(GetSelectionRequest(view=view, **names)) == selection
    listed = api.selections.ListSelections(ListSelectionsRequest(view=view, user_id=names["user_id"]))
    assert list(listed.selections) == [selection]
    resolved = api.selections.ResolveTemplate(ResolveTemplateRequest(view=view, **names))
    assert resolved == ResolveTemplateResponse(template=expected, reason=SELECTED)
    (result,) = batch_resolve(api, names["user_id"], template.template_type, view=view)
    assert result == TemplateResolution(template_type=template.template_type, resolved=resolved)


def test_a_selection_shows_its_template_as_it_is_now(api: Api) -> None:
    user, template = api.user(), api.template()
    before = api.select(user, template)
    request = UpdateTemplateRequest(template=Template(id=template.id, title="Another title"))
    changed = api.templates.UpdateTemplate(request)
    after = get(api, user, template.template_type)
    assert after.template == changed
    assert after.etag == before.etag


@pytest.mark.parametrize("missing", ["user_id", "template_type", "selection"])
def test_get_and_delete_say_when_nothing_is_selected(api: Api, missing: str) -> None:
    template = api.template(select=True)
    user_id = {"user_id": "none", "selection": api.user().id}.get(missing, template.user_id)
    template_type = "none" if missing == "template_type" else template.template_type
    get_ = GetSelectionRequest(user_id=user_id, template_type=template_type)
    delete = DeleteSelectionRequest(user_id=user_id, template_type=template_type)
    for failure in (fails(api.selections.GetSelection, get_), fails(api.selections.DeleteSelection, delete)):
        assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "SELECTION_NOT_FOUND")
        assert failure.metadata == {"user_id": user_id, "template_type": template_type}


def test_list_answers_the_selections_of_one_user_by_the_name_of_the_type(api: Api) -> None:
    user = api.user()
    selections = {}
    for name in ("b", "a", "a-b", "2"):
        api.types.CreateTemplateType(CreateTemplateTypeRequest(template_type=TemplateType(name=name)))
        template = api.template(template_type=name, select=True)
        selections[name] = api.select(user, template)
    listed = api.selections.ListSelections(ListSelectionsRequest(user_id=user.id))
    assert list(listed.selections) == [selections[name] for name in ("2", "a", "a-b", "b")]
    assert not listed.next_page_token


def test_list_tells_an_unknown_user_from_one_who_selected_nothing(api: Api) -> None:
    user = api.user()
    assert not api.selections.ListSelections(ListSelectionsRequest(user_id=user.id)).selections
    failure = fails(api.selections.ListSelections, ListSelectionsRequest(user_id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_pages_of_selections_end_before_3_mib_and_are_walked_to_the_end(api: Api) -> None:
    user = api.user()
    selections = [api.select(user, api.template(instructions=LARGE)).id for _ in range(8)]
    pages = list(walk(api.selections.ListSelections, ListSelectionsRequest(user_id=user.id)))
    assert sorted(selection.id for page in pages for selection in page.selections) == sorted(selections)
    assert len(pages) == 2
    assert max(page.ByteSize() for page in pages) <= 3 * 1024 * 1024


def test_delete_removes_the_selection_so_that_the_default_holds_again(api: Api) -> None:
    user, default = api.user(), api.template(is_default=True)
    selection = api.select(user, api.template(template_type=default.template_type))
    request = DeleteSelectionRequest(user_id=user.id, template_type=default.template_type, etag=selection.etag)
    assert api.selections.DeleteSelection(request) == Empty()
    assert resolve(api, user.id, default.template_type) == ResolveTemplateResponse(template=default, reason=DEFAULT)


def test_delete_with_a_stale_etag_leaves_the_selection(api: Api) -> None:
    user, template = api.user(), api.template()
    old = api.select(user, template)
    current = api.select(user, api.template(template_type=template.template_type))
    request = DeleteSelectionRequest(user_id=user.id, template_type=template.template_type, etag=old.etag)
    failure = fails(api.selections.DeleteSelection, request)
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
    assert failure.metadata == {"etag": current.etag}
    assert get(api, user, template.template_type) == current


def test_resolve_prefers_the_selection_to_the_default(api: Api) -> None:
    user, default = api.user(), api.template(is_default=True)
    template = api.template(template_type=default.template_type)
    assert resolve(api, user.id, default.template_type).template == default
    api.select(user, template)
    assert resolve(api, user.id, default.template_type) == ResolveTemplateResponse(template=template, reason=SELECTED)
    api.select(user, default)
    assert resolve(api, user.id, default.template_type) == ResolveTemplateResponse(template=default, reason=SELECTED)
    assert resolve(api, api.user().id, default.template_type).reason == DEFAULT


def test_resolve_falls_back_when_the_selected_template_is_deleted(api: Api) -> None:
    user, default = api.user(), api.template(is_default=True)
    template = api.template(template_type=default.template_type)
    api.select(user, template)
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    assert resolve(api, user.id, default.template_type).template == default


@pytest.mark.parametrize("has_template", [False, True])
def test_resolve_says_when_there_is_neither(api: Api, has_template: bool) -> None:
    user, template_type = api.user(), api.type().name
    if has_template:
        api.template(template_type=template_type, select=True)
    failure = fails(resolve, api, user.id, template_type)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "NO_TEMPLATE_RESOLVED")
    assert failure.metadata == {"user_id": user.id, "template_type": template_type}


def test_resolve_names_an_unknown_user_and_an_unknown_type(api: Api) -> None:
    user, template = api.user(), api.template(is_default=True)
    failure = fails(resolve, api, "none", template.template_type)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "none"}
    failure = fails(resolve, api, user.id, "none")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_NOT_FOUND")
    assert failure.metadata == {"name": "none"}


def test_batch_resolve_answers_each_type_in_the_order_asked_as_resolve_would(api: Api) -> None:
    user = api.user()
    selected, default = api.template(), api.template(is_default=True)
    api.select(user, selected)
    types = [selected.template_type, "none", default.template_type, api.type().name, selected.template_type, "NO\nNE"]
    results = batch_resolve(api, user.id, *types)
    assert [result.template_type for result in results] == types
    for result in results:
        if result.HasField("resolved"):
            assert result.resolved == resolve(api, user.id, result.template_type)
        else:
            failure = fails(resolve, api, user.id, result.template_type)
            assert (result.error.code, result.error.message) == (failure.code.value[0], failure.message)
            info = ErrorInfo()
            assert result.error.details[0].Unpack(info)
            assert len(result.error.details) == 1
            assert (info.reason, info.domain) == (failure.reason, "templates.omniflo")
            assert dict(info.metadata) == failure.metadata
    assert [result.WhichOneof("outcome") for result in results] == [
        *("resolved", "error", "resolved", "error", "resolved", "error")
    ]


def test_batch_resolve_names_an_unknown_user(api: Api) -> None:
    failure = fails(batch_resolve, api, "none", api.template(is_default=True).template_type, "none")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_batch_resolve_answers_100_types(api: Api) -> None:
    user, template = api.user(), api.template(is_default=True)
    assert len(batch_resolve(api, user.id, *[template.template_type] * 100)) == 100
    failure = fails(batch_resolve, api, user.id, *[template.template_type] * 101)
    assert list(failure.violations) == ["template_types"]


@views
def test_batch_resolve_says_how_many_of_the_first_fit(api: Api, view: TemplateView.ValueType) -> None:
    user, large = api.user(), api.template(instructions=LARGE, is_default=True).template_type
    types = ["none"] * 10 + [large] * 10
    if view == TemplateView.TEMPLATE_VIEW_SUMMARY:
        assert len(batch_resolve(api, user.id, *types, view=view)) == 20
        return
    failure = fails(batch_resolve, api, user.id, *types, view=view)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RESPONSE_TOO_LARGE")
    assert list(failure.metadata) == ["fitting"]
    fitting = int(failure.metadata["fitting"])
    assert 14 <= fitting <= 16, "some of them are large"
    assert len(batch_resolve(api, user.id, *types[:fitting], view=view)) == fitting
    failure = fails(batch_resolve, api, user.id, *types[: fitting + 1], view=view)
    assert failure.metadata == {"fitting": str(fitting)}


def test_a_batch_of_errors_with_the_longest_names_is_readable(api: Api) -> None:
    user = api.user()
    results = batch_resolve(api, user.id, *["\N{ROCKET}" * 64] * 100)
    assert {result.WhichOneof("outcome") for result in results} == {"error"}


def test_a_batch_of_one_is_held_to_3_mib_as_well(api: Api) -> None:
    template = api.template(
        instructions="\N{ROCKET}" * 256_000, template_type=samples.largest_type(api), is_default=True
    )
    full = TemplateView.TEMPLATE_VIEW_FULL
    request = ResolveTemplateRequest(user_id=template.user_id, template_type=template.template_type, view=full)
    assert api.selections.ResolveTemplate(request).template == in_view(api, template, full)
    failure = fails(batch_resolve, api, template.user_id, template.template_type, view=full)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RESPONSE_TOO_LARGE")
    assert failure.metadata == {"fitting": "0"}


def test_a_template_that_is_deleted_meanwhile_is_not_found(api: Api, database: Database) -> None:
    template, user = api.template(), api.user()
    other = Database(database.url)
    other.query("begin")
    other.query("delete from templates where id = %s", (template.id,))
    request = SetSelectionRequest(user_id=user.id, template_type=template.template_type, template_id=template.id)
    call = api.selections.SetSelection.future(request)
    waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    for _ in range(500):
        if database.query(waits) == [(1,)]:
            break
        time.sleep(0.01)
    other.query("commit")
    other.close()
    failure = fails(call.result)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert failure.metadata == {"id": template.id}
