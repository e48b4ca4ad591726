"""Brings the metrics up to date, off the path of calls."""

import threading

from service import happenings
from service.actor import SYSTEM
from service.cache import Cache
from service.database import connections, migrate
from service.database.feed import Feed
from service.metrics import Metrics
from service.openai_gateway import Gateway
from service.operations import jobs
from service.operations.watches import Watches
from service.server.health import Health
from service.server.pool import Pool
from service.server.upkeep import Chore
from service.servicers.uploads import Uploads
from service.statements import statements

SAMPLE_SECONDS = 0.25
"""Short, so that what is done at once holds up no call, and a worker that is killed loses little."""
JOIN_SECONDS = 2.0
READ_SECONDS = 60.0


class Sampling:
    """A thread that counts what calls have noted, and reads off what the cache, the feed and the like hold."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        cache: Cache | None,
        feed: Feed,
        watches: Watches,
        gateway: Gateway,
        uploads: Uploads,
        pool: Pool,
        health: Health,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._health = health
        self._cache = cache
        self._feed = feed
        self._watches = watches
        self._gateway = gateway
        self._uploads = uploads
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)

    def start(self) -> None:
        happenings.hear(self._metrics.happenings.count)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._sample()
        # The last calls have ended since.
        self._sample()

    def _sample(self) -> None:
        metrics = self._metrics
        metrics.calls.count()
        metrics.ready.set(self._health.is_serving())
        metrics.connections.set(connections.open_now())
        metrics.waiting.set(self._pool.waiting())
        metrics.busy.set(self._pool.busy())
        for name, executed in statements.totals().items():
            metrics.statement(name, executed.calls, executed.seconds)
        for field, total in metrics.odd_models.items():
            total.reach(self._gateway.odd[field])
        read = self._feed.figures()
        metrics.feed_age.set(read.age)
        metrics.feed_commits.reach(read.commits)
        metrics.feed_notifications.reach(read.notifications)
        metrics.feed_changes.reach(read.changes)
        metrics.watches.set(self._watches.count())
        uploads = self._uploads.figures()
        metrics.uploads.set(uploads.in_flight)
        metrics.upload_bytes.reach(uploads.bytes)
        if self._cache is not None:
            figures = self._cache.figures()
            metrics.cache_hits.reach(figures.hits)
            metrics.cache_misses.reach(figures.misses)
            metrics.cache_passed_by.reach(figures.passed_by)
            metrics.cache_evictions.reach(figures.evictions)
            metrics.cache_bytes.set(figures.bytes)
            metrics.cache_entries.set(figures.entries)


def figures(metrics: Metrics) -> Chore:
    """Return the chore that reads from the database what metrics have of it."""

    def read() -> None:
        metrics.schema.set(migrate.version())
        for status, count in jobs.counts(SYSTEM).items():
            metrics.jobs.labels(status).set(count)

    return Chore("figures", READ_SECONDS, read)
