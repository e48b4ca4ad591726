"""Records of runs to messages. Pure."""

from omniflo.templates.v1 import processing_record_pb2
from omniflo.templates.v1.processing_record_pb2 import ProcessingRunner, ProcessingStatus, TokenUsage
from omniflo.templates.v1.processing_service_pb2 import (
    CancelProcessingResponse,
    RetryProcessingResponse,
    WatchProcessingRecordResponse,
)
from service.models.processing_records import USAGE, ProcessingRecord
from service.operations.record_watches import News
from service.servicers.encode import timestamp


def record(row: ProcessingRecord) -> processing_record_pb2.ProcessingRecord:
    message = processing_record_pb2.ProcessingRecord(
        id=row.id,
        filename=row.filename,
        user_id=row.user_id,
        organization_id=row.organization_id or "",
        openai_file_id=row.openai_file_id,
        status=ProcessingStatus.Value(f"PROCESSING_STATUS_{row.status.upper()}"),
        error_reason=row.error_reason,
        error_message=row.error_message,
        template_id=row.template_id,
        template_revision=row.template_revision,
        template_type_revision=row.template_type_revision,
        model=row.model,
        results=row.results,
        output_text=row.output_text,
        response_id=row.response_id,
        runner=ProcessingRunner.Value(f"PROCESSING_RUNNER_{row.runner.upper()}"),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        complete_time=None if row.complete_time is None else timestamp(row.complete_time),
        etag=row.etag,
    )
    if row.processing_time is not None:
        message.processing_time.FromTimedelta(row.processing_time)
    if row.input_tokens is not None:
        message.usage.CopyFrom(TokenUsage(**{name: getattr(row, name) for name in USAGE}))
    return message


def cancelled(row: ProcessingRecord) -> CancelProcessingResponse:
    return CancelProcessingResponse(record=record(row))


def queued_again(row: ProcessingRecord) -> RetryProcessingResponse:
    return RetryProcessingResponse(record=record(row))


def news(of: News) -> WatchProcessingRecordResponse:
    if isinstance(of, str):
        return WatchProcessingRecordResponse(output_delta=of)
    return WatchProcessingRecordResponse(record=record(of))
