"""Sends spans to a collector, by OTLP. Only a process that traces imports this."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from service import traces
from service.happenings import happened
from service.statements import statements
from service.traces import Parent

MOST_WAITING = 2048
"""Spans that wait for the collector; further ones are dropped."""
EXPORT_SECONDS = 5.0
"""How long one batch may take."""
FLUSH_SECONDS = 2.0
"""How long the process waits at its end for what it has not sent yet."""

_OURS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The codes that are a server's errors, by OpenTelemetry's conventions; the others are for callers to mend."""
_NAME = "omniflo-templates"


class Spans:
    """A part that is told of what the process does, and tells a collector. No call waits for that."""

    def __init__(self, endpoint: str, replica: str) -> None:
        self._endpoint = endpoint
        self._replica = replica

    def start(self) -> None:
        # It logs the values of callers.
        logging.getLogger("opentelemetry.trace.span").setLevel(logging.CRITICAL)
        release = version(_NAME)
        name = f"{self._replica}:{os.getpid()}"
        ours = {"service.name": _NAME, "service.version": release, "service.instance.id": name}
        # Sampled as OTEL_TRACES_SAMPLER says; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win over what is ours.
        self._provider = TracerProvider(
            resource=Resource(ours).merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._outbox = _Outbox(OTLPSpanExporter(endpoint=self._endpoint, timeout=EXPORT_SECONDS))
        self._provider.add_span_processor(self._outbox)
        self._tracer = self._provider.get_tracer(_NAME, release)
        statements.observe(self._statement)
        traces.use(self)

    def stop(self) -> None:
        traces.use(None)
        statements.observe(None)
        # It would wait for 30 s, and for a batch on its way.
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)

    def call(self, method: str, parent: Parent | None) -> "_Call":
        service, _, name = method.removeprefix("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        return _Call(
            self._tracer.start_span(f"{service}/{name}", _context(parent), kind=SpanKind.SERVER, attributes=attributes)
        )

    @contextmanager
    def work(self, name: str) -> Iterator[None]:
        # What has failed is logged, and its message may quote a row.
        with self._tracer.start_as_current_span(name, record_exception=False):
            yield

    def request(self, name: str, headers: MutableMapping[str, str]) -> Callable[[str], None]:
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT)
        told = span.get_span_context()
        headers[traces.HEADER] = f"00-{told.trace_id:032x}-{told.span_id:016x}-{int(told.trace_flags):02x}"

        def end(outcome: str) -> None:
            if span.is_recording():
                span.set_attribute("omniflo.outcome", outcome)
                if outcome != "ok":
                    span.set_status(Status(StatusCode.ERROR))
                span.end()

        return end

    def _statement(self, name: str, seconds: float, error: str | None) -> None:
        # What nobody has asked for, such as the log of changes four times a second, is no trace of its own.
        if not trace.get_current_span().is_recording():
            return
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql"},
            start_time=end - int(seconds * 1e9),
        )
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)


class _Call:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        told = span.get_span_context()
        self.fields = {"trace_id": f"{told.trace_id:032x}", "span_id": f"{told.span_id:016x}"}

    def enter(self) -> None:
        self._token = contexts.attach(trace.set_span_in_context(self._span))

    def leave(self) -> None:
        contexts.detach(self._token)

    def end(self, code: str, fields: Mapping[str, Any]) -> None:
        span = self._span
        if span.is_recording():
            span.set_attribute("rpc.response.status_code", code)
            for name in ("reason", "cached"):
                if name in fields:
                    span.set_attribute(f"omniflo.{name}", fields[name])
            if code in _OURS:
                span.set_status(Status(StatusCode.ERROR))
        span.end()


class _Outbox(SpanProcessor):
    """What waits for the collector: so much and no more."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._waiting = 0
        self._lock = threading.Lock()
        self._batches = BatchSpanProcessor(_Exporter(exporter, self._left), max_queue_size=MOST_WAITING)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            if is_room := self._waiting < MOST_WAITING:
                self._waiting += 1
        if is_room:
            self._batches.on_end(span)
        else:
            happened("span_dropped")

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        return self._batches.force_flush(timeout_millis)

    def _left(self, count: int, *, is_sent: bool) -> None:
        """Take note of a batch that has left the queue, to the collector or to nowhere."""
        with self._lock:
            self._waiting -= count
        if not is_sent:
            happened("span_dropped", count=count)


class _Exporter(SpanExporter):
    """Sends batches, and says what became of them."""

    def __init__(self, exporter: SpanExporter, left: Callable[..., None]) -> None:
        self._exporter = exporter
        self._left = left

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._left(len(spans), is_sent=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _context(parent: Parent | None) -> contexts.Context:
    if parent is None:
        return contexts.Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([parent.state]) if parent.state else TraceState()
    told = SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )
    return trace.set_span_in_context(NonRecordingSpan(told), contexts.Context())
