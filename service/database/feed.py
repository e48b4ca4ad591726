"""What others change in the database: heard of by a connection of its own, which proves that it hears."""

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg2
import structlog

from service import errors
from service.cache import Cache
from service.database.connections import connect, readable
from service.deadline import time_limit

CHANNEL = "omniflo_changes"
"""Named by migrations/0012_changes.up.sql."""
BEAT_SECONDS = 0.25
ANSWER_SECONDS = 2.0
"""How long the server may take for a beat before another connection is tried."""
PAUSE_SECONDS = 0.2

_log = structlog.get_logger()


class Listener:
    """A thread that tells a cache of every change.

    It sends itself a notification every quarter of a second. When one has come back, all changes that were committed
    before it was sent have come as well.
    """

    def __init__(self, cache: Cache, url: str) -> None:
        self._cache = cache
        self._url = url
        self._beat = f"beat:{secrets.token_hex(8)}:"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(2 * ANSWER_SECONDS)

    def _run(self) -> None:
        was_lost = None
        while not self._stopped.is_set():
            connection = None
            try:
                with time_limit(ANSWER_SECONDS):
                    connection = connect(self._url)
                    _execute(connection, f"listen {CHANNEL}")
                # From here on nothing is missed; before it, anything.
                self._cache.start_over()
                _log.info("changes", is_heard=True)
                was_lost = False
                self._listen(connection)
            except (psycopg2.Error, errors.Error, OSError) as fault:
                if not was_lost:
                    _log.error("changes", is_heard=False, error=type(fault).__name__)
                was_lost = True
            finally:
                if connection is not None:
                    connection.close()
            self._stopped.wait(PAUSE_SECONDS)

    def _listen(self, connection: Any) -> None:
        while not self._stopped.is_set():
            sent = time.monotonic()
            beat = f"{self._beat}{sent}"
            with time_limit(ANSWER_SECONDS):
                _execute(connection, f"notify {CHANNEL}, %s", [beat])
            if not self._take(connection, beat):
                # The server sends it before it says that the statement is done.
                raise errors.Internal("INTERNAL", "a notification did not come back")
            while (left := sent + BEAT_SECONDS - time.monotonic()) > 0:
                if readable(connection, left):
                    connection.poll()
                    self._take(connection, beat)

    def _take(self, connection: Any, beat: str) -> bool:
        """Tell the cache of what has come, and answer whether the beat has."""
        payloads = [notification.payload for notification in connection.notifies]
        connection.notifies.clear()
        self._cache.change(payload for payload in payloads if not payload.startswith("beat:"))
        if beat not in payloads:
            return False
        self._cache.confirm(float(beat.removeprefix(self._beat)))
        return True


def _execute(connection: Any, sql: str, parameters: Sequence[object] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
