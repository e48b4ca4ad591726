"""A worker for runs in this process, with a stand-in for OpenAI."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from omniflo.templates.v1.processing_record_pb2 import ProcessingRecord, ProcessingStatus
from omniflo.templates.v1.processing_service_pb2 import GetProcessingRecordRequest
from service import openai_runs
from service.job_metrics import FileRuns
from service.jobs.processing import Pace, Processing
from service.openai_files import Files
from service.openai_gateway import Gateway
from service.openai_runs import Runs
from tests.conftest import Api
from tests.e2e.serving import eventually
from tests.openai_stand_in import KEY, StandIn

SECONDS = 20.0
PACE = Pace(tick=0.02, take=0.02, keep=0.1)


class _Any(dict[str, Any]):
    """Models, of which there is each that a test makes."""

    def __contains__(self, _: object) -> bool:
        return True


def anything(models: dict[str, Any]) -> dict[str, Any]:
    """Answer these models, with each that a test makes."""
    return _Any(models)


@pytest.fixture
def gateway(stand_in: StandIn) -> Iterator[Gateway]:
    stand_in.models = anything(stand_in.models)
    gateway = Gateway(SecretStr(KEY), stand_in.url)
    yield gateway
    gateway.stop()


@contextmanager
def working(gateway: Gateway, metrics: FileRuns | None = None) -> Iterator[Processing]:
    runs = Runs(gateway, openai_runs.Pace(silent=2.0, stop=0.2, poll=0.1))
    processing = Processing(runs, Files(gateway), at_once=4, drain_seconds=5, pace=PACE, metrics=metrics)
    processing.start()
    try:
        yield processing
    finally:
        processing.stop()


def status(name: str) -> ProcessingStatus.ValueType:
    return ProcessingStatus.Value(f"PROCESSING_STATUS_{name}")


def read(api: Api, id: str) -> ProcessingRecord:
    return api.processing.GetProcessingRecord(GetProcessingRecordRequest(id=id))


def ended(api: Api, id: str) -> ProcessingRecord:
    """Wait for the end of a run."""
    eventually(lambda: read(api, id).HasField("complete_time"), within=SECONDS)
    return read(api, id)
