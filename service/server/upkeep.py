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
from service.metrics import Metrics
from service.operations import api_keys, jobs, openai_models, processing_work, statistics

NOTE_SECONDS = 1.0
LOOK_SECONDS = 60.0
WAIT_SECONDS = 10.0
COUNT_SECONDS = 3600.0
MISSED_SECONDS = 3600.0
"""After how long without a worker for jobs somebody is told."""
LONGEST_SECONDS = 60.0
"""How long a chore may take."""
JOIN_SECONDS = 2.0
HELP = "nothing is purged meanwhile: run `python -m service work`, or `serve` without --no-work and OMNIFLO_WORK=off"

_log = structlog.get_logger()


class Chore(NamedTuple):
    """Something to do again and again."""

    name: str
    every: float
    """After how many seconds it is due again."""
    do: Callable[[], None]


class Upkeep:
    """A thread that does chores by turns, while the database is there."""

    def __init__(self, chores: Sequence[Chore], is_reachable: Callable[[], bool]) -> None:
        self._chores = chores
        self._is_reachable = is_reachable
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        due = dict.fromkeys(self._chores, 0.0)
        while not self._stopped.is_set():
            for chore in self._chores:
                if time.monotonic() < due[chore] or self._stopped.is_set() or not self._is_reachable():
                    continue
                with _kept_going(chore.name), time_limit(LONGEST_SECONDS):
                    chore.do()
                due[chore] = time.monotonic() + chore.every
            self._stopped.wait(NOTE_SECONDS)
        database.drop()


def noting(identities: Identities) -> Chore:
    """Return the chore that writes which API keys were used, off the path of the calls that used them."""

    def note() -> None:
        if used := identities.used_keys():
            api_keys.note_use(SYSTEM, used)

    return Chore("API keys", NOTE_SECONDS, note)


def statement_times() -> Chore:
    """Return the chore that writes down how long the statements of this process took."""
    return Chore("statements", LOOK_SECONDS, lambda: statistics.note_statements(SYSTEM))


def missing(metrics: Metrics | None, *, every: float = LOOK_SECONDS, after: float = MISSED_SECONDS) -> Chore:
    """Return the chore that looks whether anybody runs jobs, and says so where nobody has for an hour."""
    seen = said = time.monotonic()

    def look() -> None:
        nonlocal seen, said
        now = time.monotonic()
        if jobs.workers(SYSTEM):
            seen = said = now
        elif now - said >= after:
            said = now
            _log.warning("no worker for jobs", seconds=round(now - seen), help=HELP)
        if metrics is not None:
            metrics.job_worker_age.set(now - seen)

    return Chore("workers", every, look)


def waiting(metrics: Metrics) -> Chore:
    """Return the chore that looks how long runs on files wait for a process that does them."""

    def look() -> None:
        metrics.file_run_wait.set(processing_work.longest_wait(SYSTEM))

    return Chore("runs", WAIT_SECONDS, look)


def ending(metrics: Metrics) -> Chore:
    """Return the chore that counts the templates whose models end soon."""

    def count() -> None:
        metrics.ending.set(sum(model.templates for model in openai_models.ending(SYSTEM)))

    return Chore("models", COUNT_SECONDS, count)


@contextmanager
def _kept_going(name: str) -> Iterator[None]:
    """Log what goes wrong in the block: the other chores and the next time must not suffer from it."""
    try:
        yield
    except errors.Error as error:
        _log.warning(name, reason=error.reason)
    except Exception as fault:  # noqa: BLE001 - whatever it is
        _log.error(name, error=type(fault).__name__, sqlstate=sqlstate(fault))
