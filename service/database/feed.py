"""What others change in the database: heard of by a connection of its own, which proves that it hears."""

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import psycopg2
import structlog

from service import errors
from service.database.connections import connect, readable
from service.database.handle import database
from service.deadline import time_limit

CHANNEL = "omniflo_changes"
"""Named by migrations/0012_changes.up.sql."""
BEAT_SECONDS = 0.25
ANSWER_SECONDS = 2.0
"""How long the server may take for a beat before another connection is tried."""
PAUSE_SECONDS = 0.2

_log = structlog.get_logger()


class Hearer(Protocol):
    """Who wants to hear of changes. It is called from several threads, and must neither wait nor raise."""

    def start_over(self) -> None:
        """From here on nothing is missed; before it, anything may have been."""

    def change(self, tags: Iterable[str]) -> None:
        """These have changed: tags as the triggers of migrations/0012_changes.up.sql name them."""

    def confirm(self, moment: float) -> None:
        """Every change up to then has been told, on the clock of `time.monotonic`."""


class Listener:
    """A thread that tells all hearers of every change; what this process commits they hear before it goes on.

    It sends itself a notification every quarter of a second. When one has come back, all changes that were committed
    before it was sent have come as well.
    """

    def __init__(self, hearers: Sequence[Hearer], url: str) -> None:
        self._hearers = hearers
        self._url = url
        self._beat = f"beat:{secrets.token_hex(8)}:"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)

    def start(self) -> None:
        database.tell(self._change)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(2 * ANSWER_SECONDS)
        database.tell_no_more(self._change)

    def _change(self, tags: Sequence[str]) -> None:
        for hearer in self._hearers:
            hearer.change(tags)

    def _run(self) -> None:
        was_lost = None
        while not self._stopped.is_set():
            connection = None
            try:
                with time_limit(ANSWER_SECONDS):
                    connection = connect(self._url)
                    _execute(connection, f"listen {CHANNEL}")
                for hearer in self._hearers:
                    hearer.start_over()
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
        """Tell the hearers of what has come, and return whether the beat has."""
        payloads = [notification.payload for notification in connection.notifies]
        connection.notifies.clear()
        if changes := [payload for payload in payloads if not payload.startswith("beat:")]:
            self._change(changes)
        if beat not in payloads:
            return False
        for hearer in self._hearers:
            hearer.confirm(float(beat.removeprefix(self._beat)))
        return True


def _execute(connection: Any, sql: str, parameters: Sequence[object] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
