"""What operators see of a running service in numbers. docs/metrics.md lists every metric.

Each process keeps its values in files of one folder, and one of them reads the files of all.
"""

import os
import shutil
import stat
import tempfile
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""The bounds of the histogram's buckets."""

OTHER = ("other", "other")
"""What stands for the service and the method of calls to anything that is not served: callers choose those names."""


RETRY_REASONS = ("conflict", "unavailable")
OPENAI_OUTCOMES = ("ok", "refused", "rate_limited", "failed", "unreachable")

TRIES = 4
TRY_SECONDS = 0.05

FILES = {
    "counter": 1 << 20,
    "histogram": 1 << 20,
    **dict.fromkeys(("gauge_livesum", "gauge_livemin", "gauge_livemax", "gauge_livemostrecent"), 1 << 16),
}
"""The files of a process, and how many bytes each has from the start: more than all its values need."""

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Calls:
    """Counts calls, and how long they took. The outermost interceptor tells it of each of them, by its full path.

    A call only leaves a note; `count` goes through the notes. The library takes a lock and writes to a file for each
    number, which in the middle of a call takes several times as long as in a loop.
    """

    def __init__(self, registry: CollectorRegistry, methods: Iterable[str]) -> None:
        labels = ["grpc_service", "grpc_method"]
        self._started = Counter("grpc_server_started", "Calls begun.", labels, registry=registry)
        self._handled = Counter("grpc_server_handled", "Calls ended.", [*labels, "grpc_code"], registry=registry)
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "How long calls took.", labels, registry=registry, buckets=SECONDS
        )
        self._in_flight = Gauge(
            "grpc_server_in_flight", "Calls begun and not ended.", registry=registry, multiprocess_mode="livesum"
        )
        self._labels: dict[str, tuple[str, ...]] = {path: tuple(path.strip("/").split("/")) for path in methods}
        # Both ends of a deque may be used by several threads.
        self._begun: deque[str] = deque()
        self._ended: deque[tuple[str, str, float]] = deque()

    def began(self, method: str) -> None:
        self._begun.append(method)

    def ended(self, method: str, code: str, seconds: float, fields: Mapping[str, Any]) -> None:
        del fields
        self._ended.append((method, code, seconds))

    def count(self) -> None:
        """Count what has been noted; for one thread."""
        # What has ended was begun before, so never more calls have ended than begun.
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        begun = [self._begun.popleft() for _ in range(len(self._begun))]
        for method, count in Tally(begun).items():
            self._started.labels(*self._labels.get(method, OTHER)).inc(count)
        for (method, code), count in Tally((method, code) for method, code, _ in ended).items():
            self._handled.labels(*self._labels.get(method, OTHER), code).inc(count)
        observe = {
            method: self._seconds.labels(*self._labels.get(method, OTHER)).observe
            for method in {method for method, _, _ in ended}
        }
        for method, _, seconds in ended:
            observe[method](seconds)
        self._in_flight.inc(len(begun) - len(ended))


class Total:
    """A counter for something that is counted elsewhere: it follows a number that only grows."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._total = 0.0

    def reach(self, total: float) -> None:
        self._counter.inc(total - self._total)
        self._total = total


class Happenings:
    """Counts what happens now and then, when it does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        retried = Counter(
            "omniflo_transactions_retried", "Operations that were tried again.", ["reason"], registry=registry
        )
        asked = Counter("omniflo_openai_requests", "Requests to OpenAI.", ["outcome"], registry=registry)
        replayed = Counter(
            "omniflo_idempotent_replays", "Writes that were answered as they were before.", registry=registry
        )
        dropped = Counter("omniflo_trace_spans_dropped", "Spans that the collector did not take.", registry=registry)
        # All of them are there from the start, at 0.
        self._of = {
            ("replayed", ""): replayed,
            ("span_dropped", ""): dropped,
            **{("retried", reason): retried.labels(reason) for reason in RETRY_REASONS},
            **{("asked_openai", outcome): asked.labels(outcome) for outcome in OPENAI_OUTCOMES},
        }

    def count(self, what: str, kind: str, count: int) -> None:
        self._of[what, kind].inc(count)


class Metrics:
    """The metrics of a worker."""

    def __init__(self, methods: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = Calls(registry, methods)
        self.happenings = Happenings(registry)
        self.ready = gauge(registry, "omniflo_ready", "Whether health says SERVING, of every worker.", mode="min")
        self.waiting = gauge(registry, "omniflo_calls_waiting", "Calls that wait for a thread.")
        self.busy = gauge(registry, "omniflo_threads_busy", "Threads that work on a call.")
        self._statements = Counter(
            "omniflo_statements", "Statements that were executed.", ["statement"], registry=registry
        )
        self._statement_seconds = Counter(
            "omniflo_statement_seconds", "How long they took together.", ["statement"], registry=registry
        )
        self._totals: dict[str, tuple[Total, Total]] = {}
        requests = Counter(
            "omniflo_cache_requests", "Calls that could be answered from the cache.", ["result"], registry=registry
        )
        self.cache_hits, self.cache_misses, self.cache_passed_by = (
            Total(requests.labels(result)) for result in ("hit", "miss", "passed_by")
        )
        self.cache_evictions = Total(
            Counter("omniflo_cache_evictions", "Responses dropped from the cache for lack of room.", registry=registry)
        )
        self.cache_bytes = gauge(registry, "omniflo_cache_bytes", "Memory that the cache takes.")
        self.cache_entries = gauge(registry, "omniflo_cache_entries", "Responses in the cache.")
        odd = Counter(
            "omniflo_openai_odd_models",
            "Models that OpenAI listed with an id or a shutdown_date that cannot be.",
            ["field"],
            registry=registry,
        )
        self.odd_models = {field: Total(odd.labels(field)) for field in ("id", "shutdown_date")}
        wake_ups = Counter(
            "omniflo_feed_wake_ups", "Times that the log of changes was read at once.", ["by"], registry=registry
        )
        self.feed_commits, self.feed_notifications = (Total(wake_ups.labels(by)) for by in ("commit", "notification"))
        self.feed_changes = Total(Counter("omniflo_feed_changes", "Changes read from the log.", registry=registry))
        self.feed_age = gauge(registry, "omniflo_feed_age_seconds", "Since the log was read to its end.", mode="max")
        self.watches = gauge(registry, "omniflo_watches", "Streams of changes that are open.")
        self.uploads = gauge(registry, "omniflo_uploads_in_flight", "Files on their way to OpenAI.")
        self.upload_bytes = Total(
            Counter("omniflo_upload_bytes", "Of files, as they came from callers.", registry=registry)
        )
        self.file_run_wait = gauge(
            registry, "omniflo_file_run_wait_seconds", "Since a run on a file was due that nobody does.", mode="max"
        )
        self.connections = gauge(registry, "omniflo_database_connections", "Open connections to the database.")
        self.job_worker_age = gauge(
            registry, "omniflo_job_worker_age_seconds", "Since a worker for jobs was last seen.", mode="max"
        )
        self.ending = gauge(
            registry, "omniflo_templates_of_ending_models", "Templates whose models end within 30 days.", mode="max"
        )
        self.schema = gauge(registry, "omniflo_schema_version", "The newest migration that is applied.", mode="max")
        self.jobs = _gauges(registry, "omniflo_jobs", "Jobs in the queue.", "status")
        build = Gauge("omniflo_build_info", "Always 1.", ["version"], registry=registry, multiprocess_mode="livemax")
        build.labels(version("omniflo-templates")).set(1)

    def statement(self, name: str, calls: int, seconds: float) -> None:
        """Count statements up to what there have been of this name, which is one of ours."""
        if name not in self._totals:
            counters = (self._statements, self._statement_seconds)
            self._totals[name] = Total(counters[0].labels(name)), Total(counters[1].labels(name))
        for total, value in zip(self._totals[name], (calls, seconds), strict=True):
            total.reach(value)


class Restarts:
    """The metrics of the parent: how often it had to replace a child."""

    def __init__(self, kinds: Iterable[str]) -> None:
        restarts = Counter(
            "omniflo_process_restarts",
            "Processes that died and were replaced.",
            ["process"],
            registry=CollectorRegistry(),
        )
        self._of = {kind: restarts.labels(kind) for kind in kinds}

    def count(self, kind: str) -> None:
        self._of[kind].inc()


@contextmanager
def shared_folder(address: str) -> Iterator[Path]:
    """Make the folder of the service that holds an address, empty it if it is there, and remove it afterwards."""
    # A service that was killed has left its folder, and the next one on that address uses the same.
    folder = Path(tempfile.gettempdir(), f"omniflo-templates-{os.geteuid()}-{address}.metrics")
    with suppress(FileNotFoundError):
        found = folder.lstat()
        # Whatever else is there is another user's, and to open it may take for ever.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            shutil.rmtree(folder)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        # Somebody else's, who must not keep us from starting: one whose name nobody can guess.
        folder = Path(tempfile.mkdtemp(prefix=f"{folder.stem}-", suffix=folder.suffix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def join(folder: Path, process: str) -> None:
    """Keep the metrics that this process makes from here on in the folder, under a name that no other process has.

    One that takes the place of another and its name goes on counting where that had come to.
    """
    # The library makes files without room on the disk. If the disk is full when a process first writes into a part of
    # one, the process is killed.
    for kind, size in FILES.items():
        with (folder / f"{kind}_{process}.db").open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    # The library finds the folder there, and nowhere else.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # noqa: TID251 - it is written for the library, not read
    values.ValueClass = values.MultiProcessValue(lambda: process)


def forget(folder: Path, process: str) -> None:
    """Take back what is true only while a process lives, of one that has died; what it counted stays."""
    multiprocess.mark_process_dead(process, str(folder))


def of_backup(age: float, size: int) -> list[Metric]:
    """Return what is told of the last good backup."""
    return [
        GaugeMetricFamily("omniflo_backup_age_seconds", "Since the last good backup was begun.", age),
        GaugeMetricFamily("omniflo_backup_size_bytes", "Of the last good backup.", size),
    ]


def text(folder: Path, others: Iterable[Metric] = ()) -> bytes:
    """Return the metrics of all processes, and others, in the format of OpenMetrics."""
    for _ in range(TRIES - 1):
        # What a process is just adding to its files cannot be read for a moment.
        with suppress(Exception):
            return _text(folder, others)
        time.sleep(TRY_SECONDS)
    return _text(folder, others)


def _text(folder: Path, others: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([*multiprocess.MultiProcessCollector(None, path=str(folder)).collect(), *others]))
    return bytes(generate_latest(registry))


class _Collected(Collector):
    """Metrics that have been read, and are whole."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)
        for metric in self._metrics:
            bounds = [sample.labels.get("le") for sample in metric.samples]
            # The library writes the buckets of a new series one by one, the last one last.
            if metric.type == "histogram" and bounds.count("+Inf") != bounds.count(None) / 2:
                raise LookupError("a histogram without its last bucket")

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _gauges(registry: CollectorRegistry, name: str, meaning: str, label: str) -> Gauge:
    """Return a gauge that every process reads from the database, so that its newest value is anybody's."""
    return Gauge(name, meaning, [label], registry=registry, multiprocess_mode="livemostrecent")


def gauge(registry: CollectorRegistry, name: str, meaning: str, *, mode: str = "sum") -> Gauge:
    return Gauge(name, meaning, registry=registry, multiprocess_mode=f"live{mode}")  # type: ignore[arg-type]
