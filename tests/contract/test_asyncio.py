"""The stubs in asyncio. `make check` type-checks this file strictly, as a caller's program would be."""

import asyncio

import grpc
import pytest

from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ListUsersRequest, ProvisionUserRequest
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceStub
from tests.conftest import Api

SECONDS = 10.0


def test_calls_are_awaited_and_typed(api: Api, address: str) -> None:
    del api

    async def calls() -> tuple[User, list[User]]:
        async with grpc.aio.insecure_channel(address) as channel:
            users = UserServiceStub(channel)
            names = [f"user_of_asyncio_{number}" for number in range(3)]
            provisioned = (users.ProvisionUser(ProvisionUserRequest(clerk_id=name), timeout=SECONDS) for name in names)
            user, *_ = await asyncio.gather(*provisioned)
            listed = await users.ListUsers(ListUsersRequest(), timeout=SECONDS)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await users.GetUser(GetUserRequest(id="nobody"), timeout=SECONDS)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            # Who forgets to await it hears of it from mypy.
            forgotten: User = users.GetUser(GetUserRequest(id=user.id))  # type: ignore[assignment]
            assert await forgotten == user  # type: ignore[misc]
            return user, list(listed.users)

    user, listed = asyncio.run(calls())
    assert user.clerk_id == "user_of_asyncio_0"
    assert user in listed
    assert len(listed) == 3
