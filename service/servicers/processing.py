"""ProcessingService."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc import ServicerContext

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingRunner
from omniflo.templates.v1.processing_service_pb2 import (
    CancelProcessingRequest,
    CancelProcessingResponse,
    CreateProcessingRecordRequest,
    DeleteProcessingRecordRequest,
    GetProcessingRecordRequest,
    ListProcessingRecordsRequest,
    ListProcessingRecordsResponse,
    RetryProcessingRequest,
    RetryProcessingResponse,
    UpdateProcessingRecordRequest,
    UploadFileRequest,
    WatchProcessingRecordRequest,
    WatchProcessingRecordResponse,
)
from omniflo.templates.v1.processing_service_pb2_grpc import ProcessingServiceServicer
from service import actor, errors
from service.models.processing_records import ProcessingRecord as Row
from service.openai_gateway import Gateway
from service.operations import processing_records, processing_runs
from service.operations.record_watches import RecordWatch, RecordWatches
from service.servicers import decode, encode, encode_processing, pages
from service.servicers.uploads import Uploads
from service.servicers.writes import write

_OF_RUNS = frozenset(
    {"filename", "user_id", "organization_id", "openai_file_id", "template_id", "template_revision", "runner"}
)
"""What a caller says of a run of the registry."""


class ProcessingServicer(ProcessingServiceServicer):
    def __init__(self, gateway: Gateway, uploads: Uploads, watches: RecordWatches) -> None:
        self._gateway = gateway
        self._uploads = uploads
        self._watches = watches

    def UploadFile(self, request_iterator: Iterator[UploadFileRequest], context: ServicerContext) -> ProcessingRecord:
        return self._uploads.take(request_iterator, context)

    def CreateProcessingRecord(
        self, request: CreateProcessingRecordRequest, context: ServicerContext
    ) -> ProcessingRecord:
        body = request.record
        organization_id = body.organization_id or None
        if body.runner == ProcessingRunner.PROCESSING_RUNNER_CALLER:
            _require_none(request, ("labels", "variables", "input_text"), "", "is for runs of the registry")
            create = partial(
                processing_records.create,
                actor.current(),
                user_id=body.user_id,
                organization_id=organization_id,
                template_id=body.template_id,
                said=decode.values(body, "template_id", "user_id", "organization_id"),
            )
        else:
            _require_none(
                body, decode.values(body).keys() - _OF_RUNS, "record.", "is set by the registry, which runs it"
            )
            if not body.openai_file_id:
                raise errors.field_invalid(("record.openai_file_id", "is required"))
            self._gateway.require_key()
            create = partial(
                processing_runs.add,
                actor.current(),
                user_id=body.user_id,
                organization_id=organization_id,
                template_id=body.template_id,
                filename=body.filename,
                openai_file_id=body.openai_file_id,
                revision=body.template_revision,
                labels=request.labels,
                variables=request.variables,
                input_text=request.input_text,
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
        delete = partial(
            processing_records.delete,
            actor.current(),
            request.id,
            etag=request.etag,
            with_file=request.delete_file,
        )
        return write(request, Empty, encode.empty, delete)

    def CancelProcessing(self, request: CancelProcessingRequest, context: ServicerContext) -> CancelProcessingResponse:
        cancel = partial(processing_runs.cancel, actor.current(), request.id, etag=request.etag)
        return write(request, CancelProcessingResponse, encode_processing.cancelled, cancel)

    def RetryProcessing(self, request: RetryProcessingRequest, context: ServicerContext) -> RetryProcessingResponse:
        retry = partial(processing_runs.retry, actor.current(), request.id, etag=request.etag)
        return write(request, RetryProcessingResponse, encode_processing.queued_again, retry)

    def WatchProcessingRecord(  # type: ignore[override]
        self, request: WatchProcessingRecordRequest, context: ServicerContext, send: Callable[[Any], None]
    ) -> None:
        """Open a stream and return: its messages are sent by other threads, as their reader has room for them."""

        def next_(watch: RecordWatch) -> WatchProcessingRecordResponse | None:
            news = self._watches.next(watch)
            return None if news is None else encode_processing.news(news)

        watch = self._watches.open(
            actor.current(), request.id, wake=lambda watch: send(partial(next_, watch)), end=send
        )
        if not context.add_callback(lambda: self._watches.close(watch)):
            self._watches.close(watch)

    WatchProcessingRecord.experimental_non_blocking = True  # type: ignore[attr-defined]


def _require_none(message: Message, fields: Iterable[str], before: str, why: str) -> None:
    """Raise for those of the fields that have a value."""
    given = {field.name for field, _ in message.ListFields()}
    if wrong := [(f"{before}{name}", why) for name in sorted(given.intersection(fields))]:
        raise errors.field_invalid(*wrong)


def _get(id: str) -> Row:
    return processing_records.get(actor.current(), id)
