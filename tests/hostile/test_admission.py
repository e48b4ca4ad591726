"""More calls than a server has room for: the rest is rejected with a reason, and probes are answered."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
import psycopg2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from service.server.wiring import MAX_WAITING, SPARE_THREADS
from tests.conftest import Failure
from tests.e2e.serving import eventually, serving

THREADS, QUEUE, BEYOND = 2, 20, 10
MOST = THREADS + SPARE_THREADS + MAX_WAITING


def test_calls_that_find_no_room_are_rejected_and_probes_are_answered(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    with ExitStack() as stack:
        service = stack.enter_context(serving(url, tmp_path / "log", threads=THREADS, queue=QUEUE, cache_mb=0))
        # Until health has asked the database.
        eventually(lambda: service.events("database"), within=10)
        holder = psycopg2.connect(url)
        stack.callback(holder.close)
        holder.cursor().execute("lock table templates")
        channels = [
            stack.enter_context(grpc.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)]))
            for _ in range(2)
        ]
        since = service.position()
        calls = [
            TemplateServiceStub(channels[number % 2]).GetTemplate.future(GetTemplateRequest(id="none"), timeout=60)
            for number in range(MOST + QUEUE)
        ]
        get = TemplateServiceStub(channels[0]).GetTemplate

        def rejected() -> Failure | None:
            """Return how a call is rejected, once threads and queue are full."""
            try:
                get(GetTemplateRequest(id="none"), timeout=2)
            except grpc.RpcError as error:
                # On a slow machine, its own deadline ends a call before the server has said why.
                return None if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else Failure(error)
            return None

        # Its deadline ends a call for its caller, and not before it has its turn for the server.
        failure = eventually(rejected, within=30)
        assert failure is not None
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert failure.retry_seconds == 1
        for _ in range(BEYOND):
            assert HealthStub(channels[1]).Check(HealthCheckRequest(), timeout=5).status == HealthCheckResponse.SERVING
            time.sleep(0.01)
        holder.rollback()
        # They came faster than threads were started.
        assert {call.code() for call in calls} == {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED}
        eventually(lambda: "OVERLOADED" in {line.get("reason") for line in service.calls(since)}, within=5)
