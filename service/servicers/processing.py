"""ProcessingService."""

from datetime import datetime
from functools import partial

from google.protobuf.empty_pb2 import Empty
from grpc import ServicerContext

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord
from omniflo.templates.v1.processing_service_pb2 import (
    CreateProcessingRecordRequest,
    DeleteProcessingRecordRequest,
    GetProcessingRecordRequest,
    ListProcessingRecordsRequest,
    ListProcessingRecordsResponse,
    UpdateProcessingRecordRequest,
)
from omniflo.templates.v1.processing_service_pb2_grpc import ProcessingServiceServicer
from service import actor
from service.models.processing_records import ProcessingRecord as Row
from service.operations import processing_records
from service.servicers import decode, encode, encode_processing, pages
from service.servicers.writes import write


class ProcessingServicer(ProcessingServiceServicer):
    def CreateProcessingRecord(
        self, request: CreateProcessingRecordRequest, context: ServicerContext
    ) -> ProcessingRecord:
        body = request.record
        create = partial(
            processing_records.create,
            actor.current(),
            template_id=body.template_id,
            user_id=body.user_id,
            organization_id=body.organization_id or None,
            said=decode.values(body, "template_id", "user_id", "organization_id"),
        )
        return write(request, ProcessingRecord, encode_processing.record, create, _get)

    def GetProcessingRecord(self, request: GetProcessingRecordRequest, context: ServicerContext) -> ProcessingRecord:
        return encode_processing.record(_get(request.id))

    def ListProcessingRecords(
        self, request: ListProcessingRecordsRequest, context: ServicerContext
    ) -> ListProcessingRecordsResponse:
        page = processing_records.page(
            actor.current(),
            user_id=request.user_id,
            organization_id=request.organization_id or None,
            template_id=request.template_id,
            status=decode.processing_status(request.status),
            start=decode.time(request, "start_time"),
            end=decode.time(request, "end_time"),
            after=pages.after(request, datetime, str),
            size=pages.size(request),
        )
        return ListProcessingRecordsResponse(
            records=map(encode_processing.record, page.rows), next_page_token=pages.token(request, page)
        )

    def UpdateProcessingRecord(
        self, request: UpdateProcessingRecordRequest, context: ServicerContext
    ) -> ProcessingRecord:
        body = request.record
        changes = decode.changes(body, request.update_mask)
        update = partial(processing_records.update, actor.current(), body.id, changes, etag=body.etag)
        return write(request, ProcessingRecord, encode_processing.record, update, _get)

    def DeleteProcessingRecord(self, request: DeleteProcessingRecordRequest, context: ServicerContext) -> Empty:
        delete = partial(processing_records.delete, actor.current(), request.id, etag=request.etag)
        return write(request, Empty, encode.empty, delete)


def _get(id: str) -> Row:
    return processing_records.get(actor.current(), id)
