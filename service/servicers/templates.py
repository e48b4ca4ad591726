"""TemplateService."""

from datetime import datetime
from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.template_pb2 import Template, TemplateLabel
from omniflo.templates.v1.template_revision_pb2 import TemplateRevision
from omniflo.templates.v1.template_service_pb2 import (
    BatchGetTemplatesRequest,
    BatchGetTemplatesResponse,
    BatchRenderTemplatesRequest,
    BatchRenderTemplatesResponse,
    CreateTemplateRequest,
    DeleteTemplateLabelRequest,
    DeleteTemplateRequest,
    DiffTemplateRevisionsRequest,
    DiffTemplateRevisionsResponse,
    GetTemplateRequest,
    GetTemplateRevisionRequest,
    ListTemplateRevisionsRequest,
    ListTemplateRevisionsResponse,
    ListTemplatesRequest,
    ListTemplatesResponse,
    RenderTemplateRequest,
    RenderTemplateResponse,
    RestoreTemplateRevisionRequest,
    RestoreTemplateRevisionResponse,
    SetTemplateLabelRequest,
    SyncTemplateRequest,
    SyncTemplateResponse,
    UndeleteTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceServicer
from service import actor
from service.operations import (
    assistant_states,
    labels,
    renderings,
    template_lists,
    template_revisions,
    templates,
    undelete,
)
from service.servicers import decode, encode, encode_renderings, encode_revisions, pages
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
        template = templates.get(actor.current(), request.id, view=decode.view(request), labels=request.labels)
        return encode.template(template)

    def BatchGetTemplates(
        self, request: BatchGetTemplatesRequest, context: ServicerContext
    ) -> BatchGetTemplatesResponse:
        found = templates.batch_get(actor.current(), request.ids, view=decode.view(request), labels=request.labels)
        return BatchGetTemplatesResponse(templates=map(encode.template, found))

    def ListTemplates(self, request: ListTemplatesRequest, context: ServicerContext) -> ListTemplatesResponse:
        page = template_lists.page(
            actor.current(),
            organization_id=request.organization_id or None,
            template_type=request.template_type,
            model=request.model,
            user_id=request.user_id,
            is_default=request.is_default if request.HasField("is_default") else None,
            query=request.query,
            tags=request.tags,
            model_shutting_down_before=decode.day(request, "model_shutting_down_before", "model_shutting_down_before"),
            assistant_state=decode.assistant_state(request.assistant_state),
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

    def UndeleteTemplate(self, request: UndeleteTemplateRequest, context: ServicerContext) -> Template:
        bring_back = partial(undelete.template, actor.current(), request.id, view=decode.view(request))
        again = partial(templates.get, actor.current(), view=decode.view(request))
        return write(request, Template, encode.template, bring_back, again)

    def SyncTemplate(self, request: SyncTemplateRequest, context: ServicerContext) -> SyncTemplateResponse:
        sync = partial(assistant_states.sync, actor.current(), request.id)
        return write(request, SyncTemplateResponse, encode.synced_template, sync)

    def GetTemplateRevision(self, request: GetTemplateRevisionRequest, context: ServicerContext) -> TemplateRevision:
        revision = template_revisions.get(
            actor.current(), request.template_id, request.revision, view=decode.view(request)
        )
        return encode_revisions.revision(revision)

    def ListTemplateRevisions(
        self, request: ListTemplateRevisionsRequest, context: ServicerContext
    ) -> ListTemplateRevisionsResponse:
        page = template_revisions.page(
            actor.current(),
            request.template_id,
            view=decode.view(request),
            after=pages.after(request, int, str),
            size=pages.size(request),
        )
        return ListTemplateRevisionsResponse(
            template_revisions=map(encode_revisions.revision, page.rows), next_page_token=pages.token(request, page)
        )

    def RestoreTemplateRevision(
        self, request: RestoreTemplateRevisionRequest, context: ServicerContext
    ) -> RestoreTemplateRevisionResponse:
        restore = partial(
            template_revisions.restore,
            actor.current(),
            request.template_id,
            request.revision,
            etag=request.etag,
            view=decode.view(request),
        )
        again = partial(templates.get, actor.current(), view=decode.view(request))
        return write(
            request,
            RestoreTemplateRevisionResponse,
            encode_revisions.restored,
            restore,
            again,
        )

    def DiffTemplateRevisions(
        self, request: DiffTemplateRevisionsRequest, context: ServicerContext
    ) -> DiffTemplateRevisionsResponse:
        return encode_revisions.diff(
            *template_revisions.diff(actor.current(), request.template_id, request.from_revision, request.to_revision)
        )

    def SetTemplateLabel(self, request: SetTemplateLabelRequest, context: ServicerContext) -> TemplateLabel:
        set_ = partial(
            labels.set,
            actor.current(),
            request.template_id,
            label=request.label,
            revision=request.revision,
            expected_revision=request.expected_revision if request.HasField("expected_revision") else None,
        )
        label = TemplateLabel(label=request.label, revision=request.revision)
        return write(request, TemplateLabel, lambda _: label, set_)

    def DeleteTemplateLabel(self, request: DeleteTemplateLabelRequest, context: ServicerContext) -> Empty:
        delete = partial(labels.delete, actor.current(), request.template_id, label=request.label, etag=request.etag)
        return write(request, Empty, encode.empty, delete)

    def RenderTemplate(self, request: RenderTemplateRequest, context: ServicerContext) -> RenderTemplateResponse:
        if request.WhichOneof("key") == "id":
            rendering = renderings.render(
                actor.current(),
                request.id,
                labels=request.labels,
                revision=request.revision,
                type_revision=request.template_type_revision,
                variables=request.variables,
            )
            return encode_renderings.rendering(rendering)
        key = request.resolve
        return encode_renderings.rendering(
            renderings.resolve(
                actor.current(),
                user_id=key.user_id,
                organization_id=key.organization_id or None,
                template_type=key.template_type,
                labels=request.labels,
                variables=request.variables,
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
            labels=request.labels,
            variables=request.variables,
        )
        return BatchRenderTemplatesResponse(
            results=map(encode_renderings.rendering_outcome, request.template_types, outcomes)
        )
