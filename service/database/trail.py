"""The log of changes, read from a stored position on: for who follows it across its own end."""

from typing import Any

import psycopg2

from service import errors
from service.database import changes
from service.database.changes import ANSWER_SECONDS, GapError, Hear
from service.database.connections import connect
from service.deadline import time_limit
from service.positions import Position


class Trail:
    """A connection of one thread, and its name."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._connection: Any = None

    def here(self) -> Position:
        """Return where the log is now."""
        return self._ask(changes.here).position

    def read(self, since: Position, hear: Hear) -> Position:
        """Tell what became visible since a position, and return how far that was.

        GapError where that cannot be told: the position is of another log, or what followed it is deleted by now. What
        is told may be told again where this raises.
        """

        def read(connection: Any) -> changes.Reading:
            with time_limit(ANSWER_SECONDS), connection.cursor() as cursor:
                cursor.execute("select begin_time from registry")
                ((begin_time,),) = cursor.fetchall()
            if since.time < begin_time:
                raise GapError
            return changes.read(connection, since, hear)

        return self._ask(read).position

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, question: Any) -> changes.Reading:
        try:
            if self._connection is None:
                with time_limit(ANSWER_SECONDS):
                    self._connection = connect(self._url, self._name)
                    with self._connection.cursor() as cursor:
                        # No plan reads the whole log. A database that was restored is another one.
                        cursor.execute("set enable_seqscan = off; select renew_epoch()")
            reading: changes.Reading = question(self._connection)
        except psycopg2.Error:
            self.close()
            raise errors.Unavailable("DATABASE_UNAVAILABLE", "the database cannot be reached") from None
        except (errors.Error, GapError):
            self.close()
            raise
        return reading
