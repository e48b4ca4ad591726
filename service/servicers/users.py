"""UserService."""

from datetime import datetime
from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import (
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    ListUsersResponse,
    ProvisionUserRequest,
)
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceServicer
from service import actor
from service.operations import user_deletions, users
from service.servicers import decode, encode, pages
from service.servicers.writes import write, write_after


class UserServicer(UserServiceServicer):
    def ProvisionUser(self, request: ProvisionUserRequest, context: ServicerContext) -> User:
        return write(request, User, encode.user, partial(users.provision, actor.current(), request.clerk_id))

    def GetUser(self, request: GetUserRequest, context: ServicerContext) -> User:
        return encode.user(users.get(actor.current(), **decode.key(request)))

    def ListUsers(self, request: ListUsersRequest, context: ServicerContext) -> ListUsersResponse:
        page = users.page(actor.current(), after=pages.after(request, datetime, str), size=pages.size(request))
        return ListUsersResponse(users=map(encode.user, page.rows), next_page_token=pages.token(request, page))

    def DeleteUser(self, request: DeleteUserRequest, context: ServicerContext) -> Empty:
        empty = partial(user_deletions.empty, actor.current(), request.id)
        return write_after(
            request, Empty, encode.empty, empty, lambda _: user_deletions.delete(actor.current(), request.id)
        )
