"""That nobody gets more than the table gives, by any way round that was thought of."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.organization_pb2 import Member, OrganizationRole
from omniflo.templates.v1.organization_service_pb2 import (
    AddMemberRequest,
    DeleteOrganizationRequest,
    GetOrganizationRequest,
    ListMembersRequest,
    ListOrganizationsRequest,
    RemoveMemberRequest,
    UpdateMemberRequest,
)
from omniflo.templates.v1.selection_service_pb2 import (
    BatchResolveTemplatesRequest,
    DeleteSelectionRequest,
    GetSelectionRequest,
    ListSelectionsRequest,
    ResolveTemplateRequest,
    SetSelectionRequest,
)
from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateTypeRequest
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from tests.conftest import ADMIN, PLATFORM_ADMIN, WRITER, Api, Failure, fails
from tests.rights.world import MEMBERS, TEMPLATES, Caller, World, bearer, organization_of

FULL = TemplateView.TEMPLATE_VIEW_FULL
READ, WRITE = ApiKeyScope.API_KEY_SCOPE_READ, ApiKeyScope.API_KEY_SCOPE_WRITE
ADMINISTRATOR = OrganizationRole.ORGANIZATION_ROLE_ADMIN
NEW_TYPE = CreateTemplateTypeRequest(template_type=TemplateType(name="new"))

DENIED = ("PERMISSION_DENIED", "PERMISSION_DENIED")
UNAUTHENTICATED = ("UNAUTHENTICATED", "UNAUTHENTICATED")
NO_TEMPLATE = ("NOT_FOUND", "TEMPLATE_NOT_FOUND")
NO_ORGANIZATION = ("NOT_FOUND", "ORGANIZATION_NOT_FOUND")
NO_USER = ("NOT_FOUND", "USER_NOT_FOUND")
NO_KEY = ("NOT_FOUND", "API_KEY_NOT_FOUND")


def refused(call: Callable[..., object], request: Any) -> tuple[str, str]:
    """Make a call that must be refused, and answer with what code and reason."""
    failure = fails(call, request)
    return failure.code.name, failure.reason


def new_template(organization: str = "", **fields: Any) -> CreateTemplateRequest:
    body = {"title": "New", "instructions": "Do.", "template_type": "kind", "model": "gpt", **fields}
    return CreateTemplateRequest(template=Template(organization_id=organization, **body))


def changed(id: str, *paths: str, **fields: Any) -> UpdateTemplateRequest:
    mask = FieldMask(paths=paths) if paths else None
    return UpdateTemplateRequest(template=Template(id=id, **fields), update_mask=mask)


def new_key(scope: int = WRITE, organization: str = "") -> CreateApiKeyRequest:
    body = ApiKey(name="New", organization_id=organization)
    body.scope = scope  # type: ignore[assignment]  # A number of the enumeration.
    return CreateApiKeyRequest(api_key=body)


def leave(world: World, user: str) -> None:
    """Have the other ADMIN of the house remove a member."""
    deputy = world.api(Caller("deputy", user="deputy"))
    deputy.organizations.RemoveMember(RemoveMemberRequest(id=f"house-{user}"))


def demote(world: World, user: str) -> None:
    deputy = world.api(Caller("deputy", user="deputy"))
    member = Member(id=f"house-{user}", role=OrganizationRole.ORGANIZATION_ROLE_VIEWER)
    deputy.organizations.UpdateMember(UpdateMemberRequest(member=member))


@pytest.fixture(autouse=True)
def _changed(world: World) -> None:
    """Every test here may write."""
    world.has_changed()


# Keys


def test_a_key_that_is_limited_makes_no_key_without_the_limit(fresh: World) -> None:
    keys = fresh.api("house key").keys
    assert refused(keys.CreateApiKey, new_key()) == DENIED
    assert refused(keys.CreateApiKey, new_key(READ)) == DENIED
    assert refused(keys.CreateApiKey, new_key(organization="annex")) == NO_ORGANIZATION
    assert keys.CreateApiKey(new_key(organization="house")).api_key.organization_id == "house"


def test_a_read_key_makes_no_key_and_changes_none(fresh: World) -> None:
    keys = fresh.api("read key").keys
    assert refused(keys.CreateApiKey, new_key()) == DENIED
    assert refused(keys.CreateApiKey, new_key(READ)) == DENIED
    assert refused(keys.RotateApiKey, RotateApiKeyRequest(id="keyadminread")) == DENIED
    assert refused(keys.RotateApiKey, RotateApiKeyRequest(id="keyadmin")) == DENIED
    assert refused(keys.RevokeApiKey, RevokeApiKeyRequest(id="keyadmin")) == DENIED
    later = Timestamp(seconds=9_999_999_999)
    request = UpdateApiKeyRequest(api_key=ApiKey(id="keyadminread", expire_time=later))
    assert refused(keys.UpdateApiKey, request) == DENIED


def test_the_scope_and_the_limit_of_a_key_cannot_be_changed(fresh: World) -> None:
    keys = fresh.api("admin").keys
    for path in ("scope", "organization_id", "user_id", "revoke_time"):
        body = ApiKey(id="keyadminhouse", scope=WRITE)
        request = UpdateApiKeyRequest(api_key=body, update_mask=FieldMask(paths=[path]))
        assert refused(keys.UpdateApiKey, request) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    widened = keys.UpdateApiKey(UpdateApiKeyRequest(api_key=ApiKey(id="keyadminread", name="New", scope=WRITE)))
    assert widened.scope == READ


def test_a_revoked_key_does_not_bring_itself_back(fresh: World) -> None:
    keys = fresh.api("write key").keys
    keys.RevokeApiKey(RevokeApiKeyRequest(id="keyadmin"))
    later = Timestamp(seconds=9_999_999_999)
    extended = UpdateApiKeyRequest(api_key=ApiKey(id="keyadmin", expire_time=later))
    assert refused(keys.UpdateApiKey, extended) == UNAUTHENTICATED
    assert refused(keys.RotateApiKey, RotateApiKeyRequest(id="keyadmin")) == UNAUTHENTICATED
    session = fresh.api("admin").keys
    session.UpdateApiKey(extended)
    assert refused(session.RotateApiKey, RotateApiKeyRequest(id="keyadmin")) == (
        "FAILED_PRECONDITION",
        "API_KEY_REVOKED",
    )
    assert refused(keys.ListApiKeys, ListApiKeysRequest()) == UNAUTHENTICATED


def test_an_expired_key_does_not_extend_itself(fresh: World) -> None:
    fresh.prepare("update api_keys set expire_time = now() - interval '1 second' where id = 'keyadmin'")
    request = UpdateApiKeyRequest(api_key=ApiKey(id="keyadmin"), update_mask=FieldMask(paths=["expire_time"]))
    assert refused(fresh.api("write key").keys.UpdateApiKey, request) == UNAUTHENTICATED


def test_a_limited_key_does_not_reach_out(fresh: World) -> None:
    api = fresh.api("house key")
    assert refused(api.templates.GetTemplate, GetTemplateRequest(id="annex-template")) == NO_TEMPLATE
    assert refused(api.templates.UpdateTemplate, changed("annex-template", title="Mine")) == NO_TEMPLATE
    assert refused(api.templates.UpdateTemplate, changed("wide-admin", title="Mine")) == DENIED
    assert refused(api.templates.CreateTemplate, new_template()) == DENIED
    assert refused(api.templates.CreateTemplate, new_template("annex")) == NO_ORGANIZATION
    assert refused(api.users.DeleteUser, DeleteUserRequest(id="admin")) == DENIED
    platform_wide = SetSelectionRequest(template_type="kind", template_id="wide-admin")
    assert refused(api.selections.SetSelection, platform_wide) == DENIED
    in_annex = GetSelectionRequest(template_type="kind", organization_id="annex")
    assert refused(api.selections.GetSelection, in_annex) == NO_ORGANIZATION


def test_a_limited_key_does_not_see_wider_keys(fresh: World) -> None:
    keys = fresh.api("house key").keys
    for id in ("keyadmin", "keyadminread", "keyadminannex"):
        assert refused(keys.RotateApiKey, RotateApiKeyRequest(id=id)) == NO_KEY
        assert refused(keys.RevokeApiKey, RevokeApiKeyRequest(id=id)) == NO_KEY


def test_a_limited_key_of_the_platforms_admin_has_nothing_of_its_rights(fresh: World) -> None:
    fresh.prepare(
        "insert into organization_members (id, organization_id, user_id, role)"
        " values ('house-platform', 'house', 'platform', 'admin')"
    )
    made = fresh.api("platform").keys.CreateApiKey(new_key(organization="house"))
    api = fresh.bearing(made.secret)
    assert refused(api.types.CreateTemplateType, NEW_TYPE) == DENIED
    assert refused(api.templates.UpdateTemplate, changed("wide-default", title="Mine")) == DENIED
    assert api.templates.UpdateTemplate(changed("house-template", title="Mine")).title == "Mine"


def test_who_leaves_loses_the_keys_for_the_organization_also_on_coming_back(fresh: World) -> None:
    limited, unlimited = fresh.api("house key"), fresh.api("write key")
    leave(fresh, "admin")
    request = GetOrganizationRequest(id="house")
    assert refused(limited.organizations.GetOrganization, request) == UNAUTHENTICATED
    assert refused(unlimited.organizations.GetOrganization, request) == NO_ORGANIZATION
    back = Member(organization_id="house", user_id="admin", role=ADMINISTRATOR)
    fresh.api("platform").organizations.AddMember(AddMemberRequest(member=back))
    assert refused(limited.organizations.GetOrganization, request) == UNAUTHENTICATED
    assert unlimited.organizations.GetOrganization(request).id == "house"


def test_a_key_has_what_is_left_of_its_owners_rights(fresh: World) -> None:
    api = fresh.api("write key")
    demote(fresh, "admin")
    assert api.templates.GetTemplate(GetTemplateRequest(id="house-template")).id == "house-template"
    assert refused(api.templates.UpdateTemplate, changed("house-template", title="Mine")) == DENIED


def test_the_keys_of_a_deleted_user_are_refused(fresh: World) -> None:
    fresh.prepare("delete from templates")
    fresh.api("admin").users.DeleteUser(DeleteUserRequest(id="admin"))
    for name in ("write key", "read key", "house key"):
        assert refused(fresh.api(name).keys.ListApiKeys, ListApiKeysRequest()) == UNAUTHENTICATED


# Organizations


def test_a_viewer_creates_nothing_in_the_organization(fresh: World) -> None:
    service = fresh.api(Caller("writer for viewer", user="viewer", service=WRITER))
    for api in (fresh.api("viewer"), service):
        assert refused(api.templates.CreateTemplate, new_template("house")) == DENIED
        assert refused(api.templates.CreateTemplate, new_template("house", is_default=True)) == DENIED


@pytest.mark.parametrize("user", ["member", "author", "viewer"])
def test_a_member_does_not_set_the_default_of_the_organization(fresh: World, user: str) -> None:
    templates = fresh.api(user).templates
    assert refused(templates.CreateTemplate, new_template("house", is_default=True)) == DENIED
    assert refused(templates.UpdateTemplate, changed("house-template", is_default=True)) == DENIED
    assert refused(templates.UpdateTemplate, changed("house-template", "is_default", is_default=True)) == DENIED
    assert refused(templates.DeleteTemplate, DeleteTemplateRequest(id="house-default")) == DENIED


def test_a_member_does_not_make_itself_more(fresh: World) -> None:
    for user in ("viewer", "member", "author"):
        organizations = fresh.api(user).organizations
        promoted = UpdateMemberRequest(member=Member(id=f"house-{user}", role=ADMINISTRATOR))
        assert refused(organizations.UpdateMember, promoted) == DENIED
        again = AddMemberRequest(member=Member(organization_id="house", user_id=user, role=ADMINISTRATOR))
        assert refused(organizations.AddMember, again) == DENIED


def test_nobody_joins_an_organization_alone(fresh: World) -> None:
    for name in ("stranger", "removed", "writer", "writer for platform"):
        api = fresh.api(name)
        joined = AddMemberRequest(member=Member(organization_id="house", user_id="removed", role=ADMINISTRATOR))
        assert refused(api.organizations.AddMember, joined) == NO_ORGANIZATION


def test_an_author_who_was_demoted_reads_and_writes_no_more(fresh: World) -> None:
    demote(fresh, "author")
    templates = fresh.api("author").templates
    assert templates.GetTemplate(GetTemplateRequest(id="house-template")).user_id == "author"
    assert refused(templates.UpdateTemplate, changed("house-template", title="Mine")) == DENIED
    assert refused(templates.DeleteTemplate, DeleteTemplateRequest(id="house-template")) == DENIED
    assert refused(templates.CreateTemplate, new_template("house")) == DENIED
    assert templates.UpdateTemplate(changed("wide-author", title="Mine")).title == "Mine"


def test_an_author_who_was_removed_knows_nothing_of_its_templates(fresh: World) -> None:
    leave(fresh, "author")
    api = fresh.api("author")
    assert refused(api.templates.GetTemplate, GetTemplateRequest(id="house-template")) == NO_TEMPLATE
    assert refused(api.templates.UpdateTemplate, changed("house-template", title="Mine")) == NO_TEMPLATE
    assert refused(api.templates.DeleteTemplate, DeleteTemplateRequest(id="house-template")) == NO_TEMPLATE
    listed = api.templates.ListTemplates(ListTemplatesRequest(user_id="author")).templates
    assert {template.id for template in listed} == {"wide-author", "wide-default", "wide-labeled"}
    selections = api.selections.ListSelections(ListSelectionsRequest()).selections
    assert {selection.organization_id for selection in selections} == {""}
    resolved = ResolveTemplateRequest(template_type="kind", organization_id="house")
    assert refused(api.selections.ResolveTemplate, resolved) == NO_ORGANIZATION


def test_a_template_stays_in_its_organization(fresh: World) -> None:
    templates = fresh.api("admin").templates
    for id, to in (
        ("house-template", "annex"),
        ("house-template", ""),
        ("wide-admin", "house"),
        ("wide-admin", "foreign"),
    ):
        moved = changed(id, "organization_id", organization_id=to)
        assert refused(templates.UpdateTemplate, moved) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        ignored = templates.UpdateTemplate(changed(id, title="New", organization_id=to))
        assert ignored.organization_id == organization_of(id)


def test_a_template_keeps_its_author(fresh: World) -> None:
    templates = fresh.api("admin").templates
    taken = changed("house-template", "user_id", user_id="admin")
    assert refused(templates.UpdateTemplate, taken) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    everything = changed("house-template", "*", title="New", instructions="Do.", template_type="kind", model="gpt")
    everything.template.user_id = "admin"
    assert templates.UpdateTemplate(everything).user_id == "author"


# The platform


def test_the_author_of_the_platforms_default_does_not_unmake_it(fresh: World) -> None:
    templates = fresh.api("author").templates
    assert refused(templates.UpdateTemplate, changed("wide-default", "is_default")) == DENIED
    assert refused(templates.UpdateTemplate, changed("wide-default", template_type="spare")) == DENIED
    assert refused(templates.DeleteTemplate, DeleteTemplateRequest(id="wide-default")) == DENIED
    everything: dict[str, Any] = {"title": "T", "instructions": "Do.", "template_type": "kind", "model": "gpt"}
    assert refused(templates.UpdateTemplate, changed("wide-default", "*", **everything)) == DENIED
    kept = templates.UpdateTemplate(changed("wide-default", "*", **everything, is_default=True))
    assert kept.is_default


def test_nobody_takes_the_default_away_by_making_another(fresh: World) -> None:
    for name in ("author", "admin", "write key", "writer for platform", "writer for author"):
        templates = fresh.api(name).templates
        assert refused(templates.CreateTemplate, new_template(is_default=True)) == DENIED
    moved = changed("wide-author", template_type="spare", is_default=True)
    assert refused(fresh.api("author").templates.UpdateTemplate, moved) == DENIED


@pytest.mark.parametrize("user", ["platform", f"clerk:{PLATFORM_ADMIN}"])
def test_a_writer_for_the_platforms_admin_is_no_admin(fresh: World, user: str) -> None:
    api = fresh.api(Caller("writer", user=user, service=WRITER))
    assert refused(api.types.CreateTemplateType, NEW_TYPE) == DENIED
    assert refused(api.templates.UpdateTemplate, changed("wide-author", title="Mine")) == DENIED
    assert refused(api.templates.CreateTemplate, new_template(is_default=True)) == DENIED


def test_a_writer_gets_no_key_of_the_platforms_admin(fresh: World) -> None:
    """With such a key it would be an administrator."""
    keys = fresh.api("writer for platform").keys
    assert refused(keys.CreateApiKey, new_key()) == DENIED
    assert refused(keys.RotateApiKey, RotateApiKeyRequest(id="keyplatform")) == DENIED


def test_a_key_that_a_service_made_for_a_user_has_the_users_rights(fresh: World) -> None:
    made = fresh.api("writer for author").keys.CreateApiKey(new_key())
    api = fresh.bearing(made.secret)
    assert made.api_key.user_id == "author"
    assert refused(api.types.CreateTemplateType, NEW_TYPE) == DENIED
    assert refused(api.users.GetUser, GetUserRequest(id="recluse")) == NO_USER


@pytest.mark.parametrize("user", ["viewer", "author"])
def test_an_admin_service_for_a_user_is_no_admin(fresh: World, user: str) -> None:
    api = fresh.api(Caller("root", user=user, service=ADMIN))
    assert refused(api.types.CreateTemplateType, NEW_TYPE) == DENIED
    assert refused(api.users.GetUser, GetUserRequest(id="recluse")) == NO_USER


def test_a_reader_service_calls_for_nobody(fresh: World) -> None:
    api = fresh.api(Caller("reader", user="author", service="spiffe://mesh/reader"))
    assert refused(api.users.GetUser, GetUserRequest(id="author")) == UNAUTHENTICATED


def test_a_service_for_a_user_reads_nothing_of_another(fresh: World) -> None:
    api = fresh.api("writer for author")
    assert refused(api.users.GetUser, GetUserRequest(id="recluse")) == NO_USER
    assert refused(api.selections.ListSelections, ListSelectionsRequest(user_id="member")) == NO_USER
    assert refused(api.keys.ListApiKeys, ListApiKeysRequest(user_id="member")) == NO_USER
    assert refused(api.organizations.ListOrganizations, ListOrganizationsRequest(user_id="stranger")) == NO_USER


def test_the_platforms_admin_reads_no_organization(fresh: World) -> None:
    for name in ("platform", "root", "root for platform"):
        listed = fresh.api(name).templates.ListTemplates(ListTemplatesRequest()).templates
        assert {template.organization_id for template in listed} == {""}


def test_the_platforms_admin_is_in_an_organization_what_its_role_there_is(fresh: World) -> None:
    fresh.prepare(
        "insert into organization_members (id, organization_id, user_id, role)"
        " values ('house-platform', 'house', 'platform', 'viewer')"
    )
    for name in ("platform", "root for platform"):
        api = fresh.api(name)
        assert api.templates.GetTemplate(GetTemplateRequest(id="house-template")).id == "house-template"
        assert refused(api.templates.UpdateTemplate, changed("house-template", title="Mine")) == DENIED
        assert refused(api.templates.UpdateTemplate, changed("house-default", "is_default")) == DENIED
        assert refused(api.templates.CreateTemplate, new_template("house")) == DENIED
        again = Member(id="house-platform", role=ADMINISTRATOR)
        assert refused(api.organizations.UpdateMember, UpdateMemberRequest(member=again)) == DENIED


def test_who_deletes_itself_comes_back_with_nothing(fresh: World) -> None:
    fresh.prepare("delete from templates")
    api = fresh.api("admin")
    api.users.DeleteUser(DeleteUserRequest(id="admin"))
    assert not api.organizations.ListOrganizations(ListOrganizationsRequest()).organizations
    assert not api.keys.ListApiKeys(ListApiKeysRequest()).api_keys
    assert refused(api.users.GetUser, GetUserRequest(id="admin")) == NO_USER


# What is read


@pytest.mark.parametrize("id", ["foreign-template", "annex-template", "house-removed"])
@pytest.mark.parametrize("organization", ["", "foreign"])
def test_a_foreign_template_is_not_selected_by_its_id(fresh: World, id: str, organization: str) -> None:
    def attempt(id: str) -> Failure:
        request = SetSelectionRequest(template_type="kind", template_id=id, organization_id=organization)
        return fails(fresh.api("stranger").selections.SetSelection, request)

    if id == "foreign-template":
        id = "house-template"
    found, missing = attempt(id), attempt("missing")
    assert (found.code, found.reason, found.message) == (missing.code, missing.reason, missing.message)
    assert found.metadata == {"id": id}


def test_a_template_of_an_organization_is_not_selected_beyond_it(fresh: World) -> None:
    selections = fresh.api("admin").selections
    for organization in ("", "annex"):
        request = SetSelectionRequest(template_type="kind", template_id="house-template", organization_id=organization)
        assert refused(selections.SetSelection, request)[1] == "TEMPLATE_ORGANIZATION_MISMATCH"


def test_the_default_of_an_organization_holds_in_it_alone(fresh: World) -> None:
    fresh.prepare("delete from user_template_selections")
    for name in ("author", "stranger", "admin"):
        resolved = fresh.api(name).selections.ResolveTemplate(ResolveTemplateRequest(template_type="kind"))
        assert resolved.template.id == "wide-default"


def test_the_full_view_has_no_details_of_another_organization(fresh: World) -> None:
    for name in ("stranger", "viewer", "platform", "house key", "root"):
        answer = fresh.api(name).templates.ListTemplates(ListTemplatesRequest(view=FULL))
        caller_reads = {template.organization_id for template in answer.templates}
        hidden = set(MEMBERS) - caller_reads
        assert not [word for word in hidden if word in str(answer).lower()]
        assert "recluse" not in str(answer)


def test_a_batch_of_own_and_foreign_templates_names_the_foreign_as_missing(fresh: World) -> None:
    templates = fresh.api("author").templates
    request = BatchGetTemplatesRequest(ids=["house-template", "foreign-template", "wide-author", "missing"], view=FULL)
    failure = fails(templates.BatchGetTemplates, request)
    assert (failure.code.name, failure.reason) == NO_TEMPLATE
    assert failure.metadata == {"ids": "foreign-template,missing"}
    swapped = BatchGetTemplatesRequest(ids=["house-template", "other", "wide-author", "missing"], view=FULL)
    assert fails(templates.BatchGetTemplates, swapped).message == failure.message.replace("foreign-template", "other")


def test_a_batch_that_is_resolved_beyond_ones_organizations_is_refused_as_a_whole(fresh: World) -> None:
    request = BatchResolveTemplatesRequest(template_types=["kind", "spare"], organization_id="foreign")
    assert refused(fresh.api("author").selections.BatchResolveTemplates, request) == NO_ORGANIZATION


@pytest.mark.parametrize(
    "filters",
    [
        {"user_id": "stranger"},
        {"user_id": "deputy"},
        {"model": "gpt"},
        {"query": "foreign"},
        {"query": "about"},
        {"is_default": True},
        {"template_type": "kind"},
        {"template_type": "kind", "model": "gpt", "user_id": "stranger", "query": "foreign", "is_default": False},
    ],
    ids=str,
)
def test_no_filter_lists_what_is_foreign(fresh: World, filters: dict[str, Any]) -> None:
    for name in ("viewer", "author", "admin", "platform", "reader", "writer for author", "house key", "removed"):
        listed = fresh.api(name).templates.ListTemplates(ListTemplatesRequest(**filters)).templates
        assert "foreign" not in {template.organization_id for template in listed}


def test_a_page_token_of_another_caller_shows_no_more(fresh: World) -> None:
    readers = ("stranger", "viewer", "platform", "house key")
    for giver in readers:
        pages = [ListTemplatesRequest(page_size=1)]
        while token := fresh.api(giver).templates.ListTemplates(pages[-1]).next_page_token:
            pages.append(ListTemplatesRequest(page_size=1, page_token=token))
        for taker in readers:
            seen = {
                template.organization_id
                for page in pages
                for template in fresh.api(taker).templates.ListTemplates(page).templates
            }
            own = {"stranger": "foreign", "viewer": "house", "house key": "house", "platform": ""}[taker]
            assert seen <= {"", own}


def test_a_page_token_of_anothers_list_shows_nothing_of_it(fresh: World) -> None:
    page = fresh.api("stranger").organizations.ListMembers(ListMembersRequest(organization_id="foreign", page_size=1))
    stolen = ListMembersRequest(organization_id="foreign", page_size=1, page_token=page.next_page_token)
    assert refused(fresh.api("admin").organizations.ListMembers, stolen) == NO_ORGANIZATION
    admin = fresh.api("admin")
    keys = admin.keys.ListApiKeys(ListApiKeysRequest(page_size=1)).next_page_token
    answer = fresh.api("viewer").keys.ListApiKeys(ListApiKeysRequest(page_size=1, page_token=keys))
    assert {key.user_id for key in answer.api_keys} <= {"viewer"}
    selections = admin.selections.ListSelections(ListSelectionsRequest(page_size=1)).next_page_token
    listed = fresh.api("author").selections.ListSelections(ListSelectionsRequest(page_size=9, page_token=selections))
    assert {selection.user_id for selection in listed.selections} <= {"author"}
    limited = fresh.api("house key").selections.ListSelections(
        ListSelectionsRequest(page_size=9, page_token=selections)
    )
    assert {selection.organization_id for selection in limited.selections} <= {"", "house"}


def test_the_organizations_of_another_are_not_named(fresh: World) -> None:
    for name in ("viewer", "platform", "write key", "root for platform"):
        request = ListOrganizationsRequest(user_id="stranger")
        failure = fails(fresh.api(name).organizations.ListOrganizations, request)
        assert (failure.code.name, failure.reason, failure.metadata) == (*NO_USER, {"id": "stranger"})


# What errors tell


def test_an_error_counts_nothing_for_whoever_may_not_write(fresh: World) -> None:
    deleted = DeleteOrganizationRequest(id="house")
    assert fails(fresh.api("viewer").organizations.DeleteOrganization, deleted).metadata == {}
    assert fails(fresh.api("stranger").organizations.DeleteOrganization, deleted).metadata == {"id": "house"}
    assert fails(fresh.api("admin").organizations.DeleteOrganization, deleted).metadata == {"templates": "5"}
    moved = changed("house-selected", template_type="spare")
    assert fails(fresh.api("member").templates.UpdateTemplate, moved).metadata == {}
    assert fails(fresh.api("stranger").templates.UpdateTemplate, moved).metadata == {"id": "house-selected"}
    assert fails(fresh.api("admin").templates.UpdateTemplate, moved).metadata == {"selections": "5"}
    gone = DeleteUserRequest(id="author")
    assert fails(fresh.api("viewer").users.DeleteUser, gone).metadata == {"id": "author"}


def test_an_error_tells_no_etag_to_whoever_may_not_write(fresh: World) -> None:
    stale = DeleteTemplateRequest(id="house-template", etag="stale")
    assert fails(fresh.api("member").templates.DeleteTemplate, stale).metadata == {}
    assert fails(fresh.api("stranger").templates.DeleteTemplate, stale).metadata == {"id": "house-template"}
    organization = DeleteOrganizationRequest(id="house", etag="stale")
    assert fails(fresh.api("viewer").organizations.DeleteOrganization, organization).metadata == {}
    member = RemoveMemberRequest(id="house-viewer", etag="stale")
    assert fails(fresh.api("stranger").organizations.RemoveMember, member).metadata == {"id": "house-viewer"}
    key = RevokeApiKeyRequest(id="keyadmin", etag="stale")
    assert fails(fresh.api("house key").keys.RevokeApiKey, key).metadata == {"id": "keyadmin"}


def test_who_may_not_write_does_not_learn_that_there_is_one_admin(fresh: World) -> None:
    fresh.prepare("delete from organization_members where id = 'house-deputy'")
    removed = RemoveMemberRequest(id="house-admin")
    assert refused(fresh.api("viewer").organizations.RemoveMember, removed) == DENIED
    assert refused(fresh.api("stranger").organizations.RemoveMember, removed) == ("NOT_FOUND", "MEMBER_NOT_FOUND")
    assert refused(fresh.api("admin").organizations.RemoveMember, removed) == ("FAILED_PRECONDITION", "LAST_ADMIN")


def test_a_member_that_is_there_is_told_to_admins_alone(fresh: World) -> None:
    body = Member(organization_id="foreign", user_id="stranger", role=ADMINISTRATOR)
    assert refused(fresh.api("admin").organizations.AddMember, AddMemberRequest(member=body)) == NO_ORGANIZATION


# Requests that are sent again


def test_two_users_with_one_request_id_get_their_own_answers(fresh: World) -> None:
    request = new_template()
    request.request_id = "order-17"
    answers = [fresh.api(user).templates.CreateTemplate(request) for user in ("author", "stranger", "platform")]
    assert [template.user_id for template in answers] == ["author", "stranger", "platform"]
    assert len({template.id for template in answers}) == 3


def test_a_service_and_its_user_do_not_share_request_ids(fresh: World) -> None:
    request = new_template()
    request.request_id = "order-17"
    names = ("author", "writer for author")
    assert len({fresh.api(name).templates.CreateTemplate(request).id for name in names}) == 2


def test_a_narrower_key_replays_no_write_that_ended_its_own_right_elsewhere(fresh: World) -> None:
    demoted = Member(id="house-admin", role=OrganizationRole.ORGANIZATION_ROLE_MEMBER)
    request = UpdateMemberRequest(member=demoted, request_id="order-17")
    fresh.api("admin").organizations.UpdateMember(request)
    annex: Api = fresh.bearing(bearer("keyadminannex"))
    with pytest.raises(grpc.RpcError):
        annex.organizations.UpdateMember(request)


def test_the_secret_of_a_key_is_not_replayed(fresh: World) -> None:
    request = new_key()
    request.request_id = "order-17"
    first = fresh.api("admin").keys.CreateApiKey(request)
    assert first.secret
    for name in ("admin", "write key"):
        again = fresh.api(name).keys.CreateApiKey(request)
        assert (again.api_key.id, again.secret) == (first.api_key.id, "")


def test_who_may_not_make_a_call_is_not_told_that_its_request_id_was_used(fresh: World) -> None:
    request = changed("house-template", title="New")
    request.request_id = "order-17"
    fresh.api("author").templates.UpdateTemplate(request)
    leave(fresh, "author")
    assert refused(fresh.api("author").templates.UpdateTemplate, request) == NO_TEMPLATE


def test_selections_of_another_are_not_touched(fresh: World) -> None:
    selections = fresh.api("stranger").selections
    for user in ("author", "recluse", "missing"):
        deleted = DeleteSelectionRequest(user_id=user, template_type="kind")
        assert refused(selections.DeleteSelection, deleted) == NO_USER


def test_every_author_of_the_world_is_real() -> None:
    """A template of the world that nobody wrote would prove nothing."""
    assert {organization_of(id) for id in TEMPLATES} == {"", *MEMBERS}
