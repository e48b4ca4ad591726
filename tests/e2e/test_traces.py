"""A call as its caller's tracing sees it, through a real collector: the caller, the registry, its statements."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from omniflo.templates.v1.model_service_pb2 import ListAvailableModelsRequest
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ProvisionUserRequest
from tests.collector import Collector, Received
from tests.conftest import fails
from tests.e2e.clients import connected
from tests.e2e.serving import Service, eventually, serving
from tests.openai_stand_in import KEY, StandIn

pytestmark = pytest.mark.waiting

SECONDS = 20.0
SERVICE = "omniflo.templates.v1"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def service(
    collector: Collector,
    openai: StandIn,
    new_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service of two workers that trace, and a process for jobs."""
    log: Path = tmp_path_factory.mktemp("traces") / "log"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        environment.setenv("OPENAI_BASE_URL", openai.url)
        environment.setenv("OPENAI_API_KEY", KEY)
        with serving(new_database(), log, workers=2, work="on", replica="replica-a") as running:
            yield running


def line_of(service: Service, method: str, span: Received) -> dict[str, object]:
    (line,) = eventually(
        lambda: [call for call in service.calls() if call.get("span_id") == span.span_id], within=SECONDS
    )
    assert line["method"] == f"/{method}"
    return line


def test_one_call_is_one_trace_from_its_caller_to_its_statements(service: Service, collector: Collector) -> None:
    provider = TracerProvider(resource=Resource({"service.name": "a caller"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=collector.url)))
    with connected(service.address) as api:
        template = api.template()
        with provider.get_tracer("a caller").start_as_current_span("ask for a template"):
            context = trace.get_current_span().get_span_context()
            headers: dict[str, str] = {}
            inject(headers)
            for _ in range(2):
                api.templates.GetTemplate(GetTemplateRequest(id=template.id), metadata=tuple(headers.items()))
    provider.shutdown()
    id = f"{context.trace_id:032x}"
    eventually(lambda: len(collector.of(id)) >= 4, within=SECONDS)
    spans = collector.of(id)
    (caller,) = (span for span in spans if span.resource["service.name"] == "a caller")
    calls = [span for span in spans if span.name == f"{SERVICE}.TemplateService/GetTemplate"]
    assert [call.parent_id for call in calls] == [caller.span_id] * 2
    statements = [span for span in spans if span.fields.get("db.system.name") == "postgresql"]
    assert {span.name for span in statements} == {"templates.get"}
    # The second call is answered from the cache.
    assert {span.parent_id for span in statements} == {calls[0].span_id}
    assert [call.fields.get("omniflo.cached") for call in calls] == [None, True]
    assert len(spans) == 3 + len(statements)
    for call in calls:
        line = line_of(service, call.name, call)
        assert (line["trace_id"], line["replica"]) == (id, "replica-a")


def test_each_worker_tells_the_collector_itself(service: Service, collector: Collector) -> None:
    def instances() -> set[str]:
        name = f"{SERVICE}.UserService/GetUser"
        return {span.resource["service.instance.id"] for span in collector.spans if span.name == name}

    for _ in range(16):
        with connected(service.address) as api:
            assert fails(api.users.GetUser, GetUserRequest(id="nobody")).reason == "USER_NOT_FOUND"
    eventually(lambda: len(instances()) == 2, within=SECONDS)
    assert instances() == {f"replica-a:{pid}" for pid in service.workers()}
    # What runs by the clock is traced too.
    eventually(lambda: any(span.name == "job purge_jobs" for span in collector.spans), within=SECONDS)


def test_requests_to_openai_are_part_of_the_trace_and_carry_it_on(
    service: Service, collector: Collector, stand_in: StandIn
) -> None:
    header = f"00-{'1' * 32}-{SPAN}-01"
    with connected(service.address) as api:
        api.models.ListAvailableModels(ListAvailableModelsRequest(), metadata=(("traceparent", header),))
    (asked,) = eventually(
        lambda: [span for span in collector.of("1" * 32) if span.name == "GET /models"], within=SECONDS
    )
    (call,) = eventually(lambda: [span for span in collector.of("1" * 32) if span.parent_id == SPAN], within=SECONDS)
    assert (asked.parent_id, asked.fields) == (call.span_id, {"omniflo.outcome": "ok"})
    # Others are of the task that reads the models.
    assert [sent for sent in stand_in.traceparents if "1" * 32 in sent] == [f"00-{'1' * 32}-{asked.span_id}-01"]


def test_a_caller_that_does_not_sample_is_not_traced_and_still_finds_its_line(
    service: Service, collector: Collector
) -> None:
    with connected(service.address) as api:
        for id, flags in (("2" * 32, "00"), ("3" * 32, "01")):
            header = f"00-{id}-{SPAN}-{flags}"
            api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_1"), metadata=(("traceparent", header),))
    eventually(lambda: collector.of("3" * 32), within=SECONDS)
    assert not collector.of("2" * 32)
    eventually(lambda: "2" * 32 in {line.get("trace_id") for line in service.calls()}, within=SECONDS)


def test_an_endpoint_that_answers_nothing_harms_no_call(service: Service, collector: Collector) -> None:
    collector.hangs = True
    with connected(service.address) as api:
        for _ in range(20):
            api.users.ProvisionUser(ProvisionUserRequest(clerk_id="user_1"), timeout=SECONDS)
    collector.hangs = False


def test_headers_that_are_wrong_name_no_trace(service: Service) -> None:
    wrong = [f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", "a" * 4000]
    before = service.position()
    with connected(service.address) as api:
        for header in wrong:
            api.users.ProvisionUser(
                ProvisionUserRequest(clerk_id="user_wrong"), metadata=(("traceparent", header), ("tracestate", "=,;"))
            )
    eventually(lambda: len(service.calls(before)) >= len(wrong), within=SECONDS)
    assert TRACE not in {line.get("trace_id") for line in service.calls()}
    assert not service.events("fault")
