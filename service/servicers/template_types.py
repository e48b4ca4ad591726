"""TemplateTypeService: types and their tools."""

from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.template_revision_pb2 import TemplateTypeRevision
from omniflo.templates.v1.template_type_pb2 import TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import (
    CreateTemplateToolRequest,
    CreateTemplateTypeRequest,
    DeleteTemplateToolRequest,
    DeleteTemplateTypeRequest,
    GetTemplateToolRequest,
    GetTemplateTypeRequest,
    GetTemplateTypeRevisionRequest,
    ListTemplateToolsRequest,
    ListTemplateToolsResponse,
    ListTemplateTypeRevisionsRequest,
    ListTemplateTypeRevisionsResponse,
    ListTemplateTypesRequest,
    ListTemplateTypesResponse,
    UpdateTemplateToolRequest,
    UpdateTemplateTypeRequest,
)
from omniflo.templates.v1.template_type_service_pb2_grpc import TemplateTypeServiceServicer
from service import actor
from service.models import template_types as types
from service.operations import template_tools, template_type_revisions, template_types
from service.servicers import decode, encode, encode_revisions, pages
from service.servicers.writes import write


def _type(id: str) -> types.TemplateType:
    return template_types.get(actor.current(), id=id)


class TemplateTypeServicer(TemplateTypeServiceServicer):
    def CreateTemplateType(self, request: CreateTemplateTypeRequest, context: ServicerContext) -> TemplateType:
        values = decode.values(request.template_type)
        create = partial(template_types.create, actor.current(), **values)
        return write(request, TemplateType, encode.template_type, create, _type)

    def GetTemplateType(self, request: GetTemplateTypeRequest, context: ServicerContext) -> TemplateType:
        return encode.template_type(template_types.get(actor.current(), **decode.key(request)))

    def ListTemplateTypes(
        self, request: ListTemplateTypesRequest, context: ServicerContext
    ) -> ListTemplateTypesResponse:
        page = template_types.page(actor.current(), after=pages.after(request, str), size=pages.size(request))
        return ListTemplateTypesResponse(
            template_types=map(encode.template_type, page.rows), next_page_token=pages.token(request, page)
        )

    def UpdateTemplateType(self, request: UpdateTemplateTypeRequest, context: ServicerContext) -> TemplateType:
        body = request.template_type
        changes = decode.changes(body, request.update_mask)
        update = partial(template_types.update, actor.current(), body.id, changes, etag=body.etag)
        return write(request, TemplateType, encode.template_type, update, _type)

    def DeleteTemplateType(self, request: DeleteTemplateTypeRequest, context: ServicerContext) -> Empty:
        delete = partial(template_types.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)

    def CreateTemplateTool(self, request: CreateTemplateToolRequest, context: ServicerContext) -> TemplateTool:
        body = request.template_tool
        values = decode.values(body, "template_type")
        create = partial(template_tools.create, actor.current(), body.template_type, values)
        return write(request, TemplateTool, encode.template_tool, create, partial(template_tools.get, actor.current()))

    def GetTemplateTool(self, request: GetTemplateToolRequest, context: ServicerContext) -> TemplateTool:
        return encode.template_tool(template_tools.get(actor.current(), request.id))

    def ListTemplateTools(
        self, request: ListTemplateToolsRequest, context: ServicerContext
    ) -> ListTemplateToolsResponse:
        page = template_tools.page(
            actor.current(), request.template_type, after=pages.after(request, str, str), size=pages.size(request)
        )
        return ListTemplateToolsResponse(
            template_tools=map(encode.template_tool, page.rows), next_page_token=pages.token(request, page)
        )

    def UpdateTemplateTool(self, request: UpdateTemplateToolRequest, context: ServicerContext) -> TemplateTool:
        body = request.template_tool
        changes = decode.changes(body, request.update_mask)
        update = partial(template_tools.update, actor.current(), body.id, changes, etag=body.etag)
        return write(request, TemplateTool, encode.template_tool, update, partial(template_tools.get, actor.current()))

    def DeleteTemplateTool(self, request: DeleteTemplateToolRequest, context: ServicerContext) -> Empty:
        delete = partial(template_tools.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)

    def GetTemplateTypeRevision(
        self, request: GetTemplateTypeRevisionRequest, context: ServicerContext
    ) -> TemplateTypeRevision:
        revision = template_type_revisions.get(actor.current(), request.template_type, request.revision)
        return encode_revisions.type_revision(revision)

    def ListTemplateTypeRevisions(
        self, request: ListTemplateTypeRevisionsRequest, context: ServicerContext
    ) -> ListTemplateTypeRevisionsResponse:
        page = template_type_revisions.page(
            actor.current(), request.template_type, after=pages.after(request, int, str), size=pages.size(request)
        )
        return ListTemplateTypeRevisionsResponse(
            template_type_revisions=map(encode_revisions.type_revision, page.rows),
            next_page_token=pages.token(request, page),
        )
