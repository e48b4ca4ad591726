"""Templates, defaults and selections of organizations, beside those of the platform, through the stubs."""

from typing import Any

import psycopg2
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import StatusCode

from omniflo.templates.v1.organization_pb2 import Organization
from omniflo.templates.v1.organization_service_pb2 import RemoveMemberRequest
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
)
from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    BatchRenderTemplatesRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    RenderTemplateRequest,
    ResolutionKey,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateTypeRequest
from omniflo.templates.v1.user_pb2 import User
from tests.conftest import Api, Database, Failure, fails
from tests.contract.tables import contents
from tests.contract.walks import walk

pytestmark = pytest.mark.modes

ORGANIZATION_SELECTED = ResolutionReason.RESOLUTION_REASON_ORGANIZATION_SELECTED
SELECTED = ResolutionReason.RESOLUTION_REASON_SELECTED
ORGANIZATION_DEFAULT = ResolutionReason.RESOLUTION_REASON_ORGANIZATION_DEFAULT
DEFAULT = ResolutionReason.RESOLUTION_REASON_DEFAULT


class Place:
    """A member of two organizations, and a type, for which there may be templates here, there and on the platform."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.user = api.user()
        self.here, self.there = (api.organization(self.user) for _ in range(2))
        self.type = api.type().name
        self._model = api.model().openai_id

    def template(self, organization: Organization | None = None, **fields: Any) -> Template:
        """Create a template of the type in the organization, or platform-wide."""
        place = organization.id if organization else ""
        fields = {"template_type": self.type, "user_id": self.user.id, "model": self._model, **fields}
        return self.api.template(organization_id=place, **fields)

    def resolve(self, organization: Organization | None = None, user: User | None = None) -> ResolveTemplateResponse:
        request = ResolveTemplateRequest(user_id=(user or self.user).id, template_type=self.type)
        request.organization_id = organization.id if organization else ""
        return self.api.selections.ResolveTemplate(request)

    def defaults(self, **filters: str) -> list[str]:
        """Answer the ids of the defaults of the type, newest first."""
        return found(self.api, is_default=True, template_type=self.type, **filters)


@pytest.fixture
def place(api: Api) -> Place:
    return Place(api)


def found(api: Api, **filters: Any) -> list[str]:
    listed = api.templates.ListTemplates(ListTemplatesRequest(**filters)).templates
    return [template.id for template in listed]


def get(api: Api, template: Template) -> Template:
    return api.templates.GetTemplate(GetTemplateRequest(id=template.id))


def update(api: Api, template: Template, *paths: str, **fields: Any) -> Template:
    body = Template(id=template.id, **fields)
    return api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, update_mask=FieldMask(paths=paths)))


def deselect(place: Place, organization: Organization | None = None) -> None:
    request = DeleteSelectionRequest(user_id=place.user.id, template_type=place.type)
    request.organization_id = organization.id if organization else ""
    place.api.selections.DeleteSelection(request)


def assert_not_found(failure: Failure, reason: str, **metadata: str) -> None:
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, reason)
    assert failure.metadata == metadata


def test_a_template_is_created_where_it_is_to_belong(place: Place, api: Api) -> None:
    template = place.template(place.here)
    assert template.organization_id == place.here.id
    assert get(api, template) == template
    assert place.template().organization_id == ""


@pytest.mark.parametrize("select", [False, True])
def test_a_template_of_no_organization_that_there_is_leaves_no_trace(
    place: Place, database: Database, select: bool
) -> None:
    place.template(is_default=True)
    before = contents(database)
    failure = fails(place.template, Organization(id="none"), select=select, is_default=True)
    assert_not_found(failure, "ORGANIZATION_NOT_FOUND", id="none")
    assert contents(database) == before


def test_an_author_who_is_no_member_selects_nothing_there(place: Place, api: Api, database: Database) -> None:
    other = api.user()
    before = contents(database)
    failure = fails(place.template, place.here, user_id=other.id, select=True)
    assert_not_found(failure, "ORGANIZATION_NOT_FOUND", id=place.here.id)
    assert contents(database) == before


@pytest.mark.parametrize("paths", [("organization_id",), ("title", "organization_id")])
def test_where_a_template_belongs_is_named_as_immutable_by_a_mask(
    place: Place, api: Api, paths: tuple[str, ...]
) -> None:
    template = place.template(place.here)
    for organization_id in ("", place.here.id, place.there.id, "none"):
        failure = fails(update, api, template, *paths, title="Another", organization_id=organization_id)
        assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert list(failure.violations) == [f"update_mask.paths[{len(paths) - 1}]"]
    assert get(api, template) == template


@pytest.mark.parametrize("paths", [(), ("title",), ("title", "is_default")])
def test_a_template_never_leaves_where_it_belongs(place: Place, api: Api, paths: tuple[str, ...]) -> None:
    for template in (place.template(place.here), place.template()):
        after = update(api, template, *paths, title="Another", is_default=True, organization_id=place.there.id)
        assert (after.title, after.organization_id) == ("Another", template.organization_id)
        assert get(api, template) == after


def test_each_organization_and_the_platform_have_a_default_of_their_own(place: Place, api: Api) -> None:
    wide, here, there = (place.template(where, is_default=True) for where in (None, place.here, place.there))
    assert place.defaults() == [there.id, here.id, wide.id]
    assert [get(api, template) for template in (wide, here, there)] == [wide, here, there]


@pytest.mark.parametrize("by", ["create", "update", "move"])
def test_a_new_default_takes_it_away_from_the_old_one_of_its_own_scope_alone(place: Place, api: Api, by: str) -> None:
    places = (None, place.here, place.there)
    old = {where and where.id: place.template(where, is_default=True) for where in places}
    elsewhere = place.template(place.here, template_type=api.type().name, is_default=True)
    for where in places:
        if by == "create":
            new = place.template(where, is_default=True)
        elif by == "update":
            new = update(api, place.template(where), is_default=True)
        else:
            moved = place.template(where, template_type=api.type().name)
            new = update(api, moved, template_type=place.type, is_default=True)
        assert new.is_default
        assert not get(api, old[where and where.id]).is_default
        old[where and where.id] = new
        assert sorted(place.defaults()) == sorted(template.id for template in old.values())
        for template in (*old.values(), elsewhere):
            assert get(api, template) == template


def test_false_on_a_default_leaves_its_own_scope_without_one(place: Place, api: Api) -> None:
    wide, here = place.template(is_default=True), place.template(place.here, is_default=True)
    update(api, here, "is_default")
    assert place.defaults() == [wide.id]
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=wide.id))
    assert place.defaults() == []


def test_a_default_that_changes_its_type_disturbs_no_default_of_another_scope(place: Place, api: Api) -> None:
    other = api.type().name
    here = place.template(place.here, is_default=True)
    wide = place.template(template_type=other, is_default=True)
    assert not update(api, here, template_type=other).is_default
    assert update(api, here, is_default=True).is_default
    assert get(api, wide) == wide


@pytest.fixture
def all_four(place: Place) -> list[tuple[Template, ResolutionReason.ValueType]]:
    """What there is to resolve for the user here, in the order in which it holds, with the reason."""
    template = {
        ORGANIZATION_SELECTED: place.template(place.here),
        SELECTED: place.template(),
        ORGANIZATION_DEFAULT: place.template(place.here, is_default=True),
        DEFAULT: place.template(is_default=True),
    }
    place.api.select(place.user, template[ORGANIZATION_SELECTED], place.here.id)
    place.api.select(place.user, template[SELECTED])
    return [(found, reason) for reason, found in template.items()]


def take_away(place: Place, template: Template, reason: ResolutionReason.ValueType) -> None:
    if reason == ORGANIZATION_SELECTED:
        deselect(place, place.here)
    elif reason == SELECTED:
        deselect(place)
    else:
        update(place.api, template, "is_default")


def test_in_an_organization_the_nearest_holds_and_what_a_user_selected_before_any_default(
    place: Place, all_four: list[tuple[Template, ResolutionReason.ValueType]]
) -> None:
    for template, reason in all_four:
        assert place.resolve(place.here) == ResolveTemplateResponse(template=template, reason=reason)
        take_away(place, template, reason)
    failure = fails(place.resolve, place.here)
    assert_not_found(failure, "NO_TEMPLATE_RESOLVED", user_id=place.user.id, template_type=place.type)


@pytest.mark.parametrize("reason", [ORGANIZATION_SELECTED, SELECTED, ORGANIZATION_DEFAULT, DEFAULT])
def test_each_way_holds_alone(place: Place, reason: ResolutionReason.ValueType) -> None:
    where = place.here if reason in {ORGANIZATION_SELECTED, ORGANIZATION_DEFAULT} else None
    template = place.template(where, is_default=reason in {ORGANIZATION_DEFAULT, DEFAULT})
    if not template.is_default:
        place.api.select(place.user, template, template.organization_id)
    assert place.resolve(place.here) == ResolveTemplateResponse(template=template, reason=reason)


def test_what_holds_in_an_organization_holds_nowhere_else(
    place: Place, api: Api, all_four: list[tuple[Template, ResolutionReason.ValueType]]
) -> None:
    templates = {reason: template for template, reason in all_four}
    for where in (None, place.there):
        resolved = place.resolve(where)
        assert resolved == ResolveTemplateResponse(template=templates[SELECTED], reason=SELECTED)
    deselect(place)
    for where in (None, place.there):
        resolved = place.resolve(where)
        assert resolved == ResolveTemplateResponse(template=templates[DEFAULT], reason=DEFAULT)
    # Nor for another member, who has selected nothing.
    other = api.user()
    api.member(place.here, other, "VIEWER")
    resolved = place.resolve(place.here, other)
    assert resolved == ResolveTemplateResponse(template=templates[ORGANIZATION_DEFAULT], reason=ORGANIZATION_DEFAULT)


def test_rendering_and_batches_resolve_in_an_organization_as_resolve_does(
    place: Place, api: Api, all_four: list[tuple[Template, ResolutionReason.ValueType]]
) -> None:
    names: Any = {"user_id": place.user.id, "organization_id": place.here.id}
    types = [place.type, "none", place.type]
    for template, reason in all_four:
        key = ResolutionKey(template_type=place.type, **names)
        rendered = api.templates.RenderTemplate(RenderTemplateRequest(resolve=key))
        assert (rendered.template.id, rendered.reason) == (template.id, reason)
        rendering, nothing, again = api.templates.BatchRenderTemplates(
            BatchRenderTemplatesRequest(template_types=types, **names)
        ).results
        assert rendering == again
        assert rendering.rendered == rendered
        assert nothing.WhichOneof("outcome") == "error"
        resolution, nothing_else, same = api.selections.BatchResolveTemplates(
            BatchResolveTemplatesRequest(template_types=types, **names)
        ).results
        assert resolution == same
        assert resolution.resolved == place.resolve(place.here)
        assert nothing_else.error == nothing.error
        take_away(place, template, reason)
    (result,) = api.selections.BatchResolveTemplates(
        BatchResolveTemplatesRequest(template_types=[place.type], **names)
    ).results
    info = ErrorInfo()
    assert result.error.details[0].Unpack(info)
    assert info.reason == "NO_TEMPLATE_RESOLVED"


@pytest.mark.parametrize("exists", [False, True], ids=["unknown", "no member"])
def test_to_who_is_no_member_an_organization_resolves_nothing(place: Place, api: Api, exists: bool) -> None:
    place.template(is_default=True)
    organization = api.organization() if exists else Organization(id="none")
    names: Any = {"user_id": place.user.id, "organization_id": organization.id}
    key = ResolutionKey(template_type=place.type, **names)
    batch = [place.type, "none"]
    for failure in (
        fails(place.resolve, organization),
        fails(api.templates.RenderTemplate, RenderTemplateRequest(resolve=key)),
        fails(api.templates.BatchRenderTemplates, BatchRenderTemplatesRequest(template_types=batch, **names)),
        fails(api.selections.BatchResolveTemplates, BatchResolveTemplatesRequest(template_types=batch, **names)),
    ):
        assert_not_found(failure, "ORGANIZATION_NOT_FOUND", id=organization.id)


def test_select_on_create_selects_in_the_organization(place: Place, api: Api) -> None:
    wide = place.template(select=True)
    mine = place.template(place.here, select=True)
    assert api.selected(place.user, place.type, place.here.id) == mine.id
    assert api.selected(place.user, place.type) == wide.id
    request = GetSelectionRequest(user_id=place.user.id, template_type=place.type, organization_id=place.there.id)
    assert_not_found(
        fails(api.selections.GetSelection, request),
        "SELECTION_NOT_FOUND",
        user_id=place.user.id,
        template_type=place.type,
        organization_id=place.there.id,
    )


@pytest.mark.parametrize("wants", ["platform", "there"])
def test_a_template_of_an_organization_is_selected_there_alone(place: Place, api: Api, wants: str) -> None:
    template = place.template(place.here)
    place_id = place.there.id if wants == "there" else ""
    before = api.select(place.user, place.template(), place_id)
    failure = fails(api.select, place.user, template, place_id)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_ORGANIZATION_MISMATCH")
    assert failure.metadata == {"organization_id": place_id}
    assert api.selected(place.user, place.type, place_id) == before.template_id
    assert api.select(place.user, template, place.here.id).template == template


def test_a_template_of_the_platform_is_selected_anywhere(place: Place, api: Api) -> None:
    wide = place.template()
    for where in ("", place.here.id, place.there.id):
        selection = api.select(place.user, wide, where)
        assert (selection.organization_id, selection.template) == (where, wide)
    assert place.resolve(place.here).reason == ORGANIZATION_SELECTED
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=wide.id))
    listed = api.selections.ListSelections(ListSelectionsRequest(user_id=place.user.id))
    assert list(listed.selections) == []


def test_a_selection_moves_between_a_template_of_the_platform_and_one_of_its_organization(
    place: Place, api: Api
) -> None:
    wide, mine = place.template(), place.template(place.here)
    first = api.select(place.user, wide, place.here.id)
    for template in (mine, wide, mine):
        selection = api.select(place.user, template, place.here.id)
        assert (selection.id, selection.template) == (first.id, template)
        assert api.selected(place.user, place.type, place.here.id) == template.id


def test_selections_of_the_platform_and_of_organizations_do_not_disturb_each_other(place: Place, api: Api) -> None:
    places = ["", place.here.id, place.there.id]
    kept = {where: api.select(place.user, place.template(), where) for where in places}
    assert len({selection.id for selection in kept.values()}) == 3

    def read(where: str) -> Selection:
        request = GetSelectionRequest(user_id=place.user.id, template_type=place.type, organization_id=where)
        return api.selections.GetSelection(request)

    for where in places:
        kept[where] = api.select(place.user, place.template(), where)
        assert {where: read(where) for where in places} == kept
    for where in places:
        request = DeleteSelectionRequest(
            user_id=place.user.id, template_type=place.type, organization_id=where, etag=kept[where].etag
        )
        api.selections.DeleteSelection(request)
        del kept[where]
        failure = fails(read, where)
        assert failure.reason == "SELECTION_NOT_FOUND"
        assert failure.metadata.get("organization_id", "") == where
        assert fails(api.selections.DeleteSelection, request).metadata == failure.metadata
        assert {where: read(where) for where in kept} == kept


@pytest.mark.parametrize("exists", [False, True], ids=["unknown", "no member"])
def test_a_selection_in_an_organization_is_of_a_member(
    place: Place, api: Api, database: Database, exists: bool
) -> None:
    template = place.template()
    place_id = api.organization().id if exists else "none"
    before = contents(database)
    assert_not_found(fails(api.select, place.user, template, place_id), "ORGANIZATION_NOT_FOUND", id=place_id)
    assert contents(database) == before


def test_set_names_an_unknown_template_and_another_type_also_in_an_organization(place: Place, api: Api) -> None:
    names: Any = {"user_id": place.user.id, "template_type": place.type, "organization_id": place.here.id}
    failure = fails(api.selections.SetSelection, SetSelectionRequest(template_id="none", **names))
    assert_not_found(failure, "TEMPLATE_NOT_FOUND", id="none")
    other = place.template(place.here, template_type=api.type().name)
    failure = fails(api.selections.SetSelection, SetSelectionRequest(template_id=other.id, **names))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_TYPE_MISMATCH")


def test_the_type_of_a_template_that_is_selected_in_an_organization_cannot_change(place: Place, api: Api) -> None:
    template = place.template(place.here, select=True)
    failure = fails(update, api, template, template_type=api.type().name)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_SELECTED")
    assert failure.metadata == {"selections": "1"}


def test_selections_are_listed_by_type_the_platform_s_first_or_of_one_organization(api: Api) -> None:
    place = Place(api)
    places = ["", *sorted([place.here.id, place.there.id])]
    expected: list[Selection] = []
    for name in ("a", "b"):
        api.types.CreateTemplateType(CreateTemplateTypeRequest(template_type=TemplateType(name=name)))
        template = place.template(template_type=name)
        expected += [api.select(place.user, template, where) for where in places]
    api.select(api.user(), template)

    def listed(**fields: Any) -> list[Selection]:
        request = ListSelectionsRequest(user_id=place.user.id, **fields)
        return [selection for page in walk(api.selections.ListSelections, request) for selection in page.selections]

    for size in (1, 2, 1000):
        assert listed(page_size=size) == expected
        for where in places[1:]:
            there = [selection for selection in expected if selection.organization_id == where]
            assert listed(page_size=size, organization_id=where) == there
    assert_not_found(fails(listed, organization_id="none"), "ORGANIZATION_NOT_FOUND", id="none")


def test_who_leaves_loses_the_selections_there_and_resolves_what_is_left(place: Place, api: Api) -> None:
    user, default = api.user(), place.template(is_default=True)
    member = api.member(place.here, user)
    template = place.template(place.here)
    api.select(user, template, place.here.id)
    api.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
    assert_not_found(fails(place.resolve, place.here, user), "ORGANIZATION_NOT_FOUND", id=place.here.id)
    assert place.resolve(None, user) == ResolveTemplateResponse(template=default, reason=DEFAULT)
    # Whoever comes back has selected nothing.
    api.member(place.here, user)
    assert place.resolve(place.here, user) == ResolveTemplateResponse(template=default, reason=DEFAULT)


def test_list_answers_all_scopes_newest_first_or_one_organization(place: Place, api: Api) -> None:
    templates = [place.template(where) for where in (None, place.here, place.there) * 3]
    newest_first = templates[::-1]
    here = [template for template in newest_first if template.organization_id == place.here.id]
    for size in (1, 2, 4, 1000):
        for organization_id, expected in (("", newest_first), (place.here.id, here)):
            request = ListTemplatesRequest(organization_id=organization_id, page_size=size)
            walked = [template for page in walk(api.templates.ListTemplates, request) for template in page.templates]
            assert walked == expected
    failure = fails(found, api, organization_id="none")
    assert_not_found(failure, "ORGANIZATION_NOT_FOUND", id="none")
    assert found(api, organization_id=api.organization().id) == []


def test_pages_meet_templates_of_one_moment_in_several_scopes_once(place: Place, api: Api, database: Database) -> None:
    ids = [place.template(where).id for where in (None, place.here, place.there) * 3]
    database.query("update templates set create_time = '2026-01-01Z'")
    for size in (1, 2, 1000):
        walked = walk(api.templates.ListTemplates, ListTemplatesRequest(page_size=size))
        assert [template.id for page in walked for template in page.templates] == sorted(ids, reverse=True)


def test_pages_over_several_scopes_end_before_3_mib(place: Place, api: Api) -> None:
    large = "\N{ROCKET}" * 200_000
    ids = [place.template(where, instructions=large).id for where in (None, place.here, place.there) * 2]
    pages = list(walk(api.templates.ListTemplates, ListTemplatesRequest()))
    assert [template.id for page in pages for template in page.templates] == ids[::-1]
    assert len(pages) == 2
    assert max(page.ByteSize() for page in pages) <= 3 * 1024 * 1024


def test_filters_are_joined_within_an_organization(place: Place, api: Api) -> None:
    first = place.template(place.here, title="Report", is_default=True)
    second = place.template(place.here, title="Export", user_id=api.user().id)
    third = place.template(place.here, title="Report", template_type=api.type().name, model=api.model().openai_id)
    for where in (None, place.there):
        place.template(where, title="Report", is_default=True)
    for filters, expected in (
        ({"query": "report"}, [third, first]),
        ({"template_type": place.type}, [second, first]),
        ({"user_id": second.user_id}, [second]),
        ({"model": third.model}, [third]),
        ({"is_default": True}, [first]),
        ({"is_default": False, "query": "report"}, [third]),
    ):
        assert found(api, organization_id=place.here.id, **filters) == [template.id for template in expected]


@pytest.mark.parametrize("view", TemplateView.values())
def test_every_method_answers_where_a_template_belongs(place: Place, api: Api, view: TemplateView.ValueType) -> None:
    template = place.template(place.here, is_default=True)
    names: Any = {"user_id": place.user.id, "template_type": place.type, "organization_id": place.here.id}
    answers = [
        api.templates.GetTemplate(GetTemplateRequest(id=template.id, view=view)),
        *api.templates.BatchGetTemplates(BatchGetTemplatesRequest(ids=[template.id], view=view)).templates,
        *api.templates.ListTemplates(ListTemplatesRequest(view=view)).templates,
        api.selections.ResolveTemplate(ResolveTemplateRequest(view=view, **names)).template,
        api.selections.SetSelection(SetSelectionRequest(template_id=template.id, view=view, **names)).template,
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id), view=view)),
    ]
    assert len(answers) == 6
    assert {(answer.id, answer.organization_id) for answer in answers} == {(template.id, place.here.id)}
    assert all(answer == answers[0] for answer in answers)


FORGED = {
    "the default of another organization": (
        psycopg2.errors.UniqueViolation,
        "update templates set organization_id = '{there}', is_default = true where id = '{mine}'",
    ),
    "a default that is also the platform's": (
        psycopg2.errors.UniqueViolation,
        "update templates set organization_id = null where id = '{default}'",
    ),
    "a default that says it belongs elsewhere": (
        psycopg2.errors.GeneratedAlways,
        "update templates set scope = '{there}' where id = '{default}'",
    ),
    "a selection of a template of another organization": (
        psycopg2.errors.CheckViolation,
        """
        update user_template_selections set (template_id, template_scope) = ('{theirs}', '{there}')
        where organization_id = '{here}'
        """,
    ),
    "such a selection that says the template is its own organization's": (
        psycopg2.errors.ForeignKeyViolation,
        """
        update user_template_selections set (template_id, template_scope) = ('{theirs}', '{here}')
        where organization_id = '{here}'
        """,
    ),
    "such a selection that says the template is the platform's": (
        psycopg2.errors.ForeignKeyViolation,
        """
        update user_template_selections set (template_id, template_scope) = ('{theirs}', '')
        where organization_id = '{here}'
        """,
    ),
    "a platform-wide selection of a template of an organization": (
        psycopg2.errors.CheckViolation,
        "update user_template_selections set organization_id = null where organization_id = '{here}'",
    ),
    "a selection that moves to another organization": (
        psycopg2.errors.CheckViolation,
        "update user_template_selections set organization_id = '{there}' where organization_id = '{here}'",
    ),
    "a template that leaves a selection behind": (
        psycopg2.errors.ForeignKeyViolation,
        "update templates set organization_id = '{there}' where id = '{mine}'",
    ),
    "a selection of one who is no member": (
        psycopg2.errors.ForeignKeyViolation,
        "update user_template_selections set user_id = '{stranger}' where organization_id = '{here}'",
    ),
}


@pytest.mark.parametrize(("error", "sql"), FORGED.values(), ids=FORGED)
def test_sql_by_hand_stores_no_default_and_no_selection_that_points_into_another_organization(
    place: Place, api: Api, database: Database, error: type[psycopg2.Error], sql: str
) -> None:
    place.template(is_default=True)
    default = place.template(place.here, is_default=True)
    mine = place.template(place.here, select=True)
    theirs = place.template(place.there, is_default=True)
    before = contents(database)
    with pytest.raises(error):
        database.query(
            sql.format(
                here=place.here.id,
                there=place.there.id,
                default=default.id,
                mine=mine.id,
                theirs=theirs.id,
                stranger=api.user().id,
            )
        )
    del before["users"]
    assert before.items() <= contents(database).items()
