"""A fault of ours: the caller gets one sentence and an id, and the log no more than where it was."""

import grpc
import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from service.operations import users
from tests.conftest import Api, fails


def test_a_fault_is_internal_with_an_id_that_the_log_has(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object, **key: str) -> None:
        raise LookupError(f"a message that quotes {key}")

    monkeypatch.setattr(users, "get", fault)
    with capture_logs() as lines:
        failure = fails(api.users.GetUser, GetUserRequest(id="my-secret-id"))
    assert (failure.code, failure.reason) == (StatusCode.INTERNAL, "INTERNAL")
    (line,) = [line for line in lines if line["event"] == "fault"]
    assert failure.metadata == {"error_id": line["error_id"]}
    assert (line["error"], line["method"]) == ("LookupError", "/omniflo.templates.v1.UserService/GetUser")
    assert any(" fault" in frame for frame in line["trace"])
    assert "my-secret-id" not in f"{failure.message} {lines}"


def test_bytes_that_are_no_message_are_refused_as_such(api: Api) -> None:
    call = api.channel.unary_unary("/omniflo.templates.v1.UserService/GetUser", bytes, bytes)
    failure = fails(call, b"\xff\xff\xff")
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")


def test_an_unknown_method_is_unimplemented(api: Api) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.channel.unary_unary("/omniflo.templates.v1.UserService/Nothing", bytes, bytes)(b"")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
