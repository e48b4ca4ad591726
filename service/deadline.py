"""The clock of a call: until when this thread may go on with what it does."""

import threading
import time


class _Thread(threading.local):
    deadline: float | None = None
    """On the clock of `time.monotonic`; None outside `time_limit`."""


_thread = _Thread()


class time_limit:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Bound every wait of this thread in the block. A limit inside another only shortens it."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def __enter__(self) -> None:
        self._outer = _thread.deadline
        _thread.deadline = self._deadline if self._outer is None else min(self._deadline, self._outer)

    def __exit__(self, *_: object) -> None:
        _thread.deadline = self._outer


def remaining() -> float:
    """Return the seconds that are left, negative once they have run out; infinity outside `time_limit`."""
    return float("inf") if _thread.deadline is None else _thread.deadline - time.monotonic()
