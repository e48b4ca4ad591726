"""JSON over HTTP and gRPC-Web through a real Envoy, as deploy/envoy/rest.yaml configures it."""

import json
import re
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from omniflo.templates.v1.model_service_pb2 import ListModelsRequest, ListModelsResponse
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceServicer, add_UserServiceServicer_to_server
from service.server.wiring import SERVICES
from tests.clerk_stand_in import Clerk
from tests.conftest import ADMIN, PLATFORM_ADMIN, ROOT, Callers, Guarded
from tests.contract.methods import METHODS
from tests.envoy import CONFIGS, Envoy, speaking_http

CONFIG = (CONFIGS / "rest.yaml").read_text()
PAGE = {"Origin": "https://app.example.com"}
SECONDS = 20.0


@pytest.fixture(scope="module")
def envoy(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with speaking_http(guarded.address, tmp_path_factory.mktemp("envoy")) as running:
        yield running


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Http:
    """Calls with the session of a user."""

    def __init__(self, envoy: Envoy, session: str) -> None:
        self._url = f"http://{envoy.address}"
        self._headers = {"authorization": f"Bearer {session}"}

    def open(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> HTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self._url + path, body, {**self._headers, **named}, method=verb)  # noqa: S310
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=SECONDS)  # noqa: S310 - both of http
        return answer

    def __call__(self, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = None if body is None else json.dumps(body).encode()
        try:
            with self.open(verb, path, sent, **headers) as answer:
                return Answer(answer.status, json.loads(answer.read() or b"null"), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read()), error.headers)


@pytest.fixture
def http(envoy: Envoy, callers: Callers, clerk: Clerk) -> Http:
    del callers
    return Http(envoy, clerk.session(PLATFORM_ADMIN))


def test_a_resource_is_created_read_changed_and_deleted(http: Http) -> None:
    made = http("POST", "/v1/templateTypes", {"name": "reports", "description": "A"}).body
    at = f"/v1/templateTypes/{made['id']}"
    assert http("GET", at).body == http("GET", "/v1/templateTypes:lookup?name=reports").body == made
    changed = http("PATCH", f"{at}?update_mask=description", {**made, "description": "B"}).body
    assert changed["description"] == "B"
    revisions = http("GET", "/v1/templateTypes/reports/revisions").body["template_type_revisions"]
    assert [revision["template_type"]["description"] for revision in revisions] == ["B", "A"]
    assert http("DELETE", f"{at}?etag={made['etag']}").status == 409
    assert http("DELETE", f"{at}?etag={changed['etag']}")[:2] == (200, {})
    assert http("GET", at).status == 404


def test_an_error_is_a_status_with_its_details(http: Http) -> None:
    refused = http("POST", "/v1/templateTypes", {"description": "A"})
    assert refused.status == 400
    info, request = refused.body["details"]
    assert (info["@type"], info["reason"]) == ("type.googleapis.com/google.rpc.ErrorInfo", "FIELD_INVALID")
    assert [violation["field"] for violation in request["field_violations"]] == ["template_type.name"]
    assert refused.headers["content-type"] == "application/json"


REFUSED = {
    "no such path": ("GET", "/v1/nothing", None, 404),
    "no such field in the query": ("GET", "/v1/templates?colour=red", None, 400),
    "a value of another type": ("GET", "/v1/templates?page_size=many", None, 400),
    "no JSON": ("POST", "/v1/templateTypes", "{", 400),
    "one id in the path and another in the body": ("PATCH", "/v1/templateTypes/a", {"id": "b"}, 400),
}


@pytest.mark.parametrize("case", REFUSED)
def test_envoy_says_in_json_what_it_refuses(http: Http, case: str) -> None:
    verb, path, body, status = REFUSED[case]
    answer = http(verb, path, body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.body["message"]


def test_a_write_with_an_idempotency_key_is_made_once(http: Http) -> None:
    # What a query would have to escape.
    once = {"idempotency_key": 'a b&c=%d"e'}
    made = http("POST", "/v1/templateTypes", {"name": "invoices"}, **once)
    assert made.status == 200
    assert http("POST", "/v1/templateTypes", {"name": "invoices"}, **once).body == made.body
    assert http("POST", "/v1/templateTypes", {"name": "invoices"}).status == 409
    reused = http("POST", "/v1/templateTypes", {"name": "letters"}, **once).body["details"][0]
    assert (reused["reason"], reused["metadata"]) == ("REQUEST_ID_REUSED", {"request_id": once["idempotency_key"]})
    at = f"/v1/templateTypes/{made.body['id']}"
    assert http("DELETE", at, idempotency_key="d")[:2] == http("DELETE", at, idempotency_key="d")[:2] == (200, {})


def test_changes_are_a_line_each(http: Http) -> None:
    with http.open("GET", "/v1/changes:watch?kinds=CHANGE_KIND_TEMPLATE_TYPE") as lines:
        assert json.loads(lines.readline())["resume_token"]
        made = http("POST", "/v1/templateTypes", {"name": "reports"}).body
        changes = next(line["changes"] for line in map(json.loads, lines) if line["changes"])
    assert [change["resource_id"] for change in changes] == [made["id"]]


def test_a_certificate_that_a_caller_only_names_counts_for_nothing(envoy: Envoy, http: Http) -> None:
    del http
    named = {"x-forwarded-client-cert": f"URI={ADMIN}"}
    request = urllib.request.Request(f"http://{envoy.address}/v1/users", headers=named)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=SECONDS)  # noqa: S310
    with caught.value as error:
        assert (error.code, json.loads(error.read())["details"][0]["reason"]) == (401, "UNAUTHENTICATED")


def test_headers_that_only_http_allows_do_no_harm(http: Http) -> None:
    assert http("GET", "/v1/models", **{"a#b": "c", "d": "\xe4"}).status == 200


def test_pages_of_the_origin_may_call_and_no_others(http: Http) -> None:
    asks = {"Access_Control_Request_Method": "PATCH"}
    allowed = http("OPTIONS", "/v1/templates/a", **PAGE, **asks).headers
    assert allowed["access-control-allow-origin"] == PAGE["Origin"]
    assert {"authorization", "idempotency-key", "x-grpc-web"} <= set(
        allowed["access-control-allow-headers"].split(", ")
    )
    assert "PATCH" in allowed["access-control-allow-methods"]
    assert http("GET", "/v1/models", **PAGE).headers["access-control-allow-origin"] == PAGE["Origin"]
    assert http("GET", "/v1/models", Origin="https://evil.example").headers["access-control-allow-origin"] is None


def test_grpc_web_is_served(http: Http) -> None:
    def frames(body: bytes) -> Iterator[tuple[int, bytes]]:
        while body:
            flags, size = struct.unpack(">BI", body[:5])
            yield flags, body[5 : 5 + size]
            body = body[5 + size :]

    message = ListModelsRequest(page_size=5).SerializeToString()
    body = struct.pack(">BI", 0, len(message)) + message
    kind = "application/grpc-web+proto"
    with http.open("POST", "/omniflo.templates.v1.ModelService/ListModels", body, content_type=kind, **PAGE) as answer:
        (_, response), (flags, trailers) = frames(answer.read())
    assert ListModelsResponse.FromString(response) == ListModelsResponse()
    assert flags == 0x80
    assert b"grpc-status:0" in trailers.replace(b" ", b"")


def test_every_service_is_served() -> None:
    assert sorted(re.findall(r"- (omniflo\.templates\.v1\.\w+)", CONFIG)) == sorted(SERVICES)


def matched(config: str) -> list[set[str]]:
    """Return the methods that each route by a pattern is for."""
    patterns = re.findall(r"regex: '(/.*?)'", (CONFIGS / config).read_text())
    return [{method.path for method in METHODS if re.fullmatch(pattern, method.path)} for pattern in patterns]


def test_the_routes_of_reads_and_of_watches_are_theirs_alone() -> None:
    streams = {method.path for method in METHODS if method.descriptor.server_streaming}
    assert matched("mesh.yaml") == [streams]
    watches, reads = matched("rest.yaml")
    assert watches == streams
    wanted = {method.path for method in METHODS if method.is_read} - streams
    assert reads == wanted, "on the left: what the pattern of reads in deploy/envoy/rest.yaml is for"


class Refusing(UserServiceServicer):
    """Refuses each call with the code that its id names, and counts the calls."""

    calls = 0

    def refuse(self, request: Any, context: Any) -> Any:
        self.calls += 1
        context.abort(grpc.StatusCode[request.id], "not now")

    ProvisionUser = GetUser = ListUsers = DeleteUser = refuse


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Refusing, Http]]:
    """A server that refuses everything, and a caller that reaches it through Envoy."""
    servicer, health = Refusing(), HealthServicer()
    health.set("", HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    add_UserServiceServicer_to_server(servicer, server)
    add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with speaking_http(f"127.0.0.1:{port}", tmp_path_factory.mktemp("envoy")) as envoy:
        yield servicer, Http(envoy, "")
    server.stop(None).wait(10)


def test_a_read_is_tried_again_and_a_write_is_not(refusing: tuple[Refusing, Http]) -> None:
    servicer, http = refusing
    servicer.calls = 0
    assert http("GET", "/v1/users/UNAVAILABLE").status == 503
    assert servicer.calls == 4
    assert http("DELETE", "/v1/users/UNAVAILABLE").status == 503
    assert servicer.calls == 5


def test_each_code_has_the_status_that_the_page_says(refusing: tuple[Refusing, Http]) -> None:
    _, http = refusing
    rows = re.findall(r"^\| (`.*`) \| (\d{3}) \|$", (ROOT / "docs" / "callers.md").read_text(), re.MULTILINE)
    said = {code: int(status) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}
    assert len(said) > 10
    for code in said.keys() - {"OK"}:
        assert http("DELETE", f"/v1/users/{code}").status == said[code], code
