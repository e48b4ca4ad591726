"""Labels: names on revisions, that callers ask for, and selections that stay on one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import RpcError, StatusCode

from omniflo.templates.v1.change_pb2 import Change, ChangeKind
from omniflo.templates.v1.change_service_pb2 import ListChangesRequest
from omniflo.templates.v1.selection_service_pb2 import (
    BatchResolveTemplatesRequest,
    GetSelectionRequest,
    ListSelectionsRequest,
    ResolveTemplateRequest,
    SetSelectionRequest,
)
from omniflo.templates.v1.template_pb2 import Template, TemplateLabel, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    BatchRenderTemplatesRequest,
    CreateTemplateRequest,
    DeleteTemplateLabelRequest,
    GetTemplateRequest,
    ListTemplateRevisionsRequest,
    RenderTemplateRequest,
    ResolutionKey,
    SetTemplateLabelRequest,
    UpdateTemplateRequest,
)
from service.config import Settings
from service.operations import protected_labels
from tests.conftest import PLATFORM_ADMIN, Api, Callers, Failure, fails
from tests.scale import EDITS

CLIENTS = 16
FULL = TemplateView.TEMPLATE_VIEW_FULL


def label(api: Api, template: Template, name: str, revision: int, **fields: Any) -> TemplateLabel:
    request = SetTemplateLabelRequest(template_id=template.id, label=name, revision=revision, **fields)
    return api.templates.SetTemplateLabel(request)


def get(api: Api, template: Template, *labels: str) -> Template:
    return api.templates.GetTemplate(GetTemplateRequest(id=template.id, labels=labels))


def revised(api: Api, revisions: int = 3, **fields: Any) -> Template:
    """Create a template whose instructions are the number of its revision."""
    template = api.template(instructions="1", **fields)
    for number in range(2, revisions + 1):
        body = Template(id=template.id, instructions=str(number))
        template = api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
    return template


def test_a_label_is_on_one_revision_and_is_moved(api: Api) -> None:
    template = revised(api)
    assert label(api, template, "production", 1) == TemplateLabel(label="production", revision=1)
    label(api, template, "staging", 2)
    found = get(api, template)
    assert [(each.label, each.revision) for each in found.labels] == [("production", 1), ("staging", 2)]
    assert (found.revision, found.label, found.instructions) == (3, "", "3")
    # Another version, as by every change.
    assert found.etag not in {"", template.etag}
    label(api, template, "production", 2)
    assert {each.revision for each in get(api, template).labels} == {2}
    request = DeleteTemplateLabelRequest(template_id=template.id, label="staging")
    assert api.templates.DeleteTemplateLabel(request) == Empty()
    failure = fails(api.templates.DeleteTemplateLabel, request)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "LABEL_NOT_FOUND")
    assert [each.label for each in get(api, template).labels] == ["production"]


@pytest.mark.modes
@pytest.mark.parametrize(
    ("labels", "revision", "found"),
    [
        (["production"], 1, "production"),
        (["staging"], 2, "staging"),
        (["canary", "staging", "production"], 2, "staging"),
        (["latest"], 3, "latest"),
        (["canary", "latest", "production"], 3, "latest"),
        ([], 3, ""),
        (["canary"], None, ""),
    ],
    ids=str,
)
def test_the_first_label_that_a_template_has_counts(
    api: Api, labels: list[str], revision: int | None, found: str
) -> None:
    template = revised(api, is_default=True)
    label(api, template, "production", 1)
    label(api, template, "staging", 2)
    user, type_ = template.user_id, template.template_type
    key = ResolutionKey(user_id=user, template_type=type_)
    resolve: dict[str, Any] = {"user_id": user, "template_type": type_, "labels": labels}
    batch: dict[str, Any] = {"user_id": user, "template_types": [type_], "labels": labels}
    calls: list[tuple[Any, Any]] = [
        (api.templates.GetTemplate, GetTemplateRequest(id=template.id, labels=labels)),
        (api.templates.GetTemplate, GetTemplateRequest(id=template.id, labels=labels, view=FULL)),
        (api.templates.BatchGetTemplates, BatchGetTemplatesRequest(ids=[template.id], labels=labels)),
        (api.templates.RenderTemplate, RenderTemplateRequest(id=template.id, labels=labels)),
        (api.templates.RenderTemplate, RenderTemplateRequest(resolve=key, labels=labels)),
        (api.templates.BatchRenderTemplates, BatchRenderTemplatesRequest(**batch)),
        (api.selections.ResolveTemplate, ResolveTemplateRequest(**resolve)),
        (api.selections.BatchResolveTemplates, BatchResolveTemplatesRequest(**batch)),
    ]
    for call, request in calls:
        if revision is None and "Batch" not in type(request).__name__.replace("BatchGet", ""):
            failure = fails(call, request)
            assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "LABEL_NOT_FOUND")
            assert failure.metadata == {"id": template.id, "labels": "canary"}
            continue
        answer: Any = call(request)
        if hasattr(answer, "results"):
            (answer,) = answer.results
            if revision is None:
                assert answer.error.code == StatusCode.NOT_FOUND.value[0]
                continue
            answer = getattr(answer, answer.WhichOneof("outcome"))
        shown = answer.templates[0] if hasattr(answer, "templates") else getattr(answer, "template", answer)
        assert (shown.revision, shown.label) == (revision, found)
        assert bool(shown.etag) == (revision == 3)
        if hasattr(answer, "responses_request"):
            assert f'"instructions": "{revision}"' in answer.responses_request
            assert (answer.revision, answer.label) == (revision, found)
        else:
            assert shown.instructions == str(revision)


@pytest.mark.modes
def test_several_templates_each_have_their_label(api: Api) -> None:
    one, other = revised(api), revised(api)
    label(api, one, "production", 1)
    label(api, other, "production", 2)
    request = BatchGetTemplatesRequest(ids=[one.id, other.id, one.id], labels=["production"])
    assert [found.instructions for found in api.templates.BatchGetTemplates(request).templates] == ["1", "2", "1"]
    request.ids.append(api.template().id)
    failure = fails(api.templates.BatchGetTemplates, request)
    assert (failure.reason, failure.metadata["id"]) == ("LABEL_NOT_FOUND", request.ids[-1])


@pytest.mark.modes
def test_a_user_stays_on_a_revision_whatever_labels_are_named(api: Api) -> None:
    template = revised(api)
    label(api, template, "production", 2)
    user = api.user()
    key: dict[str, Any] = {"user_id": user.id, "template_type": template.template_type}
    set_ = SetSelectionRequest(**key, template_id=template.id, revision=1)
    selection = api.selections.SetSelection(set_)
    assert (selection.revision, selection.template.revision, selection.template.instructions) == (1, 1, "1")
    assert api.selections.GetSelection(GetSelectionRequest(**key)) == selection
    assert list(api.selections.ListSelections(ListSelectionsRequest(user_id=user.id)).selections) == [selection]
    for labels in ([], ["production"], ["canary"]):
        resolved = api.selections.ResolveTemplate(ResolveTemplateRequest(**key, labels=labels)).template
        assert (resolved.revision, resolved.label, resolved.instructions) == (1, "", "1")
        rendered = api.templates.RenderTemplate(RenderTemplateRequest(resolve=ResolutionKey(**key), labels=labels))
        assert (rendered.revision, rendered.label) == (1, "")
    assert api.selections.SetSelection(set_).etag == selection.etag
    set_.revision = 0
    follows = api.selections.SetSelection(set_)
    assert (follows.revision, follows.template.revision) == (0, 3)
    assert follows.etag != selection.etag
    resolved = api.selections.ResolveTemplate(ResolveTemplateRequest(**key, labels=["production"])).template
    assert resolved.instructions == "2"


def test_labels_and_selections_are_on_revisions_of_the_type(api: Api) -> None:
    template = api.template()
    other = api.type().name
    body = Template(id=template.id, template_type=other)
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
    failure = fails(
        api.templates.SetTemplateLabel, SetTemplateLabelRequest(template_id=template.id, label="a", revision=1)
    )
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_TYPE_MISMATCH")
    pinned = SetSelectionRequest(user_id=template.user_id, template_type=other, template_id=template.id, revision=1)
    assert fails(api.selections.SetSelection, pinned).reason == "TEMPLATE_TYPE_MISMATCH"
    label(api, template, "a", 2)
    label(api, template, "b", 2)
    body.template_type = template.template_type
    failure = fails(api.templates.UpdateTemplate, UpdateTemplateRequest(template=body))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_LABELED")
    assert failure.metadata == {"labels": "2"}


def test_a_template_has_32_labels_at_most(api: Api) -> None:
    template = api.template()
    for number in range(32):
        label(api, template, f"l{number}", 1)
    request = SetTemplateLabelRequest(template_id=template.id, label="one-more", revision=1)
    failure = fails(api.templates.SetTemplateLabel, request)
    assert (failure.reason, failure.metadata) == ("TEMPLATE_LABELS_FULL", {"limit": "32"})
    # One that is there is moved all the same.
    label(api, template, "l31", 1)


@pytest.mark.parametrize("name", ["", "latest", "Production", "1st", "-a", "a b", "é", "x" * 65, "a\n"])
def test_what_is_no_label_is_named(api: Api, name: str) -> None:
    request = SetTemplateLabelRequest(template_id=api.template().id, label=name, revision=1)
    failure = fails(api.templates.SetTemplateLabel, request)
    assert (failure.code, set(failure.violations)) == (StatusCode.INVALID_ARGUMENT, {"label"})


def test_the_log_says_where_a_label_was_and_is(api: Api) -> None:
    template = revised(api)
    label(api, template, "production", 1)
    label(api, template, "production", 3)
    request = ListChangesRequest(kinds=[ChangeKind.CHANGE_KIND_TEMPLATE], resource_id=template.id, page_size=2)
    last, first = api.changes.ListChanges(request).changes
    assert all(change.method == "SetTemplateLabel" for change in (last, first))
    assert ('"labels": {"production": 1}' in last.before, '"labels": {"production": 3}' in last.after) == (True, True)
    assert f"template:{template.id}" in last.tags
    # No revision was made.
    assert (last.revision, first.revision) == (0, 0)
    changes: list[Change] = list(api.changes.ListChanges(ListChangesRequest(resource_id=template.id)).changes)
    assert [change.revision for change in changes] == [0, 0, 3, 2, 1]


def test_of_many_who_move_a_label_from_where_they_saw_it_one_moves_it(api: Api) -> None:
    template = revised(api, CLIENTS + 1)
    barrier = threading.Barrier(CLIENTS, timeout=60)

    def move(target: int, expected: int) -> bool:
        barrier.wait()
        request = SetTemplateLabelRequest(
            template_id=template.id, label="production", revision=target, expected_revision=expected
        )
        try:
            api.templates.SetTemplateLabel(request)
        except RpcError as error:
            failure = Failure(error)
            assert (failure.code, failure.reason) == (StatusCode.ABORTED, "LABEL_MOVED")
            assert failure.metadata["label"] == "production"
            seen.add(int(failure.metadata["revision"]))
            return False
        won.append(target)
        return True

    there = 0
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(EDITS):
            seen: set[int] = set()
            won: list[int] = []
            targets = [number for number in range(1, CLIENTS + 2) if number != there][:CLIENTS]
            assert sum(pool.map(move, targets, [there] * CLIENTS)) == 1
            there = get(api, template, "production").revision
            assert won == [there]
            assert seen == {there}


def test_of_many_who_write_each_makes_one_revision_that_says_what_it_wrote(api: Api) -> None:
    template = api.template(title="0")

    def write(number: int) -> None:
        for edit in range(EDITS):
            text = f"{number}-{edit}"
            body = Template(id=template.id, title=text, instructions=text)
            api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, message=text))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(write, range(CLIENTS)))
    request = ListTemplateRevisionsRequest(template_id=template.id, page_size=1000)
    found = list(api.templates.ListTemplateRevisions(request).template_revisions)
    assert [each.revision for each in reversed(found)] == [*range(1, 2 + CLIENTS * EDITS)]
    said = [(each.template.title, each.template.instructions) for each in found[:-1]]
    assert said == [(each.message, each.message) for each in found[:-1]]
    assert len({each.message for each in found[:-1]}) == CLIENTS * EDITS


def test_a_reader_of_a_label_never_sees_a_revision_that_had_it_not(api: Api) -> None:
    """The label is on even revisions alone; the revision is written first, and labeled then."""
    template = revised(api, 2)
    label(api, template, "production", 2)
    done = threading.Event()

    def read() -> list[int]:
        seen = [2]
        while not done.is_set():
            seen.append(get(api, template, "production").revision)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for number in range(3, 3 + 2 * EDITS * 4):
            body = Template(id=template.id, instructions=str(number))
            api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
            if number % 2 == 0:
                label(api, template, "production", number)
        done.set()
    for reader in readers:
        seen = reader.result()
        assert {number % 2 for number in seen} == {0}
        # This process has made the moves itself: nobody sees an older one after a newer.
        assert seen == sorted(seen)


def test_which_labels_are_protected_is_a_setting(callers: Callers) -> None:
    admin, author = callers.user(PLATFORM_ADMIN), callers.user("user_author")
    body = Template(title="A title", instructions="Do.", template_type=admin.type().name, model=admin.model().openai_id)
    template = author.templates.CreateTemplate(CreateTemplateRequest(template=body))
    released = SetTemplateLabelRequest(template_id=template.id, label="release", revision=1)
    before = Settings().protected_labels
    protected_labels.configure(["release"])
    try:
        assert fails(author.templates.SetTemplateLabel, released).code == StatusCode.PERMISSION_DENIED
        label(author, template, "production", 1)
        label(admin, template, "release", 1)
    finally:
        protected_labels.configure(before)
