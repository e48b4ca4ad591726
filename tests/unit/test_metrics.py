"""How calls are counted, and that nobody who calls can make labels."""

import struct
import tempfile
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from service import metrics
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
    calls.count()
    assert value("grpc_server_started_total", LABELS) == 2
    assert value("grpc_server_in_flight") == 2
    calls.ended(GET, "OK", 0.003, {"cached": True})
    calls.ended(GET, "NOT_FOUND", 7.0, {})
    calls.count()
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
    calls.count()
    value = registry.get_sample_value
    assert value("grpc_server_started_total", OTHER) == 100
    assert value("grpc_server_handled_total", {**OTHER, "grpc_code": "UNIMPLEMENTED"}) == 100
    assert value("grpc_server_handling_seconds_count", OTHER) == 100
    assert value("grpc_server_in_flight") == 0
    assert value("grpc_server_started_total", LABELS) == 1
    names = {
        sample.labels["grpc_method"] for metric in registry.collect() for sample in metric.samples if sample.labels
    }
    assert names == {"GetTemplate", "other"}


def test_calls_of_many_threads_are_all_counted(registry: CollectorRegistry, calls: Calls) -> None:
    def call() -> None:
        for _ in range(1000):
            calls.began(GET)
            calls.ended(GET, "OK", 0.1, {})

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        calls.count()
        assert (registry.get_sample_value("grpc_server_in_flight") or 0) >= 0
    calls.count()
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


def test_a_file_that_is_only_being_made_is_waited_for(tmp_path: Path) -> None:
    made = tmp_path / "counter_worker-1.db"
    made.touch()
    # What a process does next: an empty file becomes one with no value in it.
    threading.Timer(0.08, made.write_bytes, [(8).to_bytes(4, "little") + bytes(65532)]).start()
    assert metrics.text(tmp_path) == b"# EOF\n"


def test_a_file_that_stays_broken_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "counter_worker-1.db").touch()
    with pytest.raises(struct.error):
        metrics.text(tmp_path)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_histogram_is_shown_when_its_last_bucket_is_there(tmp_path: Path, is_whole: bool) -> None:
    file = MmapedDict(str(tmp_path / "histogram_worker-1.db"))
    bounds = ["0.1", "+Inf"] if is_whole else ["0.1"]
    # In the order in which the library writes them.
    for sample, labels in [("s_sum", {}), *(("s_bucket", {"le": bound}) for bound in bounds)]:
        file.write_value(mmap_key("s", sample, list(labels), list(labels.values()), "Seconds."), 1.0, 0.0)
    file.close()
    if is_whole:
        assert b's_bucket{le="+Inf"} 2.0' in metrics.text(tmp_path)
    else:
        with pytest.raises(LookupError):
            metrics.text(tmp_path)


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
    with shared_folder("127.0.0.1:1") as folder:
        assert folder.name != name
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert (tmp_path / "theirs" / "file").exists()
