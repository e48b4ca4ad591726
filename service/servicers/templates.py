"""TemplateService."""

from datetime import datetime
from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    BatchGetTemplatesResponse,
    BatchRenderTemplatesRequest,
    BatchRenderTemplatesResponse,
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    ListTemplatesResponse,
    RenderTemplateRequest,
    RenderTemplateResponse,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceServicer
from service import actor
from service.operations import renderings, templates
from service.servicers import decode, encode, pages
from service.servicers.writes import write


class TemplateServicer(TemplateServiceServicer):
    def CreateTemplate(self, request: CreateTemplateRequest, context: ServicerContext) -> Template:
        create = partial(
            templates.create,
            actor.current(),
            decode.values(request.template, "user_id", "organization_id"),
            user_id=request.template.user_id,
            organization_id=request.template.organization_id or None,
            select=request.select,
            view=decode.view(request),
        )
        again = partial(templates.get, actor.current(), view=decode.view(request))
        return write(request, Template, encode.template, create, again)

    def GetTemplate(self, request: GetTemplateRequest, context: ServicerContext) -> Template:
        return encode.template(templates.get(actor.current(), request.id, view=decode.view(request)))

    def BatchGetTemplates(
        self, request: BatchGetTemplatesRequest, context: ServicerContext
    ) -> BatchGetTemplatesResponse:
        found = templates.batch_get(actor.current(), request.ids, view=decode.view(request))
        return BatchGetTemplatesResponse(templates=map(encode.template, found))

    def ListTemplates(self, request: ListTemplatesRequest, context: ServicerContext) -> ListTemplatesResponse:
        page = templates.page(
            actor.current(),
            organization_id=request.organization_id or None,
            template_type=request.template_type,
            model=request.model,
            user_id=request.user_id,
            is_default=request.is_default if request.HasField("is_default") else None,
            query=request.query,
            model_shutting_down_before=decode.day(request, "model_shutting_down_before", "model_shutting_down_before"),
            view=decode.view(request),
            after=pages.after(request, datetime, str),
            size=pages.size(request),
        )
        return ListTemplatesResponse(
            templates=map(encode.template, page.rows), next_page_token=pages.token(request, page)
        )

    def UpdateTemplate(self, request: UpdateTemplateRequest, context: ServicerContext) -> Template:
        update = partial(
            templates.update,
            actor.current(),
            request.template.id,
            decode.changes(request.template, request.update_mask),
            etag=request.template.etag,
            view=decode.view(request),
        )
        again = partial(templates.get, actor.current(), view=decode.view(request))
        return write(request, Template, encode.template, update, again)

    def DeleteTemplate(self, request: DeleteTemplateRequest, context: ServicerContext) -> Empty:
        delete = partial(templates.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)

    def RenderTemplate(self, request: RenderTemplateRequest, context: ServicerContext) -> RenderTemplateResponse:
        if request.WhichOneof("key") == "id":
            return encode.rendering(renderings.render(actor.current(), request.id))
        key = request.resolve
        return encode.rendering(
            renderings.resolve(
                actor.current(),
                user_id=key.user_id,
                organization_id=key.organization_id or None,
                template_type=key.template_type,
            )
        )

    def BatchRenderTemplates(
        self, request: BatchRenderTemplatesRequest, context: ServicerContext
    ) -> BatchRenderTemplatesResponse:
        outcomes = renderings.batch_resolve(
            actor.current(),
            user_id=request.user_id,
            organization_id=request.organization_id or None,
            template_types=request.template_types,
        )
        return BatchRenderTemplatesResponse(results=map(encode.rendering_outcome, request.template_types, outcomes))
