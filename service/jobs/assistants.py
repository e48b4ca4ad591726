"""Assistants kept in step with templates: one thread follows what changes, another one tells the server of it."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog

from service import errors
from service.actor import SYSTEM
from service.call import Call
from service.call import running as in_call
from service.database.changes import Change, GapError
from service.database.handle import database
from service.database.trail import Trail
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.job_metrics import Copies
from service.jobs.assistant_copy import Copier
from service.jobs.worker import NAME
from service.openai_assistants import Assistants, GoneError
from service.openai_gateway import OutcomeUnknownError
from service.operations import assistant_states
from service.operations import assistants as operations
from service.operations.assistants import Held, Hints
from service.positions import Position
from service.tags import EVERYTHING

METHOD = "CopyTemplate"
"""The method of what is changed here, as the log has it: that is not followed."""
ANSWER_SECONDS = 10.0
"""How long the database may take for a step."""
LONGEST_SECONDS = 60.0
"""How long it may take to note that everything has changed, and the server to answer."""
STOP_SECONDS = 5.0
STORE_SECONDS = 5.0
"""How often the position is stored while nothing changes."""
RETRY_SECONDS = 10.0
MOST_DOUBLINGS = 20
"""Of the time between two tries."""

_log = structlog.get_logger()


class Pace(NamedTuple):
    """In seconds."""

    tick: float = 0.25
    """Between two looks at what has changed, and at what is to be copied."""
    hold: float = 120.0
    """For how long nobody takes a copy over whose worker says nothing: longer than a request takes."""
    longest: float = 300.0
    """Between two tries."""
    failed: float = 3600.0
    """Before something is tried again that the server has refused."""
    counts: float = 10.0
    """Between two times that copies are counted."""
    pause: float = 1.0
    """In which the server is asked for nothing after it has failed, unless it asks for more."""


class Copying:
    """A part of the process for jobs."""

    def __init__(
        self,
        assistants: Assistants,
        url: str,
        *,
        settle_seconds: float,
        pace: Pace | None = None,
        metrics: Copies | None = None,
    ) -> None:
        self._copier = Copier(assistants, settle_seconds=settle_seconds)
        self._settle_seconds, self._metrics = settle_seconds, metrics
        self._pace = pace or Pace()
        self._trail = Trail(url, NAME)
        self._position: str | None = None
        self._is_on = False
        """Whether this worker has switched the copying on, so that there is a position."""
        self._is_ready = False
        """Whether it is known which registry this is, so that nothing of another one's is touched."""
        self._is_gone = False
        """Whether the server has no assistants."""
        self._quiet_until = self._count_at = self._store_at = 0.0
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_going, args=(step,), name=step.__name__.strip("_"), daemon=True)
            for step in (self._follow, self._copy)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait a moment for what is being done; what goes on for longer may be cut anywhere."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _keep_going(self, step: Callable[[], None]) -> None:
        while not self._stopped.wait(self._pace.tick):
            try:
                with in_call(Call(METHOD)):
                    step()
            except GoneError:
                self._is_gone = True
                error = "the server has no Assistants API: none is copied until a start"
                _log.warning("assistants", is_on=False, error=error)
            except Exception as fault:  # noqa: BLE001 - the next round may do better
                reason = fault.reason if isinstance(fault, errors.Error) else None
                _log.warning("assistants", error=type(fault).__name__, reason=reason, sqlstate=sqlstate(fault))
                self._stopped.wait(1.0)
        database.drop()
        if step == self._follow:
            self._trail.close()

    # What changes.

    def _follow(self) -> None:
        if self._is_gone:
            # By the thread that switches it on.
            with time_limit(LONGEST_SECONDS):
                operations.switch(SYSTEM, is_on=False)
            if self._metrics is not None:
                self._metrics.ended()
            self._stopped.set()
            return
        if not self._is_on:
            with time_limit(LONGEST_SECONDS):
                self._position = operations.switch(SYSTEM, is_on=True)
            self._is_on = True
        hints, position = self._read()
        if position != self._position:
            with time_limit(LONGEST_SECONDS):
                is_ours = operations.note(SYSTEM, hints, before=self._position, after=position)
            if not is_ours:
                # Another worker has gone on from there, or the copying was switched off.
                self._is_on = False
                return
            self._position = position
        self._is_ready = True
        while not self._stopped.is_set():
            with time_limit(ANSWER_SECONDS):
                if not operations.compare(SYSTEM):
                    break
        if self._metrics is not None and time.monotonic() >= self._count_at:
            self._count_at = time.monotonic() + self._pace.counts
            with time_limit(ANSWER_SECONDS):
                self._metrics.count(*assistant_states.counts(SYSTEM))

    def _read(self) -> tuple[Hints, str]:
        """Return what has changed since the position, and the next position."""
        found: list[Change] = []

        def hear(changes: Sequence[Change]) -> None:
            found.extend(change for change in changes if change.method != METHOD)

        reached = None
        if self._position is not None:
            with suppress(GapError, ValueError):
                reached = self._trail.read(Position.of(self._position), hear)
        if self._position is None or reached is None:
            # Nobody knows what has changed, so everything is looked at.
            return Hints(is_everything=True), self._trail.here().token()
        if not found and time.monotonic() < self._store_at:
            return Hints(), self._position
        self._store_at = time.monotonic() + STORE_SECONDS
        return _hints(found), reached.token()

    # What the server is told.

    def _copy(self) -> None:
        while self._may_ask() and time.monotonic() >= self._quiet_until:
            with time_limit(ANSWER_SECONDS):
                held = operations.take(SYSTEM, self._pace.hold)
            if held is None:
                return
            self._do(held)

    def _may_ask(self) -> bool:
        return self._is_ready and not self._is_gone and not self._stopped.is_set()

    def _do(self, held: Held) -> None:
        try:
            with time_limit(LONGEST_SECONDS):
                self._copier.bring_in_step(held)
        except GoneError:
            # Whoever starts later need not wait for this worker.
            with time_limit(ANSWER_SECONDS):
                operations.put_off(SYSTEM, held, 0.0, "OPENAI_REFUSED")
            raise
        except OutcomeUnknownError as error:
            self._put_off(held, self._settle_seconds, "OPENAI_OUTCOME_UNKNOWN", error.retry_seconds)
        except errors.FailedPrecondition as error:
            code = error.metadata.get("openai_code", error.reason)
            with time_limit(ANSWER_SECONDS):
                operations.fail(SYSTEM, held, self._pace.failed, code)
            _log.warning("assistant", template=held.template_id, result="failed", code=code)
        except errors.ResourceExhausted as error:
            self._put_off(held, 0.0, error.reason, error.retry_seconds)
        except (errors.Unavailable, errors.DeadlineExceeded) as error:
            wait = min(2.0 ** min(held.tries, MOST_DOUBLINGS), self._pace.longest)
            # Not a secret: so that what failed together is not tried again together.
            wait *= random.uniform(0.5, 1.0)  # noqa: S311 - see above
            self._put_off(held, wait, error.reason, error.retry_seconds)

    def _put_off(self, held: Held, seconds: float, code: str, retry_seconds: float | None) -> None:
        """Try a copy again later, and ask the server for nothing before it is to be asked."""
        pause = max(retry_seconds or 0.0, self._pace.pause)
        self._quiet_until = time.monotonic() + pause
        with time_limit(ANSWER_SECONDS):
            operations.put_off(SYSTEM, held, seconds, code)
        with time_limit(ANSWER_SECONDS):
            operations.leave_alone(SYSTEM, pause)


def _hints(changes: Sequence[Change]) -> Hints:
    """Return which templates are to be looked at after these changes."""
    ids: dict[str, set[str]] = {"template": set(), "template_type": set(), "model": set()}
    for change in changes:
        if change.resource_id == EVERYTHING and change.kind in {*ids, "template_tool"}:
            return Hints(is_everything=True)
        if change.kind == "template_tool":
            # Whichever type it is of.
            ids["template_type"].update(tag.removeprefix("type:") for tag in change.tags)
        elif change.kind in ids:
            ids[change.kind].add(change.resource_id)
    return Hints(ids["template"], ids["template_type"], ids["model"])


class Off:
    """A part that takes back once what copies were: no template has one any more."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._take_back, name="assistants", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _take_back(self) -> None:
        while not self._stopped.is_set():
            try:
                with in_call(Call(METHOD)), time_limit(LONGEST_SECONDS):
                    if assistant_states.is_on(SYSTEM):
                        operations.switch(SYSTEM, is_on=False)
                    break
            except errors.Error as error:
                _log.warning("assistants", reason=error.reason)
                self._stopped.wait(RETRY_SECONDS)
        database.drop()
