"""Connections that are lent to threads: as many calls work at once as there are of them."""

from queue import Empty, SimpleQueue

from service import deadline, errors
from service.database.handle import Lent, database, thread


class Slots:
    """A bounded number of connections, each lent to one thread at a time. A call waits for one until its deadline."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[Lent] = SimpleQueue()
        for _ in range(count):
            self._free.put(Lent())

    def assign(self) -> None:
        """Make the current thread one that borrows its connection here instead of having one of its own."""
        thread.lender = self

    def take(self) -> Lent:
        """Return a free connection, waiting for one until the deadline."""
        try:
            return self._free.get_nowait()
        except Empty:
            left = deadline.remaining()
        try:
            return self._free.get(timeout=None if left == float("inf") else max(0.0, left))
        except Empty:
            raise errors.deadline_exceeded() from None

    def give(self, lent: Lent) -> None:
        self._free.put(lent)

    def close(self) -> None:
        """Close all connections that nobody has."""
        while True:
            try:
                lent = self._free.get_nowait()
            except Empty:
                return
            if lent.connection is not None and not lent.connection.closed:
                lent.connection.close()


class working:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Hold a connection in the block, if the thread borrows one and has none yet."""

    def __enter__(self) -> None:
        self._lender = None if thread.has_lent else thread.lender
        if self._lender is not None:
            self._lent = self._lender.take()
            thread.has_lent = True
            database.use(self._lent)

    def __exit__(self, *_: object) -> None:
        if self._lender is not None:
            database.give_back(self._lent)
            thread.has_lent = False
            self._lender.give(self._lent)
