"""The metrics that are not counted as they happen, but read off from time to time."""

import threading

from service.cache import Cache
from service.database import connections, migrate
from service.metrics import Metrics
from service.server.upkeep import Job

SAMPLE_SECONDS = 1.0
SCHEMA_SECONDS = 60.0


class Sampling:
    """A thread that reads off every second what the cache and the database's handle hold."""

    def __init__(self, metrics: Metrics, cache: Cache | None) -> None:
        self._metrics = metrics
        self._cache = cache
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(SAMPLE_SECONDS)

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._metrics.connections.set(connections.open_now())
            if self._cache is not None:
                figures = self._cache.figures()
                self._metrics.cache_hits.reach(figures.hits)
                self._metrics.cache_misses.reach(figures.misses)
                self._metrics.cache_passed_by.reach(figures.passed_by)
                self._metrics.cache_evictions.reach(figures.evictions)
                self._metrics.cache_bytes.set(figures.bytes)
                self._metrics.cache_entries.set(figures.entries)


def schema(metrics: Metrics) -> Job:
    """Return the upkeep's job that reads the version of the schema."""

    def step() -> bool:
        metrics.schema.set(migrate.version())
        return False

    return Job("schema", SCHEMA_SECONDS, step)
