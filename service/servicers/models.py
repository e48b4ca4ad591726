"""ModelService."""

from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ListModelsRequest,
    ListModelsResponse,
    UpdateModelRequest,
)
from omniflo.templates.v1.model_service_pb2_grpc import ModelServiceServicer
from service import actor
from service.operations import models
from service.servicers import decode, encode, pages
from service.servicers.writes import write


class ModelServicer(ModelServiceServicer):
    def CreateModel(self, request: CreateModelRequest, context: ServicerContext) -> Model:
        values = decode.values(request.model, {"openai_id", *models.WRITABLE})
        return write(request, Model, encode.model, partial(models.create, actor.current(), **values))

    def GetModel(self, request: GetModelRequest, context: ServicerContext) -> Model:
        return encode.model(models.get(actor.current(), **decode.key(request)))

    def ListModels(self, request: ListModelsRequest, context: ServicerContext) -> ListModelsResponse:
        page = models.page(actor.current(), after=pages.after(request, str, str), size=pages.size(request))
        return ListModelsResponse(models=map(encode.model, page.rows), next_page_token=pages.token(request, page))

    def UpdateModel(self, request: UpdateModelRequest, context: ServicerContext) -> Model:
        changes = decode.changes(request.model, request.update_mask, models.WRITABLE)
        update = partial(models.update, actor.current(), request.model.id, changes, etag=request.model.etag)
        return write(request, Model, encode.model, update)

    def DeleteModel(self, request: DeleteModelRequest, context: ServicerContext) -> Empty:
        delete = partial(models.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)
