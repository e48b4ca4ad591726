"""Whatever bytes come, the answer names what is wrong with them, and what is refused changes nothing."""

import itertools
import json
import re
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from grpc import RpcError, StatusCode
from grpc_status import rpc_status

from omniflo.templates.v1 import user_service_pb2
from omniflo.templates.v1.api_key_pb2 import ApiKey
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyRequest, ListApiKeysRequest, RotateApiKeyRequest
from omniflo.templates.v1.model_service_pb2 import ListModelsRequest
from omniflo.templates.v1.organization_service_pb2 import ListMembersRequest, ListOrganizationsRequest
from omniflo.templates.v1.selection_service_pb2 import ListSelectionsRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType, TemplateTool
from omniflo.templates.v1.template_type_service_pb2 import (
    CreateTemplateToolRequest,
    ListTemplateToolsRequest,
    ListTemplateTypesRequest,
)
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ListUsersRequest, ProvisionUserRequest
from service.interceptors import limits
from service.server.listening import MAX_MESSAGE_BYTES
from service.servicers import pages
from tests.conftest import TABLES, Api, Database, Failure, fails
from tests.e2e.clients import at_once, connected, say
from tests.e2e.hostile import Call, Hostile, Known, halves, methods, varint
from tests.e2e.serving import Service, serving
from tests.scale import HOSTILE_CALLS

pytestmark = pytest.mark.timed

SEED = 20_240_607
MAX_ROUNDS = 10
CLIENTS = 8
LARGEST = 2**31 - 1
MAX_DETAILS_BYTES = 4096
MAX_METADATA_BYTES = 8 * 1024

REFUSALS = {
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.ABORTED,
    StatusCode.RESOURCE_EXHAUSTED,
}
"""What a request can be refused with; the rest would be the service's own fault."""


class Outcome(NamedTuple):
    """OK, or how a call was refused."""

    code: StatusCode
    reason: str = ""
    details: int = 0
    """The bytes of its details."""


def send(api: Api, call: Call) -> Outcome:
    """Send bytes as they are."""
    try:
        raw: grpc.UnaryUnaryMultiCallable[bytes, bytes] = api.channel.unary_unary(call.path)
        raw(call.data, timeout=30)
    except RpcError as error:
        code: StatusCode = error.code()
        if code is StatusCode.RESOURCE_EXHAUSTED and len(call.data) > MAX_MESSAGE_BYTES:
            # grpcio's own.
            return Outcome(code)
        status = rpc_status.from_call(error)
        assert status is not None, f"{code} without details"
        return Outcome(code, Failure(error).reason, sum(detail.ByteSize() for detail in status.details))
    return Outcome(StatusCode.OK)


def send_all(address: str, calls: list[Call]) -> list[tuple[Call, Outcome]]:
    """Send calls from several clients at once, and answer those that are refused."""

    def client(number: int, api: Api) -> list[tuple[Call, Outcome]]:
        outcomes = [(call, send(api, call)) for call in calls[number::CLIENTS]]
        return [(call, outcome) for call, outcome in outcomes if outcome.code is not StatusCode.OK]

    return list(itertools.chain.from_iterable(at_once(address, CLIENTS, client)))


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Database]]:
    """A service as its own process, which hostile input could end, and a connection to its database."""
    url = new_database()
    with serving(url, tmp_path_factory.mktemp("hostile") / "log") as running:
        database = Database(url)
        yield running, database
        database.close()


@pytest.fixture
def api(service: tuple[Service, Database]) -> Iterator[Api]:
    """The stubs of that service, whose database has no rows."""
    running, database = service
    database.query(f"truncate {TABLES}")
    with connected(running.address) as api:
        yield api


def digest(database: Database) -> dict[str, tuple[object, ...]]:
    """Answer, for each table, how many rows it has and a hash of all that is in them."""
    return {
        table: database.query(f"select count(*), md5(string_agg(t::text, '|' order by t::text)) from {table} t")[0]
        for table in TABLES.split(", ")
    }


def known(api: Api) -> Known:
    """Fill the database, and answer what hostile requests may name."""
    users, types, bare = [api.user() for _ in range(8)], [api.type() for _ in range(5)], api.type()
    all_models = [api.model() for _ in range(6)]
    tools = [
        api.types.CreateTemplateTool(
            CreateTemplateToolRequest(
                template_tool=TemplateTool(
                    template_type=type_.name,
                    name=f"tool_{number}",
                    type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION,
                    schema='{"type": "object", "properties": {}}',
                )
            )
        )
        for number, type_ in enumerate(types * 4)
    ]
    organizations = [api.organization(user) for user in users[:4]]
    members = [
        api.member(organization, user)
        for place, organization in enumerate(organizations)
        for number, user in enumerate(users[:5])
        if place != number
    ]
    invitations = [api.invitation(organization, user) for organization in organizations for user in users[5:]]
    keys = [api.key(user_id=users[number % 8].id).api_key for number in range(8)]
    keys += [api.key(user_id=users[number].id, organization_id=organizations[0].id).api_key for number in range(4)]
    templates = [
        api.template(
            organization_id=organizations[number % 3].id if number >= 25 else "",
            user_id=users[number % 5].id,
            template_type=types[number % 5].name,
            model=all_models[number % 4].openai_id,
            is_default=number < 5,
            select=number % 2 == 0,
        )
        for number in range(40)
    ]
    records = [
        api.record(user_id=users[number % 5].id, template_id=templates[number].id, template_revision=number % 2)
        for number in range(20)
    ]
    types.append(bare)
    return {
        "User.id": (user_ids := [*(user.id for user in users), "nobody"]),
        "user_id": user_ids,
        "clerk_id": [*(user.clerk_id for user in users), "user_new"],
        "TemplateType.id": [*(type_.id for type_ in types), "nothing"],
        "TemplateType.name": (type_names := [*(type_.name for type_ in types), "type-new"]),
        "template_type": type_names,
        "TemplateTool.id": [*(tool.id for tool in tools), "nothing"],
        "TemplateTool.name": [*(tool.name for tool in tools), "tool_new"],
        "Model.id": [*(model.id for model in all_models), "nothing"],
        "openai_id": (openai_ids := [*(model.openai_id for model in all_models), "model-new"]),
        "model": openai_ids,
        "Model.name": ["A model"],
        "Template.id": (template_ids := [*(template.id for template in templates), "nothing"]),
        "template_id": template_ids,
        "assistant_id": ["asst_1"],
        "Organization.id": (organization_ids := [*(organization.id for organization in organizations), "nothing"]),
        "Organization.name": ["An organization"],
        # Mostly platform-wide.
        "organization_id": ["", "", "", "", *organization_ids],
        "organization_name": ["An organization"],
        "label": ["latest", "production", "staging"],
        "labels": ["latest", "production", "staging"],
        "message": ["Why."],
        "Invitation.id": [*(invitation.id for invitation in invitations), "nothing"],
        "inviter_id": user_ids,
        "Member.id": [*(member.id for member in members), "nothing"],
        "ApiKey.id": [*(key.id for key in keys), "nothing"],
        "ApiKey.name": ["A key"],
        "parent_id": [key.id for key in keys],
        "Processing.id": [*(record.id for record in records), "nothing"],
    }


@pytest.mark.soak
def test_no_bytes_break_the_service_and_a_refused_call_changes_no_row(
    api: Api, service: tuple[Service, Database]
) -> None:
    running, database = service
    say(f"seed {SEED}")
    calls = Hostile(SEED, known(api)).calls(HOSTILE_CALLS)
    assert {call.path for call in calls} == {method.path for method in methods()}
    sent = 0
    for _ in range(MAX_ROUNDS):
        before = digest(database)
        refused = send_all(running.address, calls)
        sent += len(calls)
        bad = [(call, outcome) for call, outcome in refused if outcome.code not in REFUSALS]
        kinds = Counter((call.path, outcome.code) for call, outcome in bad)
        assert not bad, f"{kinds}, such as {[(call.path, call.data[:1000]) for call, _ in bad[:5]]}"
        large = [call for call, outcome in refused if outcome.details > MAX_DETAILS_BYTES]
        assert not large, f"too large an error for {large[0].path} {large[0].data[:1000]!r}"
        say(f"{len(calls)} calls, {len(refused)} refused")
        if len(refused) == len(calls):
            break
        # What succeeded may have changed rows, also what the others find: send those alone, until all are refused.
        calls = [call for call, _ in refused]
    else:
        pytest.fail("there was always one that succeeded")
    # Now nothing but refused calls has come, so nothing may differ.
    assert digest(database) == before
    reasons = Counter(outcome.reason for _, outcome in refused)
    say(f"{sent} calls; at the end: {reasons}")
    assert sent >= 2 * HOSTILE_CALLS
    assert {call.path for call, _ in refused} == {method.path for method in methods()}
    # They were refused at every depth, from the bytes to the constraints.
    assert reasons.keys() >= {"REQUEST_MALFORMED", "FIELD_INVALID", "PAGE_TOKEN_INVALID", "REQUEST_ID_REUSED"}
    for kind in ("_NOT_FOUND", "_ALREADY_EXISTS", "_IN_USE", "_MISMATCH"):
        assert any(reason.endswith(kind) for reason in reasons), kind
    api.template(is_default=True, select=True)


LISTS: dict[str, tuple[Message, list[type]]] = {
    "UserService/ListUsers": (ListUsersRequest(), [int, str]),
    "TemplateTypeService/ListTemplateTypes": (ListTemplateTypesRequest(), [str]),
    "TemplateTypeService/ListTemplateTools": (ListTemplateToolsRequest(), [str, str]),
    "ModelService/ListModels": (ListModelsRequest(), [str, str]),
    "TemplateService/ListTemplates": (ListTemplatesRequest(query="title"), [int, str]),
    "SelectionService/ListSelections": (ListSelectionsRequest(), [str, str]),
    "OrganizationService/ListOrganizations": (ListOrganizationsRequest(), [str, str]),
    "OrganizationService/ListMembers": (ListMembersRequest(), [int, str]),
    "ApiKeyService/ListApiKeys": (ListApiKeysRequest(), [int, str]),
}
"""The request of each list, and the kinds of the parts of its keys; a number is a time."""

NO_KEYS = [
    b"",
    b"\xff\xfe",
    b"{",
    b"5",
    b"null",
    b"{}",
    b'"ab"',
    b'{"a": 1, "b": 2}',
    b"[]",
    b"[1]",
    b"[1, 2]",
    b'[1, "a", 2]',
    b'["a", 1]',
    b'["a", "b", "c"]',
    b"[null]",
    b"[null, null]",
    b'[null, "a"]',
    b'[true, "a"]',
    b"[true]",
    b'[1.5, "a"]',
    b'[NaN, "a"]',
    b'[1e999, "a"]',
    b'[[1], "a"]',
    b'[{}, "a"]',
    b"[[]]",
    b'["a\\u0000"]',
    b'["a\\u0000", "b"]',
    b'["\\ud800"]',
    b'["\\ud800", "b"]',
    b'[1, "\\u0000"]',
    b'[1, "\\ud800"]',
    b'[9223372036854775808, "a"]',
    b'[-9223372036854775808, "a"]',
    b'[253402300800000000, "a"]',
    b"[" + b"9" * 1400 + b', "a"]',
    b"[" * 1400,
]
"""What no list has for a key."""


def forged(request: Any, key: bytes) -> str:
    """Answer a token that says of itself that it is one of this request."""
    return urlsafe_b64encode(pages._digest(request, key) + key).decode()


@pytest.mark.parametrize("path", LISTS)
def test_a_page_token_that_holds_no_key_is_invalid_even_with_the_right_digest(api: Api, path: str) -> None:
    request: Any
    request, kinds = LISTS[path]
    if isinstance(request, ListSelectionsRequest | ListOrganizationsRequest | ListApiKeysRequest):
        request.user_id = api.user().id
    elif isinstance(request, ListMembersRequest):
        request.organization_id = api.organization().id
    elif isinstance(request, ListTemplateToolsRequest):
        request.template_type = api.type().name
    # Keys of other lists are none of this one.
    others = [["a" if kind is str else 1 for kind in other] for _, other in LISTS.values() if other != kinds]
    accepted = []
    for key in [*NO_KEYS, *(json.dumps(other).encode() for other in others)]:
        request.page_token = forged(request, key)
        outcome = send(api, Call(f"/omniflo.templates.v1.{path}", request.SerializeToString()))
        if (outcome.code, outcome.reason) != (StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
            accepted.append(f"{key[:40]!r}: {outcome.code.name}")
    assert not accepted


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000, LARGEST, -LARGEST - 1])
@pytest.mark.parametrize("seconds", [0, 1, 86_400, 253_402_300_799, -62_135_596_800, 2**63 - 1, -(2**63)])
def test_no_moment_and_no_duration_breaks_the_service(api: Api, seconds: int, nanos: int) -> None:
    made = api.key().api_key
    key = ApiKey(name="A key", user_id=made.user_id, scope=made.scope)
    key.expire_time.seconds, key.expire_time.nanos = seconds, nanos
    rotate = RotateApiKeyRequest(id=made.id)
    rotate.grace.seconds, rotate.grace.nanos = seconds, nanos
    for path, request in (
        ("ApiKeyService/CreateApiKey", CreateApiKeyRequest(api_key=key)),
        ("ApiKeyService/RotateApiKey", rotate),
    ):
        outcome = send(api, Call(f"/omniflo.templates.v1.{path}", request.SerializeToString()))
        assert outcome.code in REFUSALS | {StatusCode.OK}


def test_half_of_a_surrogate_pair_is_refused_in_every_text(api: Api) -> None:
    taken, texts = [], 0
    for method in methods():
        for where, data in halves(method.request.DESCRIPTOR):
            texts += 1
            outcome = send(api, Call(method.path, data))
            if (outcome.code, outcome.reason) != (StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED"):
                taken.append(f"{method.path} {where}: {outcome}")
    assert taken == []
    assert texts > len(list(methods()))


@pytest.mark.parametrize(
    "schema",
    [
        r'{"type": "object", "title": "\ud800"}',
        r'{"type": "object", "\ud800": 1}',
        r'{"type": "object", "properties": {"\udfff": {"type": "string"}}}',
        r'{"type": "object", "properties": {"\ud800": {"type": 5}}}',
        '{"type": "object", "properties": {}, "maximum": 1e999, "minimum": -' + "9" * 5000 + "}",
        '{"a":' * 10_000,
        "[" * 60_000,
        '{"type": "object", "properties": {}, "pattern": "((((", "$id": "\x7f"}',
    ],
    ids=itertools.count(),
)
def test_a_schema_of_strange_json_is_kept_as_it_is_or_named_as_the_fault(api: Api, schema: str) -> None:
    function = OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION
    tool = TemplateTool(template_type=api.type().name, name="strange", type=function, schema=schema)
    request = CreateTemplateToolRequest(template_tool=tool)
    try:
        answer = api.types.CreateTemplateTool(request)
    except RpcError as error:
        failure = Failure(error)
        assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert list(failure.violations) == ["template_tool.schema"]
    else:
        assert answer.schema == schema


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("TemplateService/BatchGetTemplates", BatchGetTemplatesRequest(ids=["\U0001f600" * 64] * 100)),
        ("TemplateService/BatchGetTemplates", BatchGetTemplatesRequest(ids=["\0" * 64] * 100)),
        (
            "TemplateService/UpdateTemplate",
            UpdateTemplateRequest(
                template=Template(id="nothing"), update_mask=FieldMask(paths=["\U0001f600" * 2500] * 100)
            ),
        ),
        ("UserService/GetUser", GetUserRequest(clerk_id="\U0001f600" * 255)),
    ],
    ids=["missing", "invalid", "mask", "key"],
)
def test_an_error_is_never_larger_than_4_kib(api: Api, path: str, request_: Message) -> None:
    outcome = send(api, Call(f"/omniflo.templates.v1.{path}", request_.SerializeToString()))
    assert outcome.code in REFUSALS
    assert outcome.details <= MAX_DETAILS_BYTES


def test_a_message_at_the_limit_of_its_method_is_read_and_one_byte_more_is_rejected(api: Api) -> None:
    service = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
    path = "/omniflo.templates.v1.UserService/ProvisionUser"
    limit = limits.of_services([service])[path]
    known = ProvisionUserRequest(clerk_id="user_large").SerializeToString()

    def padded(size: int) -> bytes:
        # With a field that nobody knows, which is no fault.
        padding = size - len(known) - 5
        message = known + varint(1000 << 3 | 2) + varint(padding) + bytes(padding)
        assert len(message) == size
        return message

    call: Any = api.channel.unary_unary(path, None, User.FromString)
    assert call(padded(limit), timeout=10).clerk_id == "user_large"
    failure = fails(call, padded(limit + 1), timeout=10)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    assert failure.metadata == {"limit": str(limit)}
    # What no method takes is not even taken in.
    error: Any = call.future(bytes(MAX_MESSAGE_BYTES + 1), timeout=10).exception(timeout=10)
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()


def test_metadata_of_8_kib_is_read_and_one_byte_more_is_resource_exhausted(api: Api) -> None:
    user = api.user()

    def refusal_of(octets: int) -> Any:
        # Without a deadline of the client's: that would be metadata as well, of a length that varies.
        call: Any = api.users.GetUser.future(GetUserRequest(id=user.id), metadata=(("x-padding", "x" * octets),))
        return call.exception(timeout=10)

    refusal = refusal_of(MAX_METADATA_BYTES - 100)
    assert refusal.code() is StatusCode.RESOURCE_EXHAUSTED
    # As gRPC counts, each pair has 32 bytes more than it shows, and there are pairs of its own.
    found = re.search(r"metadata size exceeds hard limit \((\d+) vs", refusal.details())
    assert found is not None, refusal.details()
    at_limit = 2 * MAX_METADATA_BYTES - 100 - int(found[1])
    assert at_limit > MAX_METADATA_BYTES - 1024
    for _ in range(3):
        assert refusal_of(at_limit) is None
        assert refusal_of(at_limit + 1).code() is StatusCode.RESOURCE_EXHAUSTED
