"""Files on their way through: so many at once, each on the thread of its call, and nothing of them is kept."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import grpc

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord
from omniflo.templates.v1.processing_service_pb2 import UploadFileHeader, UploadFileRequest
from service import actor, call, errors
from service.actor import SYSTEM
from service.openai_files import SILENT_SECONDS, Files
from service.openai_gateway import Gateway, Refused
from service.operations import processing_runs
from service.servicers import encode_processing
from service.servicers.writes import write_after

KEEP_SECONDS = 10.0
"""After how long it is said again that an upload goes on."""
RETRY_SECONDS = 5.0
GONE_SECONDS = 0.25
"""How long after the end of its messages a caller may turn out to have gone away."""


class _Uploaded(NamedTuple):
    record_id: str
    file_id: str


class _Caller:
    """Knows whether the caller has gone away: grpcio may first say that no message comes any more, as at the end."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        self._over = threading.Event()
        self._ended_at = 0.0
        if not context.add_callback(self._over.set):
            self._over.set()

    def end(self) -> None:
        """Note that no message comes any more."""
        self._ended_at = time.monotonic()

    def require(self) -> None:
        """Raise if the file did not end, but its caller."""
        self._over.wait(max(0.0, self._ended_at + GONE_SECONDS - time.monotonic()))
        if self._over.is_set() or not self._context.is_active():
            raise grpc.RpcError


class Figures(NamedTuple):
    in_flight: int
    bytes: int
    """That have come, of all files so far."""


class _Slots:
    """So many uploads at once. A caller that is no service has half of them at most."""

    def __init__(self, most: int) -> None:
        self._most, self._most_of_one = most, max(1, most // 2)
        self._taken: Counter[str] = Counter()
        self._bytes = 0
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, caller: actor.Actor) -> Iterator[None]:
        with self._lock:
            of_one = self._most if caller.is_trusted or caller.role is not None else self._most_of_one
            if self._taken.total() >= self._most or self._taken[caller.name] >= of_one:
                raise errors.ResourceExhausted(
                    "OVERLOADED",
                    "no more files are taken at once, of all or of one caller",
                    retry_seconds=RETRY_SECONDS,
                )
            self._taken[caller.name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller.name] -= 1
                self._taken += Counter()

    def count(self, size: int) -> None:
        """Count bytes that have come."""
        with self._lock:
            self._bytes += size

    def figures(self) -> Figures:
        with self._lock:
            return Figures(self._taken.total(), self._bytes)


class Uploads:
    def __init__(self, gateway: Gateway, *, most: int, max_bytes: int, receive_seconds: float) -> None:
        self._gateway, self._files = gateway, Files(gateway)
        self._max_bytes = max_bytes
        self._slots = _Slots(most)
        # Neither the caller nor OpenAI may be silent for longer.
        self._hold = max(receive_seconds, SILENT_SECONDS) + KEEP_SECONDS

    def figures(self) -> Figures:
        return self._slots.figures()

    def take(self, requests: Iterator[UploadFileRequest], context: grpc.ServicerContext) -> ProcessingRecord:
        """Send a file on to OpenAI, and queue its run."""
        first = next(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise errors.field_invalid(("header", "must be sent first, in a message of its own"))
        self._gateway.require_key()
        with self._slots.taken(actor.current()):
            return self._take(first.header, requests, _Caller(context))

    def _take(
        self, header: UploadFileHeader, requests: Iterator[UploadFileRequest], caller: _Caller
    ) -> ProcessingRecord:
        made: list[_Uploaded] = []
        queued = None
        try:
            queued = write_after(
                header,
                ProcessingRecord,
                encode_processing.record,
                lambda: self._upload(header, requests, caller, made),
                lambda uploaded: processing_runs.queue(actor.current(), *uploaded),
            )
            return queued
        finally:
            # Its record may be gone, or a twin of this call was faster.
            for uploaded in made:
                if queued is None or queued.id != uploaded.record_id:
                    with suppress(errors.Error):
                        processing_runs.drop(SYSTEM, *uploaded)

    def _upload(
        self, header: UploadFileHeader, requests: Iterator[UploadFileRequest], caller: _Caller, made: list[_Uploaded]
    ) -> _Uploaded:
        call.current().request_id = header.request_id
        record = processing_runs.add(
            actor.current(),
            place="header",
            filename=header.filename,
            user_id=header.user_id,
            organization_id=header.organization_id or None,
            template_id=header.template_id,
            template_type=header.template_type,
            labels=header.labels,
            variables=header.variables,
            input_text=header.input_text,
            hold_seconds=self._hold,
        )
        try:
            chunks = self._chunks(record.id, requests, caller)
            made.append(_Uploaded(record.id, self._files.upload(header.filename, chunks)))
            # What came of a caller that has gone away is no file.
            caller.require()
            return made[0]
        except Exception as fault:
            reason, message = _why(fault)
            # If this fails too, a worker finds the record.
            with suppress(errors.Error):
                processing_runs.fail(SYSTEM, record.id, reason, message)
            raise

    def _chunks(self, record_id: str, requests: Iterator[UploadFileRequest], caller: _Caller) -> Iterator[bytes]:
        size, kept_at = 0, time.monotonic()
        for request in requests:
            if request.WhichOneof("part") != "chunk":
                raise errors.field_invalid(("header", "must be sent once, before all chunks"))
            size += len(request.chunk)
            self._slots.count(len(request.chunk))
            if size > self._max_bytes:
                raise errors.ResourceExhausted(
                    "FILE_TOO_LARGE", "the file is larger than the service takes", {"limit": str(self._max_bytes)}
                )
            if time.monotonic() >= kept_at + KEEP_SECONDS:
                kept_at = time.monotonic()
                processing_runs.keep_upload(SYSTEM, record_id, self._hold)
            yield request.chunk
        caller.end()
        if not size:
            caller.require()
            raise errors.field_invalid(("chunk", "must be sent, since a file has at least one byte"))


def _why(fault: Exception) -> tuple[str, str]:
    """Return what a record says of an upload that failed."""
    if isinstance(fault, Refused):
        return fault.reason, fault.said
    if isinstance(fault, errors.Error):
        return fault.reason, fault.message
    if isinstance(fault, grpc.RpcError):
        return "PROCESSING_UPLOAD_ENDED", "the caller went away, or was silent for too long"
    return "INTERNAL", "the service failed"
