"""The threads of a server: few that work, and more only while some of them wait."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class GrowingPool(ThreadPoolExecutor):
    """A pool that has so many threads, and one more for each that waits for somebody.

    Threads that all want to run take Python's lock from each other: with 32 instead of 16, a quarter of the calls a
    second are lost. The executor asks for `_max_workers` whenever something is submitted.
    """

    def __init__(self, threads: int, most: int, waiting: Callable[[], int], **options: Any) -> None:
        self._base, self._most, self._waiting = threads, most, waiting
        super().__init__(most, **options)

    @property
    def _max_workers(self) -> int:
        return min(self._most, self._base + self._waiting())

    @_max_workers.setter
    def _max_workers(self, value: int) -> None:
        """Ignore the number that the executor sets when it is made."""

    def grow(self) -> None:
        """Start another thread if something is queued and there may be one more: a thread is about to wait."""
        if self._work_queue.qsize():
            with self._shutdown_lock:
                if not self._shutdown:
                    self._adjust_thread_count()
