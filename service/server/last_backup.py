"""Age and size of the last good backup, for whoever fetches metrics."""

import threading
import time
from collections.abc import Iterable

import structlog
from prometheus_client.metrics_core import Metric

from service import logs, metrics
from service.backups import catalog, kept
from service.backups.catalog import Backup
from service.backups.faults import BackupError
from service.config import Settings

READ_SECONDS = 60.0

_log = structlog.get_logger()


class LastBackup:
    """A thread that looks once a minute where backups are kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: Backup | None = None
        self._has_looked = False
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="last backup", daemon=True).start()

    def stop(self) -> None:
        """End soon. It is not waited for, since a bucket may be slow."""
        self._stopped.set()

    def metrics(self) -> Iterable[Metric]:
        """Return the metrics: none before the first look, and an infinite age if there is no good backup to be seen."""
        last = self._last
        if last is not None:
            return metrics.of_backup(time.time() - last.time.timestamp(), last.required().size)
        return metrics.of_backup(float("inf"), 0) if self._has_looked else ()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._last = catalog.last_good(kept.store(self._settings))
            except BackupError as error:
                _log.warning("backups", error=str(error))
            except Exception as fault:  # noqa: BLE001 - the thread goes on looking
                _log.error("backups", **logs.described(fault))
            # Also if that failed: without a value, the alert on old backups would never come.
            self._has_looked = True
            self._stopped.wait(READ_SECONDS)
