"""Connections that are lent to threads: as many calls work at once as there are of them."""

from queue import Empty, SimpleQueue

from service import deadline, errors
from service.database.handle import Lent, database, thread


class Slots:
    """A bounded number of connections, each lent to one thread at a time. A call waits for one until its deadline."""

    def __init__(self, count: int) -> None:
        self._free = {Lent(): True for _ in range(count)}
        """Those that nobody has, the one that was given back last at the end."""
        self._count: SimpleQueue[None] = SimpleQueue()
        """As many as there are of them, or fewer."""
        for _ in range(count):
            self._count.put(None)

    def assign(self) -> None:
        """Make the current thread one that borrows its connection here instead of having one of its own."""
        thread.lender = self

    def take(self, last: Lent | None) -> Lent:
        """Return a free connection, the last one if it is; wait for one until the deadline.

        A read takes a tenth less on the connection that its thread had last.
        """
        try:
            self._count.get_nowait()
        except Empty:
            self._wait()
        if last is not None and self._free.pop(last, False):
            return last
        return self._free.popitem()[0]

    def _wait(self) -> None:
        left = deadline.remaining()
        try:
            self._count.get(timeout=None if left == float("inf") else max(0.0, left))
        except Empty:
            raise errors.deadline_exceeded() from None

    def give(self, lent: Lent) -> None:
        self._free[lent] = True
        self._count.put(None)

    def close(self) -> None:
        """Close all connections that nobody has."""
        while self._count.qsize():
            lent = self.take(None)
            if lent.connection is not None and not lent.connection.closed:
                lent.connection.close()


class working:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Hold a connection in the block, if the thread borrows one and has none yet."""

    def __enter__(self) -> None:
        self._lender = None if thread.has_lent else thread.lender
        if self._lender is not None:
            self._lent = thread.lent = self._lender.take(thread.lent)
            thread.has_lent = True
            database.use(self._lent)

    def __exit__(self, *_: object) -> None:
        if self._lender is not None:
            database.keep(self._lent)
            thread.has_lent = False
            self._lender.give(self._lent)
