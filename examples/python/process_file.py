"""Give the registry a file, and print what a template's model makes of it: the text as it comes, then the result.

    python process_file.py FILE USER_ID TEMPLATE_TYPE ['What to say about the file']

Needs the wheel of the registry. The registry is at TEMPLATES_ADDRESS (127.0.0.1:50051 unless set). TEMPLATES_KEY is an
API key, with which an empty USER_ID means the owner of the key.
"""

import os
import sys
import uuid
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingStatus
from omniflo.templates.v1.processing_service_pb2 import (
    UploadFileHeader,
    UploadFileRequest,
    WatchProcessingRecordRequest,
)
from omniflo.templates.v1.processing_service_pb2_grpc import ProcessingServiceStub

CHUNK_BYTES = 256 * 1024
SECONDS = 600.0


def open_channel() -> grpc.Channel:
    """Open a channel that retries what may be retried. A program keeps it for all of its calls."""
    service_config = files("omniflo.templates.v1").joinpath("service_config.json").read_text()
    address = os.environ.get("TEMPLATES_ADDRESS", "127.0.0.1:50051")
    return grpc.insecure_channel(address, [("grpc.service_config", service_config)])


def messages(file: Path, header: UploadFileHeader) -> Iterator[UploadFileRequest]:
    """Yield the header and then the file, each part of which is read when gRPC can send it."""
    yield UploadFileRequest(header=header)
    size, sent = file.stat().st_size, 0
    with file.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            yield UploadFileRequest(chunk=chunk)
            sent += len(chunk)
            print(f"uploaded {sent:,} of {size:,} bytes", file=sys.stderr)


def watch(
    records: ProcessingServiceStub, record: ProcessingRecord, metadata: tuple[tuple[str, str], ...]
) -> ProcessingRecord:
    """Print what comes of a record until its run has ended, and return the record as it is then."""
    request = WatchProcessingRecordRequest(id=record.id)
    print("running", file=sys.stderr)
    for message in records.WatchProcessingRecord(request, timeout=SECONDS, metadata=metadata):
        if message.WhichOneof("event") == "output_delta":
            print(message.output_delta, end="", flush=True)
        else:
            record = message.record
    print()
    return record


def main(path: str, user_id: str, template_type: str, text: str = "") -> None:
    file = Path(path)
    key = os.environ.get("TEMPLATES_KEY")
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    # With a request_id, the same upload can be sent again, and the template is run once.
    header = UploadFileHeader(
        filename=file.name,
        user_id=user_id,
        template_type=template_type,
        input_text=text,
        request_id=str(uuid.uuid4()),
    )
    try:
        with open_channel() as channel:
            records = ProcessingServiceStub(channel)
            record = records.UploadFile(messages(file, header), timeout=SECONDS, metadata=metadata)
            record = watch(records, record, metadata)
    except grpc.RpcError as error:
        # Nothing, when it is not the registry that answered.
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(error)
        reasons = [info.reason for detail in status.details if detail.Unpack(info)] if status else []
        sys.exit(f"{error.code().name} {' '.join(reasons)}: {error.details()}")
    if record.status != ProcessingStatus.PROCESSING_STATUS_COMPLETED:
        sys.exit(f"{ProcessingStatus.Name(record.status)} {record.error_reason}: {record.error_message}")
    usage = record.usage
    print(f"used {usage.input_tokens} + {usage.output_tokens} tokens of {record.model}", file=sys.stderr)
    print(f"result: {record.results}")


if __name__ == "__main__":
    if len(sys.argv) not in {4, 5}:
        sys.exit(__doc__)
    main(*sys.argv[1:])
