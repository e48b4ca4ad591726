"""Files through uploads and two workers that are killed again and again, while the stand-in for OpenAI misbehaves."""

import math
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingStatus
from omniflo.templates.v1.processing_service_pb2 import (
    GetProcessingRecordRequest,
    RetryProcessingRequest,
    UploadFileHeader,
    UploadFileRequest,
)
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest
from tests import commands
from tests.conftest import Api, Database, as_service
from tests.contract.processing import anything
from tests.e2e.serving import eventually
from tests.jobs import running
from tests.jobs.killing import killed_again_and_again
from tests.openai_stand_in import Fault, StandIn
from tests.scale import PROCESSED_FILES

SECONDS = 300.0
CHUNK = 256 * 1024
UPLOADERS = 4
SMALLEST, LARGEST = 1024, 5 * 1024 * 1024
TYPES = {".pdf": b"%PDF-1.7\n", ".PNG": b"\x89PNG\r\n\x1a\n", ".csv": b"a,b\n", "": b""}
ODD = ["\N{ROCKET}", "\u202e\u05e9", "%s {} \\ ' \" ;", "\r\n\t", "../..", "é" * 100, "-- </a>", "a\u2028b"]
CHANCES = {
    Fault.RATE_LIMITED: 0.05,
    Fault.SERVER_ERROR: 0.05,
    Fault.LOST: 0.03,
    Fault.BAD_GATEWAY: 0.03,
    Fault.CUT_STREAM: 0.1,
    Fault.MUTED_STREAM: 0.03,
    Fault.FAILED: 0.03,
    Fault.INCOMPLETE: 0.03,
    Fault.NO_JSON: 0.05,
}
SCHEMA = (
    '{"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"],'
    ' "additionalProperties": false}'
)
FAILED = ProcessingStatus.PROCESSING_STATUS_FAILED
# The last one: on a slow machine, it may send nothing for so long that the service ends the call.
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
LAST = {FAILED, ProcessingStatus.PROCESSING_STATUS_COMPLETED}
WAITING = "select count(*) from processing_records where status in ('uploading', 'processing')"


def content(number: int) -> tuple[str, bytes]:
    """Answer the name and the bytes of a file, whose sizes are spread evenly over their logarithms."""
    random_ = random.Random(number)
    end, head = list(TYPES.items())[number % len(TYPES)]
    size = round(math.exp(random_.uniform(math.log(SMALLEST), math.log(LARGEST))))
    return f"{number} {ODD[number % len(ODD)]}{end}", head + random_.randbytes(size)


def upload(api: Api, template: Template, number: int) -> str:
    """Upload a file until that succeeds, and answer the id of its record."""
    filename, data = content(number)
    header = UploadFileHeader(filename=filename, user_id=template.user_id, template_id=template.id)
    while True:
        chunks = (UploadFileRequest(chunk=data[at : at + CHUNK]) for at in range(0, len(data), CHUNK))
        try:
            return api.processing.UploadFile(iter([UploadFileRequest(header=header), *chunks]), timeout=SECONDS).id
        except grpc.RpcError as error:
            if error.code() not in AGAIN:
                raise


@pytest.mark.soak
def test_every_file_is_run_once_and_counted_once_whatever_happens(
    api: Api, database: Database, stand_in: StandIn
) -> None:
    stand_in.models = anything(stand_in.models)
    stand_in.event_seconds, stand_in.faults.events, stand_in.faults.retry_after = 0.03, None, "0"
    stand_in.faults.by_chance(1, CHANCES)
    templates = [api.template(), api.template(response_format=SCHEMA)]

    def read(id: str) -> ProcessingRecord:
        return api.processing.GetProcessingRecord(GetProcessingRecordRequest(id=id))

    def start(begun: Event) -> ForkServerProcess:
        return commands.process(running.live, as_service(database.url), stand_in.url, begun)

    with killed_again_and_again(start, 2, seconds=(1, 3)) as kills:
        with ThreadPoolExecutor(UPLOADERS) as pool:
            ids = list(pool.map(lambda n: upload(api, templates[n % 2], n), range(PROCESSED_FILES)))
        eventually(lambda: database.query(WAITING) == [(0,)], within=SECONDS * max(1, PROCESSED_FILES / 100))
        first = {id: read(id) for id in ids}
        assert {record.status for record in first.values()} <= LAST
        assert all(record.error_reason for record in first.values() if record.status == FAILED)
        runs = stand_in.runs.counts("processing_record_id")
        assert max(runs.values()) == 1
        assert all(runs[id] for id, record in first.items() if record.status != FAILED)
        again = [id for id, record in first.items() if record.status == FAILED]
        for id in again:
            api.processing.RetryProcessing(RetryProcessingRequest(id=id))
        eventually(lambda: database.query(WAITING) == [(0,)], within=SECONDS)
    assert kills, "a worker should have been killed"
    after = stand_in.runs.counts("processing_record_id")
    assert all(after[id] <= runs[id] + (id in again) for id in ids)
    # What ended is counted once for each attempt, also of what failed. Of an answer that never came nothing is known.
    ended = [record for record in (*first.values(), *map(read, ids)) if record.HasField("usage")]
    known = {record.response_id for record in ended}
    given = [run.usage for run in stand_in.runs if run.id in known]
    yesterday = Timestamp(seconds=int(time.time()) - 24 * 3600)
    (counted,) = api.usage.QueryUsage(QueryUsageRequest(start_time=yesterday)).rows
    assert counted.count == len(given)
    for name in ("input_tokens", "output_tokens"):
        assert getattr(counted, name) == sum(usage[name] for usage in given)
    reasons = Counter(record.error_reason for record in first.values())
    print(f"{len(ids)} files, {len(kills)} workers killed: {reasons}")
