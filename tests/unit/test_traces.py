"""Which headers name a caller's span, and that spans which nobody takes are dropped and counted."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from service import happenings, traces
from service.job_metrics import Jobs
from service.metrics import Metrics
from service.openai_gateway import Gateway
from service.openai_runs import Runs
from service.server import spans
from service.server.spans import Spans
from service.statements import statements
from service.traces import Parent, parent_of
from tests.collector import Collector
from tests.e2e.serving import eventually
from tests.openai_stand_in import KEY, StandIn

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{SPAN}-01"
METHOD = "/omniflo.templates.v1.UserService/GetUser"


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (HEADER, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        # Of a version that is still to come.
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_header_names_the_span_of_its_caller(header: str, is_sampled: bool) -> None:
    assert parent_of([("a", "b"), ("traceparent", header)]) == Parent(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f" {HEADER}",
        f"{HEADER}\n",
        f"{HEADER}-",
        f"{HEADER}-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-\x1b[31m",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}a-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}.-1",
        f"00-{'٣' * 32}-{SPAN}-01",
        HEADER.encode(),
    ],
)
def test_a_header_that_is_wrong_names_none(header: str | bytes) -> None:
    assert parent_of([("traceparent", header)]) is None


def test_a_header_that_is_there_twice_names_none() -> None:
    assert parent_of([("traceparent", HEADER)] * 2) is None


@pytest.mark.parametrize(("state", "kept"), [(["a=1"], "a=1"), (["a=1", "b=2"], "a=1,b=2"), (["a" * 513], "")])
def test_what_other_systems_say_of_it_is_kept_if_it_is_short(state: list[str], kept: str) -> None:
    found = parent_of([("traceparent", HEADER), *(("tracestate", value) for value in state)])
    assert found is not None
    assert found.state == kept


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.mark.parametrize("seconds", [600, 0.1])
@pytest.mark.parametrize("of", [lambda: Metrics([]), lambda: Jobs([])], ids=["worker", "jobs"])
def test_what_a_collector_does_not_take_is_dropped_and_counted(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, of: Callable[[], Metrics | Jobs], seconds: float
) -> None:
    monkeypatch.setattr(spans, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(spans, "EXPORT_SECONDS", seconds)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    process = of()
    monkeypatch.setattr(happenings, "_hear", process.happenings.count)
    value = process.registry.get_sample_value
    collector.hangs = True
    part = Spans(collector.url, "a replica")
    part.start()
    for _ in range(spans.MOST_WAITING + 500):
        part.call(METHOD, None).end("OK", {})
    # Those that find no room; the others too, when the collector has not taken them in time.
    wanted = 500 + (spans.MOST_WAITING if seconds < 1 else 0)
    eventually(lambda: value("omniflo_trace_spans_dropped_total") == wanted, within=30)
    # It ends although the collector does not take what waits.
    part.stop()
    assert traces.tracer() is None


def test_what_the_process_has_done_is_sent_before_it_ends(collector: Collector) -> None:
    part = Spans(collector.url, "a replica")
    part.start()
    statements.note("nobody's", 0.1, None)
    call = part.call(METHOD, Parent(TRACE, SPAN, is_sampled=True, state="a=1"))
    call.enter()
    statements.note("users.get", 0.25, "OperationalError")
    headers: dict[str, str] = {}
    traces.request("POST /files", headers)("failed")
    call.leave()
    call.end("UNAVAILABLE", {"reason": "DATABASE_UNAVAILABLE", "caller": "user:somebody"})
    with traces.work("job a_task"):
        statements.note("jobs.purge", 0.1, None)
    part.stop()
    found = {span.name: span for span in eventually(lambda: collector.spans, within=10)}
    assert set(found) == {
        "omniflo.templates.v1.UserService/GetUser",
        "users.get",
        "POST /files",
        "job a_task",
        "jobs.purge",
    }
    of_call = found["omniflo.templates.v1.UserService/GetUser"]
    assert (of_call.trace_id, of_call.parent_id) == (TRACE, SPAN)
    assert of_call.fields["omniflo.reason"] == "DATABASE_UNAVAILABLE"
    assert "omniflo.caller" not in of_call.fields
    assert call.fields == {"trace_id": TRACE, "span_id": of_call.span_id}
    for name in ("users.get", "POST /files"):
        assert (found[name].parent_id, found[name].has_failed) == (of_call.span_id, True)
    assert headers == {"traceparent": f"00-{TRACE}-{found['POST /files'].span_id}-01"}
    assert found["users.get"].fields == {"db.system.name": "postgresql", "error.type": "OperationalError"}
    assert found["jobs.purge"].parent_id == found["job a_task"].span_id
    assert of_call.resource["service.name"] == "omniflo-templates"


def test_the_span_of_a_stream_ends_with_the_stream(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    part, stand_in = Spans(collector.url, "a replica"), StandIn()
    part.start()
    gateway = Gateway(SecretStr(KEY), stand_in.url)

    def outcomes() -> list[str]:
        return [span.fields["omniflo.outcome"] for span in collector.spans if span.name == "POST /responses"]

    # All of the run but its first event is still to come.
    stand_in.event_seconds = 600.0
    for outcome in ("ok", "cut"):
        stopped = threading.Event()
        told = Runs(gateway).start('{"model": "gpt-5.5"}', [{"type": "input_text", "text": "?"}], stopped)
        next(told)
        before = len(collector.spans), outcomes()
        gateway.model("gpt-5.5")
        eventually(lambda before=before: len(collector.spans) > before[0], within=10)  # type: ignore[misc]
        assert outcomes() == before[1]
        if outcome == "ok":
            for run in stand_in.runs:
                run.cancel()
        else:
            stopped.set()
        list(told)
        wanted = [*before[1], outcome]
        eventually(lambda wanted=wanted: outcomes() == wanted, within=10)  # type: ignore[misc]
    part.stop()
    gateway.stop()
    stand_in.close()


def test_nothing_of_opentelemetry_is_imported_by_a_service_that_does_not_trace() -> None:
    code = (
        "import sys, openai, service.__main__, service.server.wiring, service.jobs.worker, service.jobs.processing,"
        " service.openai_client; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
