"""ModelService."""

from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ImportModelRequest,
    ListAvailableModelsRequest,
    ListAvailableModelsResponse,
    ListModelsRequest,
    ListModelsResponse,
    RefreshModelsRequest,
    RefreshModelsResponse,
    ReplaceModelRequest,
    ReplaceModelResponse,
    UpdateModelRequest,
)
from omniflo.templates.v1.model_service_pb2_grpc import ModelServiceServicer
from service import actor
from service.openai_gateway import Gateway, ListedModel
from service.operations import openai_models, replacements
from service.servicers import decode, encode, pages
from service.servicers.writes import write, write_after


def _openai_id(model: ListedModel) -> tuple[str]:
    return (model.openai_id,)


class ModelServicer(ModelServiceServicer):
    def __init__(self, openai: Gateway) -> None:
        self._openai = openai

    def CreateModel(self, request: CreateModelRequest, context: ServicerContext) -> Model:
        values = decode.values(request.model)
        return write(request, Model, encode.model, partial(openai_models.create, actor.current(), **values))

    def GetModel(self, request: GetModelRequest, context: ServicerContext) -> Model:
        return encode.model(openai_models.get(actor.current(), **decode.key(request)))

    def ListModels(self, request: ListModelsRequest, context: ServicerContext) -> ListModelsResponse:
        page = openai_models.page(
            actor.current(),
            shutting_down_before=decode.day(request, "shutting_down_before", "shutting_down_before"),
            after=pages.after(request, str, str),
            size=pages.size(request),
        )
        return ListModelsResponse(models=map(encode.model, page.rows), next_page_token=pages.token(request, page))

    def UpdateModel(self, request: UpdateModelRequest, context: ServicerContext) -> Model:
        changes = decode.changes(request.model, request.update_mask)
        update = partial(openai_models.update, actor.current(), request.model.id, changes, etag=request.model.etag)
        return write(request, Model, encode.model, update)

    def DeleteModel(self, request: DeleteModelRequest, context: ServicerContext) -> Empty:
        delete = partial(openai_models.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)

    def ImportModel(self, request: ImportModelRequest, context: ServicerContext) -> Model:
        ask = partial(openai_models.ask, actor.current(), partial(self._openai.model, request.openai_id))
        return write_after(request, Model, encode.model, ask, partial(openai_models.import_, actor.current()))

    def ListAvailableModels(
        self, request: ListAvailableModelsRequest, context: ServicerContext
    ) -> ListAvailableModelsResponse:
        page = pages.of(
            self._openai.models(), key=_openai_id, after=pages.after(request, str), size=pages.size(request)
        )
        known = openai_models.known(actor.current(), [model.openai_id for model in page.rows])
        return ListAvailableModelsResponse(
            available_models=[encode.available_model(model, model.openai_id in known) for model in page.rows],
            next_page_token=pages.token(request, page),
        )

    def RefreshModels(self, request: RefreshModelsRequest, context: ServicerContext) -> RefreshModelsResponse:
        ask = partial(openai_models.ask, actor.current(), self._openai.models)
        refresh = partial(openai_models.refresh, actor.current())
        return write_after(request, RefreshModelsResponse, encode.refreshed, ask, refresh)

    def ReplaceModel(self, request: ReplaceModelRequest, context: ServicerContext) -> ReplaceModelResponse:
        replace = partial(
            replacements.preview if request.validate_only else replacements.replace,
            actor.current(),
            old_openai_id=request.old_openai_id,
            new_openai_id=request.new_openai_id,
        )
        return write(request, ReplaceModelResponse, encode.replaced, replace)
