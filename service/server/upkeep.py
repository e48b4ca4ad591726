"""What a server does for itself from time to time: on a thread and a connection of its own, in nobody's way."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from service import errors
from service.actor import SYSTEM
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.identity.identities import Identities
from service.operations import api_keys, maintenance

NOTE_SECONDS = 1.0
PURGE_SECONDS = 600.0
LONGEST_SECONDS = 60.0
"""How long one step of a job may take."""
JOIN_SECONDS = 2.0

_log = structlog.get_logger()


class Job(NamedTuple):
    """Something to do again and again."""

    name: str
    every: float
    """After how many seconds it is due again."""
    step: Callable[[], bool]
    """Does some of it, and returns whether more is to be done at once."""


class Upkeep:
    """A thread that runs jobs by turns, while the database is there."""

    def __init__(self, jobs: Sequence[Job], is_reachable: Callable[[], bool]) -> None:
        self._jobs = jobs
        self._is_reachable = is_reachable
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        due = dict.fromkeys(self._jobs, 0.0)
        while not self._stopped.is_set():
            is_busy = False
            for job in self._jobs:
                if time.monotonic() < due[job] or self._stopped.is_set() or not self._is_reachable():
                    continue
                has_more = False
                with _kept_going(job.name), time_limit(LONGEST_SECONDS):
                    has_more = job.step()
                due[job] = time.monotonic() + (0 if has_more else job.every)
                is_busy = is_busy or has_more
            self._stopped.wait(0 if is_busy else NOTE_SECONDS)
        database.drop()


def noting(identities: Identities) -> Job:
    """Return the job that writes which API keys were used, off the path of the calls that used them."""

    def step() -> bool:
        if used := identities.used_keys():
            api_keys.note_use(SYSTEM, used)
        return False

    return Job("API keys", NOTE_SECONDS, step)


def purging(changes_days: int) -> Job:
    """Return the job that deletes old request ids, invitations that have expired, and API keys that ended long ago.

    It also deletes changes that are older than so many days.
    """
    purged = 0
    purges: tuple[Callable[[], int], ...] = (
        lambda: maintenance.purge_batch(SYSTEM),
        lambda: maintenance.purge_invitations(SYSTEM),
        lambda: maintenance.purge_keys(SYSTEM),
        lambda: maintenance.purge_changes(SYSTEM, changes_days),
    )

    def step() -> bool:
        nonlocal purged
        deleted = sum(purge() for purge in purges)
        purged += deleted
        if not deleted:
            _log.info("purge", purged=purged)
            purged = 0
        return deleted > 0

    return Job("purge", PURGE_SECONDS, step)


@contextmanager
def _kept_going(name: str) -> Iterator[None]:
    """Log what goes wrong in the block: the other jobs and the next time must not suffer from it."""
    try:
        yield
    except errors.Error as error:
        _log.warning(name, reason=error.reason)
    except Exception as fault:  # noqa: BLE001 - whatever it is
        _log.error(name, error=type(fault).__name__, sqlstate=sqlstate(fault))
