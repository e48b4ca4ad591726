"""What a stranger, or a caller with a small right, tries in vain."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from omniflo.templates.v1.api_key_service_pb2 import RotateApiKeyRequest
from omniflo.templates.v1.organization_service_pb2 import RemoveMemberRequest
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    RenderTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ListUsersRequest, ProvisionUserRequest
from tests.auth.answers import is_let_in
from tests.conftest import WRITER, Api, Callers, Failure, fails
from tests.e2e.clients import connected
from tests.e2e.serving import Service, eventually, serving

MEGABYTE = 1024 * 1024
FORGED = "order\n2026-11-26T00:00:00Z [error] forged caller=somebody\r\n\x1b[2J\x1b[31mred\u2028\x9b31m"


class Running(NamedTuple):
    service: Service
    log: Path


@pytest.fixture(params=["json", "text"])
def running(new_database: Callable[[], str], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    log = tmp_path / "log"
    with serving(new_database(), log, log_format=request.param) as service:
        yield Running(service, log)


@pytest.mark.parametrize("running", ["json"], indirect=True)
def test_a_message_that_grows_when_it_is_unpacked_is_refused(running: Running) -> None:
    bomb = b"\x0a" + b"\x80\x80\x80\x20" + b"\0" * (64 * MEGABYTE)
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(running.service.address, options, compression=grpc.Compression.Gzip) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        call = channel.unary_unary("/omniflo.templates.v1.UserService/GetUser")
        with pytest.raises(grpc.RpcError):
            call(b"\x0a\x01a", timeout=20)
        before = running.service.memory()
        for _ in range(8):
            with pytest.raises(grpc.RpcError) as caught:
                call(bomb, timeout=20)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.service.memory() - before < 100 * MEGABYTE
    with connected(running.service.address) as api:
        api.users.ListUsers(ListUsersRequest())


@pytest.mark.parametrize("running", ["json"], indirect=True)
def test_a_mask_of_two_million_paths_costs_nobody_anything(running: Running) -> None:
    with connected(running.service.address) as api:
        template = api.template()
        request = UpdateTemplateRequest(
            template=template, update_mask=FieldMask(paths=[""] * 2_000_000)
        ).SerializeToString()
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        call = api.channel.unary_unary("/omniflo.templates.v1.TemplateService/UpdateTemplate")
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20)
        assert caught.value.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}
        assert time.monotonic() - start < 5
        assert api.templates.GetTemplate(GetTemplateRequest(id=template.id)) == template


def test_no_caller_writes_a_line_of_the_log(running: Running) -> None:
    with connected(running.service.address) as api:
        api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_before"))
        running.service.position()
        lines = len(running.log.read_bytes().splitlines())
        for request in (ProvisionUserRequest(clerk_id=FORGED), ProvisionUserRequest(clerk_id="a", request_id=FORGED)):
            # Whether it is taken or refused, it is logged.
            with suppress(grpc.RpcError):
                api.users.ProvisionUser(request)
        fails(api.users.GetUser, GetUserRequest(id=FORGED))
        eventually(lambda: len(running.log.read_bytes().splitlines()) >= lines + 3, within=5)
        time.sleep(0.5)
        text = running.log.read_bytes()
    # Health may have found the database meanwhile.
    added = [line for line in text.splitlines()[lines:] if b"is_reachable" not in line]
    assert len(added) == 3
    assert not [line for line in added if b"\x1b[2J" in line or b"\x1b[31mred" in line or b"forged caller" in line[:40]]
    # Terminals take these for a new line, or for the begin of a command, too.
    assert not [line for line in added for part in ("\u2028", "\x9b") if part.encode() in line]


def test_of_parallel_rotations_one_secret_is_left(callers: Callers, api: Api) -> None:
    made = api.key()
    together = threading.Barrier(8)

    def rotate(_: int) -> str:
        together.wait()
        try:
            return str(api.keys.RotateApiKey(RotateApiKeyRequest(id=made.api_key.id)).secret)
        except grpc.RpcError as error:
            if Failure(error).reason != "CONFLICT":
                raise
            return ""

    with ThreadPoolExecutor(8) as pool:
        secrets = [secret for secret in pool.map(rotate, range(8)) if secret]
    assert len(set(secrets)) == len(secrets) > 0
    assert [is_let_in(callers.bearing(secret)) for secret in [made.secret, *secrets]].count(True) == 1


def test_who_is_no_member_any_more_reads_nothing_once(callers: Callers, api: Api) -> None:
    provisioned = callers.service(WRITER).users.ProvisionUser(ProvisionUserRequest(clerk_id="user_leaving"))
    organization = api.organization()
    member = api.member(organization, provisioned)
    template = api.template(user_id=provisioned.id, organization_id=organization.id, is_default=True)
    leaving = callers.user("user_leaving")
    reads: dict[str, Callable[[], object]] = {
        "get": lambda: leaving.templates.GetTemplate(GetTemplateRequest(id=template.id)),
        "batch": lambda: leaving.templates.BatchGetTemplates(BatchGetTemplatesRequest(ids=[template.id])),
        "list": lambda: leaving.templates.ListTemplates(ListTemplatesRequest(organization_id=organization.id)),
        "render": lambda: leaving.templates.RenderTemplate(RenderTemplateRequest(id=template.id)),
    }
    for read in reads.values():
        for _ in range(3):
            read()
    api.organizations.RemoveMember(RemoveMemberRequest(id=member.id))
    for _ in range(50):
        for name, read in reads.items():
            assert fails(read).code is grpc.StatusCode.NOT_FOUND, name
