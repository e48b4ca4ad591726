"""TemplateTypeService, through its stub: the types. The tools of a type have a file of their own."""

import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from omniflo.templates.v1.template_type_pb2 import TemplateType
from omniflo.templates.v1.template_type_service_pb2 import (
    CreateTemplateTypeRequest,
    DeleteTemplateToolRequest,
    DeleteTemplateTypeRequest,
    GetTemplateToolRequest,
    GetTemplateTypeRequest,
    ListTemplateTypesRequest,
    UpdateTemplateTypeRequest,
)
from tests.conftest import Api, fails
from tests.contract import samples
from tests.contract.samples import FUNCTION, SCHEMA
from tests.contract.walks import walk

pytestmark = pytest.mark.modes


def create(api: Api, name: str, description: str = "") -> TemplateType:
    body = TemplateType(name=name, description=description)
    return api.types.CreateTemplateType(CreateTemplateTypeRequest(template_type=body))


def names(api: Api) -> list[str]:
    return [found.name for found in api.types.ListTemplateTypes(ListTemplateTypesRequest()).template_types]


def test_create_answers_a_type_without_tools(api: Api) -> None:
    created = create(api, "data-export", "Writes what was found.")
    assert created.id
    assert created.etag
    assert (created.name, created.description) == ("data-export", "Writes what was found.")
    assert not created.tools
    assert api.types.GetTemplateType(GetTemplateTypeRequest(id=created.id)) == created


def test_create_refuses_a_name_that_is_taken(api: Api) -> None:
    created = create(api, "data-export", "The first.")
    failure = fails(create, api, "data-export", "The second.")
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "TEMPLATE_TYPE_ALREADY_EXISTS")
    assert failure.metadata == {"field": "template_type.name"}
    assert api.types.GetTemplateType(GetTemplateTypeRequest(name="data-export")) == created


@pytest.mark.parametrize("name", ["a", "7", "data-export", "a-b-c", "v2", "2024-report", "a" * 64])
def test_a_name_is_lower_case_words_joined_by_hyphens(api: Api, name: str) -> None:
    assert create(api, name).name == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Data",
            "data_export",
            "data export",
            "-data",
            "data-",
            "data--export",
            "-",
            "datä",
            "data.",
            " data",
            "data\n",
        ),
        *("a" * 65, "\N{ROMAN NUMERAL ONE}", "\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_another_name_is_refused(api: Api, name: str) -> None:
    failure = fails(create, api, name)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["template_type.name"]
    assert names(api) == []


def test_create_wants_a_name(api: Api) -> None:
    failure = fails(create, api, "")
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert failure.violations == {"template_type.name": "is required"}


def test_get_answers_by_either_key_with_the_tools_by_name(api: Api) -> None:
    name = api.type().name
    tools = {tool: api.tool(template_type=name, name=tool) for tool in ("b", "a", "B", "_")}
    api.tool()
    by_name = api.types.GetTemplateType(GetTemplateTypeRequest(name=name))
    assert list(by_name.tools) == [tools["B"], tools["_"], tools["a"], tools["b"]]
    assert api.types.GetTemplateType(GetTemplateTypeRequest(id=by_name.id)) == by_name


@pytest.mark.parametrize("key", ["id", "name"])
def test_get_names_the_key_that_no_type_has(api: Api, key: str) -> None:
    request = GetTemplateTypeRequest(id="none") if key == "id" else GetTemplateTypeRequest(name="none")
    failure = fails(api.types.GetTemplateType, request)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_NOT_FOUND")
    assert failure.metadata == {key: "none"}


def test_get_wants_a_key(api: Api) -> None:
    failure = fails(api.types.GetTemplateType, GetTemplateTypeRequest())
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["key"]


def test_list_is_by_name_in_the_order_of_bytes_with_the_tools(api: Api) -> None:
    for name in ("b", "a", "a-b", "ab", "a2", "2"):
        create(api, name)
    tool = api.tool(template_type="a", type=FUNCTION, schema=SCHEMA)
    assert names(api) == ["2", "a", "a-b", "a2", "ab", "b"]
    listed = api.types.ListTemplateTypes(ListTemplateTypesRequest()).template_types
    assert [list(found.tools) for found in listed] == [[], [tool], [], [], [], []]


def test_pages_end_before_3_mib_and_are_walked_to_the_end(api: Api) -> None:
    schema = SCHEMA + " " * (65536 - len(SCHEMA))
    for owner in ("a", "b", "c", "d", "e"):
        create(api, owner)
        for number in range(16):
            api.tool(template_type=owner, name=f"{owner}-{number}", type=FUNCTION, schema=schema)
    pages = list(walk(api.types.ListTemplateTypes, ListTemplateTypesRequest()))
    assert [[found.name for found in page.template_types] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
    assert max(page.ByteSize() for page in pages) <= 3 * 1024 * 1024


def test_the_largest_type_is_answered_to_a_client_with_default_limits(api: Api) -> None:
    name = samples.largest_type(api)
    found = api.types.GetTemplateType(GetTemplateTypeRequest(name=name))
    assert len(found.tools) == 128
    assert api.types.ListTemplateTypes(ListTemplateTypesRequest()).template_types == [found]


def test_update_writes_the_description_and_keeps_the_tools(api: Api) -> None:
    tool = api.tool()
    before = api.types.GetTemplateType(GetTemplateTypeRequest(name=tool.template_type))
    body = TemplateType(id=before.id, description="Another purpose.", etag=before.etag)
    after = api.types.UpdateTemplateType(UpdateTemplateTypeRequest(template_type=body))
    assert after.description == "Another purpose."
    assert list(after.tools) == [tool]
    assert after.etag != before.etag
    assert api.types.GetTemplateType(GetTemplateTypeRequest(id=before.id)) == after


def test_update_names_an_unknown_id(api: Api) -> None:
    body = TemplateType(id="none", description="Another purpose.")
    failure = fails(api.types.UpdateTemplateType, UpdateTemplateTypeRequest(template_type=body))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_a_change_of_a_tool_makes_the_etag_of_its_type_stale(api: Api) -> None:
    before = api.type()
    tool = api.tool(template_type=before.name)
    body = TemplateType(id=before.id, description="Another purpose.", etag=before.etag)
    failure = fails(api.types.UpdateTemplateType, UpdateTemplateTypeRequest(template_type=body))
    assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
    current = api.types.GetTemplateType(GetTemplateTypeRequest(id=before.id)).etag
    assert failure.metadata == {"etag": current}
    api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=tool.id))
    delete = DeleteTemplateTypeRequest(id=before.id, etag=current)
    assert fails(api.types.DeleteTemplateType, delete).reason == "ETAG_MISMATCH"


def test_delete_takes_the_tools_along(api: Api) -> None:
    tool = api.tool()
    other = api.tool()
    found = api.types.GetTemplateType(GetTemplateTypeRequest(name=tool.template_type))
    assert api.types.DeleteTemplateType(DeleteTemplateTypeRequest(id=found.id, etag=found.etag)) == Empty()
    gone = GetTemplateTypeRequest(name=tool.template_type)
    assert fails(api.types.GetTemplateType, gone).reason == "TEMPLATE_TYPE_NOT_FOUND"
    failure = fails(api.types.GetTemplateTool, GetTemplateToolRequest(id=tool.id))
    assert failure.reason == "TEMPLATE_TOOL_NOT_FOUND"
    assert api.types.GetTemplateTool(GetTemplateToolRequest(id=other.id)) == other


def test_a_name_is_free_again_after_its_type_is_deleted(api: Api) -> None:
    old = create(api, "data-export")
    api.types.DeleteTemplateType(DeleteTemplateTypeRequest(id=old.id))
    new = create(api, "data-export")
    assert new.id != old.id
    assert new.etag != old.etag


def test_delete_refuses_a_type_with_templates_and_deletes_nothing(api: Api) -> None:
    tool = api.tool()
    before = api.types.GetTemplateType(GetTemplateTypeRequest(name=tool.template_type))
    for _ in range(3):
        api.template(template_type=before.name)
    failure = fails(api.types.DeleteTemplateType, DeleteTemplateTypeRequest(id=before.id))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_TYPE_IN_USE")
    assert failure.metadata == {"templates": "3"}
    assert api.types.GetTemplateType(GetTemplateTypeRequest(id=before.id)) == before


def test_delete_names_an_unknown_id(api: Api) -> None:
    failure = fails(api.types.DeleteTemplateType, DeleteTemplateTypeRequest(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_NOT_FOUND")
    assert failure.metadata == {"id": "none"}
