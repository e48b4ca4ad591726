"""Files through a server in a process of its own: what it needs, whom that keeps waiting, and what it says of them."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from omniflo.templates.v1.processing_service_pb2 import (
    UploadFileHeader,
    UploadFileRequest,
    WatchProcessingRecordRequest,
)
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from tests.conftest import Api
from tests.contract.processing import anything
from tests.e2e.serving import Service, eventually, serving
from tests.e2e.test_metrics import Measured
from tests.openai_stand_in import KEY, StandIn

CHUNK = 1024 * 1024
MOST = 50
CANARY = "canary-of-a-file"
SECONDS = 60.0
MOST_MORE_BYTES = 100 * 1024 * 1024


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, openai: StandIn
) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("processing") / "log"
    settings = {"openai_api_key": KEY, "openai_base_url": openai.url, "metrics_listen": "127.0.0.1:0"}
    with serving(new_database(), log, workers=1, work="on", uploads=8, **settings) as running:
        running.log = log  # type: ignore[attr-defined]
        yield running


@pytest.fixture
def measured(service: Service) -> Measured:
    return Measured(service, service.log, "")  # type: ignore[attr-defined]


@pytest.fixture
def api(service: Service, stand_in: StandIn) -> Iterator[Api]:
    stand_in.models = anything(stand_in.models)
    with grpc.insecure_channel(service.address) as channel:
        yield Api(channel)


class Upload(threading.Thread):
    """An upload of so many chunks, with a pause before each."""

    def __init__(self, api: Api, header: UploadFileHeader, chunks: int, pause: float = 0) -> None:
        super().__init__()
        self._api, self._header, self._chunks, self._pause = api, header, chunks, pause
        self.id = ""
        self.start()

    def run(self) -> None:
        self.id = self._api.processing.UploadFile(self._messages(), timeout=SECONDS).id

    def _messages(self) -> Iterator[UploadFileRequest]:
        yield UploadFileRequest(header=self._header)
        for _ in range(self._chunks):
            time.sleep(self._pause)
            yield UploadFileRequest(chunk=bytes(CHUNK))


def header(api: Api) -> UploadFileHeader:
    template = api.template(instructions=f"Say {CANARY}.")
    return UploadFileHeader(filename=f"{CANARY}.pdf", user_id=template.user_id, template_id=template.id)


@pytest.mark.waiting
def test_a_file_comes_in_and_its_text_goes_out_and_nothing_of_both_is_logged(
    api: Api, service: Service, measured: Measured
) -> None:
    upload = Upload(api, header(api), 2)
    upload.join()
    told = list(api.processing.WatchProcessingRecord(WatchProcessingRecordRequest(id=upload.id), timeout=SECONDS))
    text = "".join(message.output_delta for message in told)
    assert f"Say {CANARY}." in text == told[-1].record.output_text
    eventually(lambda: service.events("run"), within=SECONDS)
    assert service.events("run")[0]["result"] == "completed"
    log: Path = service.log  # type: ignore[attr-defined]
    assert CANARY not in log.read_text()
    eventually(lambda: measured.value("omniflo_file_runs_total", result="completed") == 1, within=SECONDS)
    eventually(lambda: measured.value("omniflo_upload_bytes_total") == 2 * CHUNK, within=SECONDS)


@pytest.mark.waiting
def test_four_of_the_largest_files_at_once_take_no_memory_to_speak_of(
    api: Api, service: Service, stand_in: StandIn
) -> None:
    Upload(api, header(api), 1).join()
    before, most = service.memory(), 0
    running = [Upload(api, header(api), MOST) for _ in range(4)]
    while any(upload.is_alive() for upload in running):
        most = max(most, service.memory())
        time.sleep(0.02)
    assert sorted(file.bytes for file in stand_in.files)[-4:] == [MOST * CHUNK] * 4
    print(f"{(most - before) / 1024 / 1024:.0f} MB more than before")
    assert most - before <= MOST_MORE_BYTES


@pytest.mark.waiting
def test_slow_uploads_keep_nobody_waiting(api: Api, measured: Measured) -> None:
    slow = [Upload(api, header(api), 8, pause=0.5) for _ in range(8)]
    eventually(lambda: measured.value("omniflo_uploads_in_flight") == len(slow), within=SECONDS)
    calls = 0
    while any(upload.is_alive() for upload in slow):
        api.users.ListUsers(ListUsersRequest())
        calls += 1
    print(f"{calls} calls meanwhile")
    # The server works on eight calls at once, and none of the eight uploads is one of them.
    assert calls > 8 * 8
    assert all(upload.id for upload in slow)
    eventually(lambda: measured.value("omniflo_uploads_in_flight") == 0, within=SECONDS)
