"""SelectionService."""

from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.selection_pb2 import Selection
from omniflo.templates.v1.selection_service_pb2 import (
    BatchResolveTemplatesRequest,
    BatchResolveTemplatesResponse,
    DeleteSelectionRequest,
    GetSelectionRequest,
    ListSelectionsRequest,
    ListSelectionsResponse,
    ResolveTemplateRequest,
    ResolveTemplateResponse,
    SetSelectionRequest,
)
from omniflo.templates.v1.selection_service_pb2_grpc import SelectionServiceServicer
from service import actor
from service.models import selections as selected
from service.operations import selections
from service.servicers import decode, encode, pages
from service.servicers.writes import write


def _get(request: GetSelectionRequest | SetSelectionRequest) -> selected.Selection:
    return selections.get(
        actor.current(),
        user_id=request.user_id,
        organization_id=request.organization_id or None,
        template_type=request.template_type,
        view=decode.view(request),
    )


class SelectionServicer(SelectionServiceServicer):
    def SetSelection(self, request: SetSelectionRequest, context: ServicerContext) -> Selection:
        set_ = partial(
            selections.set,
            actor.current(),
            user_id=request.user_id,
            organization_id=request.organization_id or None,
            template_type=request.template_type,
            template_id=request.template_id,
            revision=request.revision,
            view=decode.view(request),
        )
        return write(request, Selection, encode.selection, set_, lambda _: _get(request))

    def GetSelection(self, request: GetSelectionRequest, context: ServicerContext) -> Selection:
        return encode.selection(_get(request))

    def ListSelections(self, request: ListSelectionsRequest, context: ServicerContext) -> ListSelectionsResponse:
        page = selections.page(
            actor.current(),
            user_id=request.user_id,
            organization_id=request.organization_id or None,
            view=decode.view(request),
            after=pages.after(request, str, str),
            size=pages.size(request),
        )
        return ListSelectionsResponse(
            selections=map(encode.selection, page.rows), next_page_token=pages.token(request, page)
        )

    def DeleteSelection(self, request: DeleteSelectionRequest, context: ServicerContext) -> Empty:
        delete = partial(
            selections.delete,
            actor.current(),
            user_id=request.user_id,
            organization_id=request.organization_id or None,
            template_type=request.template_type,
            etag=request.etag,
        )
        return write(request, Empty, encode.empty, delete)

    def ResolveTemplate(self, request: ResolveTemplateRequest, context: ServicerContext) -> ResolveTemplateResponse:
        return encode.resolution(
            selections.resolve(
                actor.current(),
                user_id=request.user_id,
                organization_id=request.organization_id or None,
                template_type=request.template_type,
                view=decode.view(request),
                labels=request.labels,
            )
        )

    def BatchResolveTemplates(
        self, request: BatchResolveTemplatesRequest, context: ServicerContext
    ) -> BatchResolveTemplatesResponse:
        outcomes = selections.batch_resolve(
            actor.current(),
            user_id=request.user_id,
            organization_id=request.organization_id or None,
            template_types=request.template_types,
            view=decode.view(request),
            labels=request.labels,
        )
        return BatchResolveTemplatesResponse(results=map(encode.outcome, request.template_types, outcomes))
