"""TemplateTypeService, through its stub: the tools of a type. What a schema may be has a file of its own."""

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from grpc import StatusCode

from omniflo.templates.v1.template_type_pb2 import (
    CodeInterpreterConfig,
    FileSearchConfig,
    OpenAIToolType,
    TemplateTool,
    TemplateType,
)
from omniflo.templates.v1.template_type_service_pb2 import (
    DeleteTemplateToolRequest,
    GetTemplateToolRequest,
    GetTemplateTypeRequest,
    ListTemplateToolsRequest,
    UpdateTemplateToolRequest,
)
from tests.conftest import Api, Failure, fails
from tests.contract.samples import SCHEMA

pytestmark = pytest.mark.modes

SEARCH = OpenAIToolType.OPEN_AI_TOOL_TYPE_FILE_SEARCH
INTERPRETER = OpenAIToolType.OPEN_AI_TOOL_TYPE_CODE_INTERPRETER
FUNCTION = OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION

STORES = FileSearchConfig(vector_store_ids=["vs_1", "vs_2"], max_num_results=20)
FILES = CodeInterpreterConfig(file_ids=["file-1"], memory_limit="4g")

KINDS: dict[str, dict[str, Any]] = {
    "file search": {"type": SEARCH},
    "file search with its settings": {"type": SEARCH, "file_search": STORES},
    "file search with empty settings": {"type": SEARCH, "file_search": FileSearchConfig()},
    "code interpreter": {"type": INTERPRETER},
    "code interpreter with its settings": {"type": INTERPRETER, "code_interpreter": FILES},
    "code interpreter with empty settings": {"type": INTERPRETER, "code_interpreter": CodeInterpreterConfig()},
    "function": {"type": FUNCTION, "schema": SCHEMA},
    "function that is to be strict": {"type": FUNCTION, "schema": SCHEMA, "strict": True},
    "function that is not to be strict": {"type": FUNCTION, "schema": SCHEMA, "strict": False},
}

MISFITS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "function without a schema": ({"type": FUNCTION}, {"schema"}),
    "file search with a schema": ({"type": SEARCH, "schema": SCHEMA}, {"schema"}),
    "code interpreter with a schema": ({"type": INTERPRETER, "schema": SCHEMA}, {"schema"}),
    "function with settings": ({"type": FUNCTION, "schema": SCHEMA, "file_search": STORES}, {"file_search"}),
    "file search with other settings": ({"type": SEARCH, "code_interpreter": FILES}, {"code_interpreter"}),
    "code interpreter with other settings": ({"type": INTERPRETER, "file_search": STORES}, {"file_search"}),
    "empty settings of another": ({"type": INTERPRETER, "file_search": FileSearchConfig()}, {"file_search"}),
    "strict file search": ({"type": SEARCH, "strict": True}, {"strict"}),
    "code interpreter that is not strict": ({"type": INTERPRETER, "strict": False}, {"strict"}),
    "all wrong": ({"type": FUNCTION, "file_search": STORES}, {"schema", "file_search"}),
}


def get(api: Api, tool: TemplateTool) -> TemplateTool:
    return api.types.GetTemplateTool(GetTemplateToolRequest(id=tool.id))


def owner(api: Api, tool: TemplateTool) -> TemplateType:
    return api.types.GetTemplateType(GetTemplateTypeRequest(name=tool.template_type))


def update(api: Api, tool: TemplateTool, *paths: str, **fields: Any) -> TemplateTool:
    request = UpdateTemplateToolRequest(
        template_tool=TemplateTool(id=tool.id, **fields), update_mask=FieldMask(paths=paths)
    )
    return api.types.UpdateTemplateTool(request)


def assert_invalid(failure: Failure, *names: str) -> None:
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(failure.violations) == {f"template_tool.{name}" for name in names}


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_create_answers_each_kind_of_tool_as_it_was_sent(api: Api, fields: dict[str, Any]) -> None:
    name = api.type().name
    created = api.tool(template_type=name, name="Read-the_Docs2", description="For reading.", **fields)
    assert created.id
    assert created.etag
    sent = TemplateTool(template_type=name, name="Read-the_Docs2", description="For reading.", **fields)
    sent.id, sent.etag = created.id, created.etag
    sent.create_time.CopyFrom(created.create_time)
    sent.update_time.CopyFrom(created.update_time)
    assert created == sent
    assert get(api, created) == created
    assert list(owner(api, created).tools) == [created]


@pytest.mark.parametrize(("fields", "named"), MISFITS.values(), ids=MISFITS)
def test_create_refuses_what_does_not_fit_the_type(api: Api, fields: dict[str, Any], named: set[str]) -> None:
    name = api.type().name
    assert_invalid(fails(api.tool, template_type=name, **fields), *named)
    assert not api.types.ListTemplateTools(ListTemplateToolsRequest(template_type=name)).template_tools


def test_create_wants_a_type_a_name_and_what_the_tool_is(api: Api) -> None:
    failure = fails(api.tool, name="", type=0)
    assert_invalid(failure, "name", "type")
    assert set(failure.violations.values()) == {"is required"}


@pytest.mark.parametrize("name", ["a", "_", "-", "7", "Read-the_Docs2", "x" * 64])
def test_a_name_is_of_letters_digits_and_two_signs(api: Api, name: str) -> None:
    assert api.tool(name=name).name == name


@pytest.mark.parametrize("name", ["a b", "a.b", "ä", "a/b", "a\n", "\N{ARABIC-INDIC DIGIT ONE}", "x" * 65])
def test_another_name_is_refused(api: Api, name: str) -> None:
    assert_invalid(fails(api.tool, name=name), "name")


def test_create_names_an_unknown_type(api: Api) -> None:
    failure = fails(api.tool, template_type="none")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_NOT_FOUND")
    assert failure.metadata == {"name": "none"}


def test_a_name_and_type_are_taken_in_every_template_type(api: Api) -> None:
    api.tool(name="read", type=SEARCH)
    failure = fails(api.tool, name="read", type=SEARCH)
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "TEMPLATE_TOOL_ALREADY_EXISTS")
    assert failure.metadata == {"field": "template_tool.name"}
    assert api.tool(name="read", type=INTERPRETER).name == "read"
    assert api.tool(name="Read", type=SEARCH).name == "Read"


@pytest.mark.parametrize(("number", "is_fine"), [(0, False), (1, True), (50, True), (51, False), (-1, False)])
def test_a_search_has_1_to_50_results(api: Api, number: int, is_fine: bool) -> None:
    config = FileSearchConfig(max_num_results=number)
    if is_fine:
        assert api.tool(file_search=config).file_search.max_num_results == number
    else:
        assert_invalid(fails(api.tool, file_search=config), "file_search.max_num_results")


def test_an_unset_number_of_results_stays_unset(api: Api) -> None:
    assert not api.tool(file_search=FileSearchConfig(vector_store_ids=["vs_1"])).file_search.HasField("max_num_results")


@pytest.mark.parametrize("id", ["", "a b", "é", "x" * 129])
def test_an_identifier_of_openai_is_printable_ascii(api: Api, id: str) -> None:
    failure = fails(api.tool, file_search=FileSearchConfig(vector_store_ids=["ok", id]))
    assert_invalid(failure, "file_search.vector_store_ids[1]")
    failure = fails(api.tool, type=INTERPRETER, code_interpreter=CodeInterpreterConfig(file_ids=[id]))
    assert_invalid(failure, "code_interpreter.file_ids[0]")


def test_get_names_an_unknown_id(api: Api) -> None:
    failure = fails(api.types.GetTemplateTool, GetTemplateToolRequest(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TOOL_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_list_answers_the_tools_of_one_type_by_name(api: Api) -> None:
    name = api.type().name
    tools = {tool: api.tool(template_type=name, name=tool) for tool in ("b", "B", "a", "7")}
    api.tool()
    listed = api.types.ListTemplateTools(ListTemplateToolsRequest(template_type=name))
    assert list(listed.template_tools) == [tools["7"], tools["B"], tools["a"], tools["b"]]
    assert not listed.next_page_token


def test_list_tells_an_unknown_type_from_one_without_tools(api: Api) -> None:
    name = api.type().name
    assert not api.types.ListTemplateTools(ListTemplateToolsRequest(template_type=name)).template_tools
    failure = fails(api.types.ListTemplateTools, ListTemplateToolsRequest(template_type="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TYPE_NOT_FOUND")
    assert failure.metadata == {"name": "none"}


def test_update_names_an_unknown_id(api: Api) -> None:
    failure = fails(update, api, TemplateTool(id="none"), "description")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TOOL_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_update_refuses_a_name_that_is_taken(api: Api) -> None:
    api.tool(name="read")
    tool = api.tool(name="write")
    before = owner(api, tool)
    failure = fails(update, api, tool, name="read")
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "TEMPLATE_TOOL_ALREADY_EXISTS")
    assert failure.metadata == {"field": "template_tool.name"}
    assert owner(api, tool) == before


@pytest.mark.parametrize(
    ("kind", "paths", "fields", "left"),
    [
        ("file search", (), {"file_search": STORES}, STORES),
        ("file search", ("file_search",), {"file_search": STORES}, STORES),
        ("file search", ("code_interpreter",), {"file_search": STORES}, None),
        ("file search with its settings", ("description",), {}, STORES),
        ("file search with its settings", ("file_search",), {}, None),
        ("file search with its settings", ("code_interpreter",), {}, STORES),
        ("file search with its settings", ("file_search", "code_interpreter"), {}, None),
        ("file search with its settings", (), {"file_search": FileSearchConfig()}, FileSearchConfig()),
        ("file search with its settings", ("type", "file_search"), {"type": INTERPRETER}, None),
        ("file search with its settings", (), {"type": INTERPRETER, "code_interpreter": FILES}, FILES),
        (
            "file search with its settings",
            ("code_interpreter", "type"),
            {"type": INTERPRETER, "code_interpreter": FILES},
            FILES,
        ),
        ("code interpreter with its settings", (), {"type": SEARCH, "file_search": STORES}, STORES),
        ("code interpreter with its settings", ("code_interpreter",), {}, None),
        ("code interpreter with its settings", ("file_search",), {}, FILES),
        ("code interpreter with its settings", ("*",), {"name": "x", "type": SEARCH}, None),
        ("code interpreter with its settings", ("*",), {"name": "x", "type": SEARCH, "file_search": STORES}, STORES),
    ],
)
def test_a_mask_names_a_member_of_the_settings(
    api: Api, kind: str, paths: tuple[str, ...], fields: dict[str, Any], left: Message | None
) -> None:
    tool = api.tool(**KINDS[kind])
    after = update(api, tool, *paths, **fields)
    assert after == get(api, tool)
    member = after.WhichOneof("config")
    assert (member and getattr(after, member)) == left


@pytest.mark.parametrize(
    ("kind", "paths", "fields", "named"),
    [
        ("function", ("schema",), {}, {"schema"}),
        ("function", ("type",), {"type": SEARCH}, {"schema"}),
        ("function", ("type", "schema"), {"type": FUNCTION}, {"schema"}),
        ("function", (), {"file_search": STORES}, {"file_search"}),
        ("file search", (), {"type": FUNCTION}, {"schema"}),
        ("file search", (), {"schema": SCHEMA}, {"schema"}),
        ("file search", ("*",), {"name": "x", "type": FUNCTION}, {"schema"}),
        ("file search with its settings", (), {"type": INTERPRETER}, {"file_search"}),
        ("file search with its settings", (), {"code_interpreter": FILES}, {"code_interpreter"}),
        ("file search with its settings", (), {"type": FUNCTION, "schema": SCHEMA}, {"file_search"}),
        ("code interpreter with its settings", (), {"type": FUNCTION}, {"schema", "code_interpreter"}),
        ("file search", ("schema",), {"schema": "{}"}, {"schema"}),
        ("function", (), {"schema": "{}"}, {"schema"}),
        ("file search", ("*",), {}, {"name", "type"}),
        ("file search", (), {"strict": False}, {"strict"}),
        ("function that is not to be strict", ("type", "schema"), {"type": SEARCH}, {"strict"}),
    ],
)
def test_an_update_must_leave_a_tool_that_could_have_been_created(
    api: Api, kind: str, paths: tuple[str, ...], fields: dict[str, Any], named: set[str]
) -> None:
    tool = api.tool(**KINDS[kind])
    before = owner(api, tool)
    assert_invalid(fails(update, api, tool, *paths, **fields), *named)
    assert get(api, tool) == tool
    assert owner(api, tool) == before


def test_an_update_may_make_a_function_of_a_tool_and_back(api: Api) -> None:
    tool = api.tool(**KINDS["file search with its settings"])
    made = update(api, tool, "type", "schema", "file_search", type=FUNCTION, schema=SCHEMA)
    assert (made.type, made.schema, made.WhichOneof("config")) == (FUNCTION, SCHEMA, None)
    back = update(api, tool, "type", "schema", "file_search", type=SEARCH, file_search=STORES)
    assert (back.type, back.schema, back.file_search) == (SEARCH, "", STORES)


def test_a_wish_for_strict_may_be_written_and_taken_back(api: Api) -> None:
    tool = api.tool(**KINDS["function"])
    assert not tool.HasField("strict")
    for wish in (True, False):
        after = update(api, tool, strict=wish)
        assert (after.HasField("strict"), after.strict) == (True, wish)
        assert after == get(api, tool)
        assert list(owner(api, tool).tools) == [after]
    assert update(api, tool, description="Another.").HasField("strict")
    assert not update(api, tool, "strict").HasField("strict")


def test_every_change_of_a_tool_raises_the_etag_and_the_time_of_its_type(api: Api) -> None:
    name = api.type().name
    tool = api.tool(template_type=name)
    seen = [owner(api, tool)]
    update(api, tool, description="Another.")
    seen.append(owner(api, tool))
    other = api.tool(template_type=name)
    seen.append(owner(api, tool))
    api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=other.id))
    seen.append(owner(api, tool))
    assert len({found.etag for found in seen}) == 4
    times = [found.update_time.ToNanoseconds() for found in seen]
    assert times == sorted(set(times))


def test_an_update_of_a_tool_that_changes_nothing_keeps_the_etag_of_its_type(api: Api) -> None:
    tool = api.tool(**KINDS["file search with its settings"])
    before = owner(api, tool)
    assert update(api, tool, type=SEARCH, file_search=STORES) == tool
    assert owner(api, tool) == before


def test_a_change_of_one_type_does_not_touch_the_others(api: Api) -> None:
    other = owner(api, api.tool())
    tool = api.tool()
    update(api, tool, description="Another.")
    assert api.types.GetTemplateType(GetTemplateTypeRequest(id=other.id)) == other


def test_a_type_has_128_tools_at_most(api: Api) -> None:
    name = api.type().name
    tools = [api.tool(template_type=name) for _ in range(128)]
    before = owner(api, tools[0])
    failure = fails(api.tool, template_type=name)
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_TYPE_FULL")
    assert failure.metadata == {"limit": "128 tools"}
    assert owner(api, tools[0]) == before
    assert update(api, tools[0], description="Another.").description == "Another."
    api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=tools[0].id))
    assert api.tool(template_type=name)


def test_the_schemas_of_a_type_have_1_mib_at_most(api: Api) -> None:
    name = api.type().name
    full = SCHEMA + " " * (65536 - len(SCHEMA))
    for _ in range(15):
        api.tool(template_type=name, type=FUNCTION, schema=full)
    almost = api.tool(template_type=name, type=FUNCTION, schema=full[: -len(SCHEMA)])
    before = owner(api, almost)
    for call in (
        lambda: api.tool(template_type=name, type=FUNCTION, schema=SCHEMA + " "),
        lambda: (api.tool(template_type=name, type=FUNCTION, schema=SCHEMA), update(api, almost, schema=full)),
    ):
        failure = fails(call)
        assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "TEMPLATE_TYPE_FULL")
        assert failure.metadata == {"limit": "1048576 bytes of schemas"}
    assert get(api, almost) == almost
    assert len(owner(api, almost).tools) == len(before.tools) + 1, "what fits to the byte was taken"


def test_delete_takes_the_tool_away_from_its_type(api: Api) -> None:
    name = api.type().name
    tool, other = api.tool(template_type=name), api.tool(template_type=name)
    assert api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=tool.id, etag=tool.etag)) == Empty()
    assert list(owner(api, other).tools) == [other]
    assert fails(get, api, tool).reason == "TEMPLATE_TOOL_NOT_FOUND"


def test_delete_names_an_unknown_id(api: Api) -> None:
    failure = fails(api.types.DeleteTemplateTool, DeleteTemplateToolRequest(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "TEMPLATE_TOOL_NOT_FOUND")
    assert failure.metadata == {"id": "none"}
