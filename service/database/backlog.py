"""What became visible between two positions in the log of changes, read in pages: for who was away for a while."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg2

from service import errors
from service.database import changes
from service.database.changes import ANSWER_SECONDS, LONGEST_SECONDS, Change, GapError
from service.database.connections import connect
from service.deadline import time_limit
from service.positions import Position

PAGE = 500
"""The most changes of a page."""

# Two looks into an index.
_OLDEST = """
    select least(
      (select time from changes where epoch = %(epoch)s and transaction_id >= %(end)s::text::xid8
       order by transaction_id limit 1),
      (select min(time) from changes
       where epoch = %(epoch)s and transaction_id = any(%(running)s::text[]::xid8[]))
    )
"""

_OUTLINE = f"""
    with fresh as (
        select transaction_id, min(seq) as first, count(*) as size
        from {changes.FRESH.format(select="c.transaction_id, c.seq", limit="")} fresh group by transaction_id
    )
    select min(first), coalesce(array_agg(transaction_id::text) filter (where size > {changes.MOST_OF_ONE}), '{{}}')
    from fresh
"""

# By `seq` from a place on: the pages of a backlog cost no more together than one that has all.
_PAGE = f"""
    select {changes.columns("c")} from changes c
    where c.epoch = %(epoch)s and c.seq > %(after)s
      and (c.transaction_id >= %(end)s::text::xid8 or c.transaction_id = any(%(running)s::text[]::xid8[]))
      and {changes.WHOLE.format("c")}
    order by c.seq limit {PAGE}
"""


class Reader:
    """A connection that backlogs are read with, of one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    def query(self, sql: str, parameters: dict[str, Any], seconds: float) -> list[Any]:
        """Return the rows; DATABASE_UNAVAILABLE where there is no connection, or it is lost.

        GapError where the server is there, and has not found them in time: it would not the next time.
        """
        try:
            with time_limit(seconds):
                if self._connection is None:
                    self._connection = connect(self._url)
                    with self._connection.cursor() as cursor:
                        cursor.execute("set enable_seqscan = off")
                with self._connection.cursor() as cursor:
                    cursor.execute(f"set statement_timeout = {max(1, int(1000 * seconds))};{sql}", parameters)
                    return list(cursor.fetchall())
        except psycopg2.errors.QueryCanceled:
            raise GapError from None
        except psycopg2.Error:
            self.close()
            raise errors.Unavailable("DATABASE_UNAVAILABLE", "the database cannot be reached") from None
        except errors.Error:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Backlog:
    """The changes that can be seen from one position and not from an earlier one, in order of `seq`."""

    def __init__(self, since: Position, until: Position, longest: timedelta) -> None:
        self._parameters = changes.parameters(since)
        self.until = until
        self._earliest = until.time - longest
        """No change of it is older: the time of a token is what its caller says."""
        self._sums: list[Change] | None = None
        """What is told of huge transactions in one change each, and is not told yet; None until somebody has looked."""

    def page(self, reader: Reader) -> tuple[Sequence[Change], bool]:
        """Return what follows, and whether it was the last. GapError where it takes too long to find out."""
        if self._sums is None:
            self._sums = self._outline(reader)
        rows = [Change._make(row) for row in reader.query(_PAGE, self._parameters, ANSWER_SECONDS)]
        is_last = len(rows) < PAGE
        sees = self.until.snapshot.sees
        found = [change for change in rows if sees(change.transaction_id)]
        if rows:
            self._parameters["after"] = rows[-1].seq
        told = [change for change in self._sums if is_last or change.seq < rows[-1].seq]
        self._sums = self._sums[len(told) :]
        return sorted([*found, *told], key=lambda change: change.seq), is_last

    def _outline(self, reader: Reader) -> list[Change]:
        """Find where it begins, and sum up transactions that are too large to be told whole."""
        ((oldest,),) = reader.query(_OLDEST, self._parameters, ANSWER_SECONDS)
        if oldest is not None and oldest < self._earliest:
            raise GapError
        ((first, huge),) = reader.query(_OUTLINE, self._parameters, LONGEST_SECONDS)
        self._parameters |= {"after": (first or 1) - 1, "huge": huge, "summed": []}
        if not huge:
            return []
        self._parameters["summed"] = changes.summed(reader.query(changes.KINDS, self._parameters, LONGEST_SECONDS))
        sums = reader.query(f"{changes.SUMS} order by 1", self._parameters, LONGEST_SECONDS)
        found = map(Change._make, sums)
        return [change for change in found if self.until.snapshot.sees(change.transaction_id)]
