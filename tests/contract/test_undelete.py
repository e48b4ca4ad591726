"""What was deleted comes back as it was, with its id."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from omniflo.templates.v1.model_service_pb2 import DeleteModelRequest
from omniflo.templates.v1.organization_service_pb2 import (
    DeleteOrganizationRequest,
    ListMembersRequest,
    RemoveMemberRequest,
)
from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplateRevisionsRequest,
    SetTemplateLabelRequest,
    UndeleteTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_service_pb2 import DeleteTemplateTypeRequest, GetTemplateTypeRequest
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest
from service.actor import SYSTEM
from service.operations import undelete
from tests.conftest import Api, Database, Failure, fails
from tests.contract import samples
from tests.e2e.serving import eventually

FULL = TemplateView.TEMPLATE_VIEW_FULL
SECONDS = 20.0


def delete(api: Api, template: Template) -> None:
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))


def bring_back(api: Api, template: Template, **fields: Any) -> Template:
    return api.templates.UndeleteTemplate(UndeleteTemplateRequest(id=template.id, **fields))


def undelete_resource(id: str) -> None:
    deletion = undelete.find(SYSTEM, id)
    assert deletion is not None
    undelete.resource(SYSTEM, deletion)


def same(template: Template, *but: str) -> Template:
    """Return the template without what differs after it has come back."""
    rest = Template()
    rest.CopyFrom(template)
    for name in ("etag", "update_time", *but):
        rest.ClearField(name)  # type: ignore[arg-type]
    return rest


def test_a_hundred_templates_come_back_as_they_were(api: Api) -> None:
    user = api.user()
    places = ["", *(api.organization(user).id for _ in range(3))]
    type_, model = api.type().name, api.model().openai_id
    before = []
    for number in range(100):
        place = places[number % 4]
        template = api.template(
            title=f"Title {number}",
            description="Wofür?",
            instructions=f"Do {number}.\r\n\t🚀",
            user_id=user.id,
            organization_id=place,
            # One default in each place.
            template_type=type_ if number < 4 else api.type().name,
            is_default=number < 4,
            model=model,
            temperature=number / 50 if number % 2 else None,
        )
        if number % 3 == 0:
            body = Template(id=template.id, instructions="Do it differently.")
            api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, message="why"))
            label = SetTemplateLabelRequest(template_id=template.id, label="production", revision=1)
            api.templates.SetTemplateLabel(label)
        before.append(api.templates.GetTemplate(GetTemplateRequest(id=template.id)))
    said = [revisions(api, template) for template in before]
    for template in before:
        delete(api, template)
    # Two of the defaults are taken by now.
    for place in places[:2]:
        api.template(user_id=user.id, organization_id=place, template_type=type_, model=model, is_default=True)
    for number, template in enumerate(before):
        back = bring_back(api, template)
        is_taken = number < 2
        assert back == api.templates.GetTemplate(GetTemplateRequest(id=template.id))
        assert back.is_default == (template.is_default and not is_taken)
        assert same(back, "is_default") == same(template, "is_default")
        assert back.etag != template.etag
        assert [each.message for each in revisions(api, back)] == [each.message for each in said[number]]
        assert [each.template.instructions for each in revisions(api, back)] == [
            each.template.instructions for each in said[number]
        ]


def revisions(api: Api, template: Template) -> Any:
    request = ListTemplateRevisionsRequest(template_id=template.id)
    return api.templates.ListTemplateRevisions(request).template_revisions


@pytest.mark.modes
def test_what_comes_back_goes_on_where_it_was(api: Api) -> None:
    template = api.template(title="One")
    for _ in range(2):
        delete(api, template)
        template = bring_back(api, template, view=FULL)
        assert template.type_details.name == template.template_type
    body = Template(id=template.id, title="Two")
    assert api.templates.UpdateTemplate(UpdateTemplateRequest(template=body)).revision == 2
    assert len(revisions(api, template)) == 2


def test_what_is_not_deleted_is_not_brought_back(api: Api, database: Database) -> None:
    template = api.template()
    failure = fails(api.templates.UndeleteTemplate, UndeleteTemplateRequest(id=template.id))
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "TEMPLATE_ALREADY_EXISTS")
    assert failure.metadata == {"id": template.id}
    delete(api, template)
    # Nothing but the log knows.
    database.query("delete from changes")
    failure = fails(api.templates.UndeleteTemplate, UndeleteTemplateRequest(id=template.id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")


def test_one_of_two_calls_at_once_brings_a_template_back(api: Api, database: Database) -> None:
    template = api.template()
    delete(api, template)
    with closing(Database(database.url)) as other:
        other.query("begin; select from template_types for update")
        calls = [api.templates.UndeleteTemplate.future(UndeleteTemplateRequest(id=template.id)) for _ in range(2)]
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        eventually(lambda: database.query(waiting) == [(2,)], within=SECONDS)
        other.query("commit")
    failures = [Failure(error) for call in calls if isinstance(error := call.exception(), grpc.RpcError)]
    assert [(failure.code, failure.metadata) for failure in failures] == [
        (StatusCode.ALREADY_EXISTS, {"id": template.id})
    ]


GONE: dict[str, tuple[Callable[[Api, Template], object], str, Callable[[Template], dict[str, str]]]] = {
    "type": (
        lambda api, template: api.types.DeleteTemplateType(DeleteTemplateTypeRequest(id=template.type_details.id)),
        "TEMPLATE_TYPE_NOT_FOUND",
        lambda template: {"name": template.template_type},
    ),
    "model": (
        lambda api, template: api.models.DeleteModel(DeleteModelRequest(id=template.model_details.id)),
        "MODEL_NOT_FOUND",
        lambda template: {"openai_id": template.model},
    ),
    "author": (
        lambda api, template: api.users.DeleteUser(DeleteUserRequest(id=template.user_id)),
        "USER_NOT_FOUND",
        lambda template: {"id": template.user_id},
    ),
    "organization": (
        lambda api, template: api.organizations.DeleteOrganization(
            DeleteOrganizationRequest(id=template.organization_id)
        ),
        "ORGANIZATION_NOT_FOUND",
        lambda template: {"id": template.organization_id},
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_it_says_what_is_gone_that_a_template_needs(api: Api, what: str) -> None:
    end, reason, metadata = GONE[what]
    other = api.user()
    organization = api.organization(other)
    template = api.template(organization_id=organization.id if what == "organization" else "")
    template = api.templates.GetTemplate(GetTemplateRequest(id=template.id, view=FULL))
    delete(api, template)
    end(api, template)
    failure = fails(api.templates.UndeleteTemplate, UndeleteTemplateRequest(id=template.id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, reason)
    assert failure.metadata == metadata(template)
    ids = {
        "type": template.type_details.id,
        "model": template.model_details.id,
        "organization": template.organization_id,
    }
    if what in ids:
        undelete_resource(ids[what])
        details = ("type_details", "model_details", "author")
        assert same(bring_back(api, template, view=FULL), *details) == same(template, *details)


@pytest.mark.modes
def test_a_type_comes_back_with_its_tools(api: Api) -> None:
    owner = api.type()
    api.tool(template_type=owner.name, type=samples.FUNCTION, schema=samples.SCHEMA, description="Looks.")
    search = {"file_search": {"vector_store_ids": ["v1"], "max_num_results": 5}}
    api.tool(template_type=owner.name, **search)
    before = api.types.GetTemplateType(GetTemplateTypeRequest(id=owner.id))
    api.types.DeleteTemplateType(DeleteTemplateTypeRequest(id=owner.id))
    undelete_resource(owner.id)
    back = api.types.GetTemplateType(GetTemplateTypeRequest(name=owner.name))
    assert back.revision > before.revision
    for type_ in (before, back):
        for row in (type_, *type_.tools):
            row.ClearField("etag")
            row.ClearField("update_time")
        type_.ClearField("revision")
    assert back == before


def test_what_a_release_deleted_that_lacked_a_column_comes_back_with_its_default(api: Api, database: Database) -> None:
    owner = api.type()
    template = api.template(template_type=owner.name, tags=["billing"])
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    api.types.DeleteTemplateType(DeleteTemplateTypeRequest(id=owner.id))
    database.query("update changes set before = before - '{description,tags}'::text[] where action = 'delete'")
    undelete_resource(owner.id)
    assert api.types.GetTemplateType(GetTemplateTypeRequest(id=owner.id)).description == ""
    assert not bring_back(api, template).tags


@pytest.mark.modes
def test_an_organization_comes_back_with_its_members(api: Api) -> None:
    organization = api.organization()
    api.member(organization, role="VIEWER")
    left = api.member(organization)
    request = ListMembersRequest(organization_id=organization.id)
    # Who has left before is no member again.
    api.organizations.RemoveMember(RemoveMemberRequest(id=left.id))
    before = [(member.id, member.user_id, member.role) for member in api.organizations.ListMembers(request).members]
    api.organizations.DeleteOrganization(DeleteOrganizationRequest(id=organization.id))
    undelete_resource(organization.id)
    members = api.organizations.ListMembers(request).members
    assert [(member.id, member.user_id, member.role) for member in members] == before
