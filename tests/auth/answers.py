"""What a caller gets who is refused, in full, and who a caller is taken for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from tests.conftest import Api

SECONDS = 15.0
"""How long a test waits for what must happen."""


class Refusal(NamedTuple):
    """Everything that a refused call is answered with."""

    code: grpc.StatusCode
    message: str
    initial: tuple[tuple[str, str | bytes], ...]
    trailing: tuple[tuple[str, str | bytes], ...]


def _refused() -> Refusal:
    message = "the call needs a session, an API key or the certificate of a service, and has none that counts"
    info = Packed()
    info.Pack(ErrorInfo(reason="UNAUTHENTICATED", domain="templates.omniflo"))
    code, _ = grpc.StatusCode.UNAUTHENTICATED.value
    status = Status(code=code, message=message, details=[info]).SerializeToString()
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, message, (), (("grpc-status-details-bin", status),))


REFUSED = _refused()
"""The one answer to whoever is nobody: it does not tell why."""


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> Refusal:
    """Make a call that must be refused, and answer with what."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **{"timeout": SECONDS, **options})
    error: Any = caught.value
    return Refusal(error.code(), error.details(), tuple(error.initial_metadata()), tuple(error.trailing_metadata()))


def knock(api: Api) -> Refusal:
    """Call as somebody who must be refused."""
    return refusal(api.users.ListUsers, ListUsersRequest())


def is_let_in(api: Api, **options: Any) -> bool:
    """Whether a call is answered; anything but an answer and REFUSED fails."""
    try:
        api.users.ListUsers(ListUsersRequest(), **{"timeout": SECONDS, **options})
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


def who(api: Api, **options: Any) -> str:
    """Answer the Clerk id of the user whom a caller is taken for."""
    (user,) = api.users.ListUsers(ListUsersRequest(), **{"timeout": SECONDS, **options}).users
    return str(user.clerk_id)
