"""What receives spans by OTLP, as a collector does: a real gRPC server on a free port of this machine."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


class Received(NamedTuple):
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    has_failed: bool
    fields: dict[str, Any]
    resource: dict[str, Any]


class Collector(TraceServiceServicer):
    """Keeps what it is sent, in the order of its coming. While `hangs` is set it answers nobody."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.hangs = False
        self._over = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
        del context
        if self.hangs:
            self._over.wait(60)
        for group in request.resource_spans:
            resource = _fields(group.resource.attributes)
            self.spans += [
                Received(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _fields(span.attributes),
                    resource,
                )
                for scope in group.scope_spans
                for span in scope.spans
            ]
        return ExportTraceServiceResponse()

    def of(self, trace_id: str) -> list[Received]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def close(self) -> None:
        self._over.set()
        self._server.stop(0).wait(10)


def _fields(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
