"""docs/service_config.json: what a caller's library may retry by itself."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest
from omniflo.templates.v1.user_service_pb2_grpc import (
    UserServiceServicer,
    UserServiceStub,
    add_UserServiceServicer_to_server,
)
from tests.conftest import ROOT
from tests.contract.methods import METHODS

CONFIG = (ROOT / "docs" / "service_config.json").read_text()
IDEMPOTENT_BY_NATURE = {"ProvisionUser", "SetSelection"}


def test_it_names_every_read_and_the_writes_that_are_idempotent_by_nature() -> None:
    (policy,) = json.loads(CONFIG)["methodConfig"]
    named = {f"/{name['service']}/{name['method']}" for name in policy["name"]}
    wanted = {method.path for method in METHODS if method.is_read or method.name in IDEMPOTENT_BY_NATURE}
    assert named == wanted, "on the left: what docs/service_config.json names"


class Unavailable(UserServiceServicer):
    """Refuses each call until it has been made three times."""

    calls = 0

    def answer(self, request: Any, context: Any) -> Any:
        del request
        self.calls += 1
        if self.calls < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return User(id="u1")

    ProvisionUser = GetUser = ListUsers = DeleteUser = answer


def test_a_channel_with_it_retries_a_read_and_not_a_write() -> None:
    servicer = Unavailable()
    server = grpc.server(ThreadPoolExecutor(1))
    add_UserServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.service_config", CONFIG)]) as channel:
        stub = UserServiceStub(channel)
        assert stub.GetUser(GetUserRequest(id="u1"), timeout=10).id == "u1"
        assert servicer.calls == 3
        servicer.calls = 0
        with pytest.raises(grpc.RpcError) as refused:
            stub.DeleteUser(DeleteUserRequest(id="u1"), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert servicer.calls == 1
    server.stop(None).wait(10)
