"""ApiKeyService."""

from datetime import datetime
from functools import partial

from grpc import ServicerContext

from omniflo.templates.v1.api_key_pb2 import ApiKey
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    GetApiKeyRequest,
    ListApiKeysRequest,
    ListApiKeysResponse,
    RevokeApiKeyRequest,
    RevokeApiKeyResponse,
    RotateApiKeyRequest,
    RotateApiKeyResponse,
    UpdateApiKeyRequest,
)
from omniflo.templates.v1.api_key_service_pb2_grpc import ApiKeyServiceServicer
from service import actor
from service.operations import api_keys
from service.servicers import decode, encode, pages
from service.servicers.writes import write, write_secret


class ApiKeyServicer(ApiKeyServiceServicer):
    def CreateApiKey(self, request: CreateApiKeyRequest, context: ServicerContext) -> CreateApiKeyResponse:
        values = decode.values(request.api_key)
        create = partial(api_keys.create, actor.current(), **values)
        return write_secret(request, CreateApiKeyResponse, encode.created_api_key, create)

    def GetApiKey(self, request: GetApiKeyRequest, context: ServicerContext) -> ApiKey:
        return encode.api_key(api_keys.get(actor.current(), request.id))

    def ListApiKeys(self, request: ListApiKeysRequest, context: ServicerContext) -> ListApiKeysResponse:
        page = api_keys.page(
            actor.current(),
            user_id=request.user_id,
            after=pages.after(request, datetime, str),
            size=pages.size(request),
        )
        return ListApiKeysResponse(api_keys=map(encode.api_key, page.rows), next_page_token=pages.token(request, page))

    def UpdateApiKey(self, request: UpdateApiKeyRequest, context: ServicerContext) -> ApiKey:
        body = request.api_key
        changes = decode.changes(body, request.update_mask)
        update = partial(api_keys.update, actor.current(), body.id, changes, etag=body.etag)
        return write(request, ApiKey, encode.api_key, update)

    def RevokeApiKey(self, request: RevokeApiKeyRequest, context: ServicerContext) -> RevokeApiKeyResponse:
        revoke = partial(api_keys.revoke, actor.current(), request.id, etag=request.etag)
        return write(request, RevokeApiKeyResponse, encode.revoked_api_key, revoke)

    def RotateApiKey(self, request: RotateApiKeyRequest, context: ServicerContext) -> RotateApiKeyResponse:
        grace = request.grace.ToTimedelta()
        rotate = partial(api_keys.rotate, actor.current(), request.id, grace=grace, etag=request.etag)
        return write_secret(request, RotateApiKeyResponse, encode.rotated_api_key, rotate)
