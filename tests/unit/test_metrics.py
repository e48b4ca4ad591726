"""How calls are counted, and that nobody who calls can make labels."""

import tempfile
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.metrics import Calls, Metrics, Total, shared_folder

GET = "/omniflo.templates.v1.TemplateService/GetTemplate"
LIST = "/omniflo.templates.v1.TemplateService/ListTemplates"
LABELS = {"grpc_service": "omniflo.templates.v1.TemplateService", "grpc_method": "GetTemplate"}
OTHER = {"grpc_service": "other", "grpc_method": "other"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def calls(registry: CollectorRegistry) -> Calls:
    return Calls(registry, [GET, LIST])


def test_a_call_is_counted_when_it_begins_and_when_it_ends(registry: CollectorRegistry, calls: Calls) -> None:
    value = registry.get_sample_value
    for _ in range(2):
        calls.began(GET)
    assert value("grpc_server_started_total", LABELS) == 2
    assert value("grpc_server_in_flight") == 2
    calls.ended(GET, "OK", 0.003, {"cached": True})
    calls.ended(GET, "NOT_FOUND", 7.0, {})
    assert value("grpc_server_in_flight") == 0
    for code in ("OK", "NOT_FOUND"):
        assert value("grpc_server_handled_total", {**LABELS, "grpc_code": code}) == 1
    assert value("grpc_server_handling_seconds_sum", LABELS) == pytest.approx(7.003)
    buckets = {"0.0025": 0, "0.005": 1, "5.0": 1, "10.0": 2, "+Inf": 2}
    for bound, count in buckets.items():
        assert value("grpc_server_handling_seconds_bucket", {**LABELS, "le": bound}) == count


def test_methods_that_are_not_served_share_one_label(registry: CollectorRegistry, calls: Calls) -> None:
    calls.began(GET)
    calls.ended(GET, "OK", 0.1, {})
    for number in range(100):
        calls.began(f"/anything/Method{number}")
        calls.ended(f"/anything/Method{number}", "UNIMPLEMENTED", 0.1, {})
    value = registry.get_sample_value
    assert value("grpc_server_started_total", OTHER) == 100
    assert value("grpc_server_handled_total", {**OTHER, "grpc_code": "UNIMPLEMENTED"}) == 100
    assert value("grpc_server_handling_seconds_count", OTHER) == 100
    assert value("grpc_server_in_flight") == 0
    assert value("grpc_server_started_total", LABELS) == 1
    assert len(calls._started_of) == len(calls._seconds_of) == len(calls._handled_of) == 2


def test_calls_of_many_threads_are_all_counted(registry: CollectorRegistry, calls: Calls) -> None:
    def call() -> None:
        for _ in range(1000):
            calls.began(GET)
            calls.ended(GET, "OK", 0.1, {})

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("grpc_server_started_total", LABELS) == 8000
    assert registry.get_sample_value("grpc_server_handled_total", {**LABELS, "grpc_code": "OK"}) == 8000
    assert registry.get_sample_value("grpc_server_handling_seconds_count", LABELS) == 8000
    assert registry.get_sample_value("grpc_server_in_flight") == 0


def test_a_total_follows_a_number_that_grows() -> None:
    made = Metrics([])
    hits = made.cache_hits
    assert isinstance(hits, Total)
    for total in (3, 3, 10):
        hits.reach(total)
    assert made.registry.get_sample_value("omniflo_cache_requests_total", {"result": "hit"}) == 10


def test_the_folder_is_emptied_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with shared_folder("127.0.0.1:1") as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    folder.mkdir()
    (folder / "counter_worker-1.db").touch()
    with shared_folder("127.0.0.1:1"):
        assert list(folder.iterdir()) == []


def test_a_folder_that_somebody_put_there_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with shared_folder("127.0.0.1:1") as folder:
        name = folder.name
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    (tmp_path / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match=r"."), shared_folder("127.0.0.1:1"):
        pass
    assert (tmp_path / "theirs" / "file").exists()
