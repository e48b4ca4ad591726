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
from service.metrics import Copies
from service.models.row import new_id
from service.openai_assistants import Assistants, GoneError, Listed, Missing
from service.openai_gateway import OutcomeUnknownError
from service.operations import assistant_states
from service.operations import assistants as operations
from service.operations.assistants import Held, Hints, Wanted
from service.positions import Position
from service.rendering.assistants import joined
from service.tags import EVERYTHING

METHOD = "CopyTemplate"
"""The method of what is changed here, as the log has it: that is not followed."""
SYSTEM_NAME = "omniflo-templates"
"""In the metadata of what is ours."""
ANSWER_SECONDS = 10.0
"""How long the database may take for a step."""
LONGEST_SECONDS = 60.0
"""How long it may take to note that everything has changed, and the server to answer."""
STORE_SECONDS = 5.0
"""How often the position is stored while nothing changes."""
SKEW_SECONDS = 600.0
"""By how much the server's clock may differ."""

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


def metadata_of(epoch: str, template_id: str, attempt_id: str) -> dict[str, str]:
    """Return what an assistant of ours is known by."""
    return {"system": SYSTEM_NAME, "epoch": epoch, "template_id": template_id, "attempt_id": attempt_id}


def is_of(listed: Listed, epoch: str, template_id: str | None = None) -> bool:
    """Return whether an assistant is of this registry, and of a template if one is given."""
    has = listed.metadata
    ours = has.get("system") == SYSTEM_NAME and has.get("epoch") == epoch and bool(has.get("attempt_id"))
    return ours and (bool(has.get("template_id")) if template_id is None else has.get("template_id") == template_id)


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
        self._assistants, self._settle_seconds, self._metrics = assistants, settle_seconds, metrics
        self._pace = pace or Pace()
        self._trail = Trail(url)
        self._position: str | None = None
        self._is_on = False
        """Whether this worker has switched the copying on, so that there is a position."""
        self._is_ready = False
        """Whether it is known which registry this is, so that nothing of another one's is touched."""
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
        self._stopped.set()
        for thread in self._threads:
            thread.join(LONGEST_SECONDS)

    def _keep_going(self, step: Callable[[], None]) -> None:
        while not self._stopped.wait(self._pace.tick):
            try:
                with in_call(Call(METHOD)):
                    step()
            except GoneError:
                self._end()
            except Exception as fault:  # noqa: BLE001 - the next round may do better
                reason = fault.reason if isinstance(fault, errors.Error) else None
                _log.warning("assistants", error=type(fault).__name__, reason=reason, sqlstate=sqlstate(fault))
                self._stopped.wait(1.0)
        database.drop()

    def _end(self) -> None:
        """Copy nothing more until the next start: the server has no assistants."""
        _log.warning("assistants", is_on=False, error="the server has no Assistants API: none is copied until a start")
        self._stopped.set()
        with in_call(Call(METHOD)), time_limit(LONGEST_SECONDS):
            operations.switch(SYSTEM, is_on=False)
        if self._metrics is not None:
            self._metrics.ended()

    # What changes.

    def _follow(self) -> None:
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
        while self._is_ready and not self._stopped.is_set() and time.monotonic() >= self._quiet_until:
            with time_limit(ANSWER_SECONDS):
                held = operations.take(SYSTEM, self._pace.hold)
            if held is None:
                return
            self._do(held)

    def _do(self, held: Held) -> None:
        try:
            with time_limit(LONGEST_SECONDS):
                self._bring_in_step(held)
        except OutcomeUnknownError:
            self._put_off(held, self._settle_seconds, "OPENAI_OUTCOME_UNKNOWN")
        except errors.FailedPrecondition as error:
            code = error.metadata.get("openai_code", error.reason)
            with time_limit(ANSWER_SECONDS):
                operations.fail(SYSTEM, held, self._pace.failed, code)
            _log.warning("assistant", template=held.template_id, result="failed", code=code)
        except errors.ResourceExhausted as error:
            wait = max(error.retry_seconds or 0.0, self._pace.tick)
            self._quiet_until = time.monotonic() + wait
            self._put_off(held, wait, error.reason)
        except (errors.Unavailable, errors.DeadlineExceeded) as error:
            wait = min(max(2.0**held.tries, error.retry_seconds or 0.0), self._pace.longest)
            # Not a secret: so that what failed together is not tried again together.
            self._put_off(held, wait * random.uniform(0.5, 1.0), error.reason)  # noqa: S311 - see above

    def _put_off(self, held: Held, seconds: float, code: str) -> None:
        with time_limit(ANSWER_SECONDS):
            operations.put_off(SYSTEM, held, seconds, code)

    def _bring_in_step(self, held: Held) -> None:
        wanted = operations.wanted(SYSTEM, held.template_id)
        if wanted is None:
            self._remove(held)
        elif held.assistant_id is not None:
            self._update(held, held.assistant_id, held.attempt_id or new_id(), wanted)
        elif held.attempt_id is not None:
            self._settle(held, wanted)
        elif not self._adopt_known(held, wanted):
            self._create(held, wanted)

    def _create(self, held: Held, wanted: Wanted) -> None:
        attempt_id = new_id()
        # Should nobody learn of what is created, it is found by this.
        if not operations.mark(SYSTEM, held, attempt_id):
            return
        metadata = metadata_of(held.epoch, held.template_id, attempt_id)
        try:
            made = self._assistants.create(joined(wanted.members, metadata, with_null=False))
        except (errors.FailedPrecondition, errors.ResourceExhausted, GoneError):
            operations.unmark(SYSTEM, held)
            raise
        except errors.Unavailable:
            # Some servers fail after they have done it.
            raise OutcomeUnknownError from None
        if operations.adopt(SYSTEM, held, made, attempt_id):
            operations.wrote(SYSTEM, held, wanted.digest)

    def _update(self, held: Held, assistant_id: str, attempt_id: str, wanted: Wanted) -> None:
        metadata = metadata_of(held.epoch, held.template_id, attempt_id)
        try:
            self._assistants.update(assistant_id, joined(wanted.members, metadata, with_null=True))
        except Missing:
            # Somebody has deleted it.
            operations.removed(SYSTEM, held)
        else:
            operations.wrote(SYSTEM, held, wanted.digest)

    def _adopt_known(self, held: Held, wanted: Wanted) -> bool:
        """Adopt the assistant that the template came with; False if there is none, or if it is another's."""
        if wanted.known_id is None:
            return False
        try:
            found = self._assistants.get(wanted.known_id)
        except Missing:
            return False
        if found.metadata.get("system") == SYSTEM_NAME and not is_of(found, held.epoch, held.template_id):
            return False
        return self._adopt(held, found.id, new_id(), wanted)

    def _adopt(self, held: Held, assistant_id: str, attempt_id: str, wanted: Wanted) -> bool:
        try:
            if not operations.adopt(SYSTEM, held, assistant_id, attempt_id):
                return False
        except errors.Aborted:
            return False
        self._update(held, assistant_id, attempt_id, wanted)
        return True

    def _settle(self, held: Held, wanted: Wanted) -> None:
        """Find out whether an attempt has made an assistant; before it is settled, that may not be listed yet."""
        if held.attempt_seconds < self._settle_seconds:
            self._put_off(held, self._settle_seconds - held.attempt_seconds, "OPENAI_OUTCOME_UNKNOWN")
            return
        for found in self._made_by(held):
            if self._adopt(held, found.id, str(found.metadata["attempt_id"]), wanted):
                return
        operations.unmark(SYSTEM, held)
        self._create(held._replace(attempt_id=None), wanted)

    def _made_by(self, held: Held) -> list[Listed]:
        """Return the assistants that attempts for this template have made, that of the last attempt first."""
        found = []
        for listed in self._assistants.newest():
            if listed.created_at < held.attempted_at - SKEW_SECONDS:
                break
            if is_of(listed, held.epoch, held.template_id):
                found.append(listed)
        return sorted(found, key=lambda listed: listed.metadata["attempt_id"] != held.attempt_id)

    def _remove(self, held: Held) -> None:
        """Delete what was made for a template that is gone, or that can have no copy."""
        if held.assistant_id is not None:
            ids = [held.assistant_id]
        elif held.attempt_id is None:
            ids = []
        elif held.attempt_seconds < self._settle_seconds:
            self._put_off(held, self._settle_seconds - held.attempt_seconds, "OPENAI_OUTCOME_UNKNOWN")
            return
        else:
            ids = [found.id for found in self._made_by(held)]
        for id in ids:
            try:
                self._assistants.delete(id)
            except Missing:
                continue
        operations.removed(SYSTEM, held)


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

    def start(self) -> None:
        threading.Thread(target=self._take_back, name="assistants", daemon=True).start()

    def stop(self) -> None:
        """Nothing waits for it."""

    def _take_back(self) -> None:
        try:
            with in_call(Call(METHOD)), time_limit(LONGEST_SECONDS):
                if assistant_states.is_on(SYSTEM):
                    operations.switch(SYSTEM, is_on=False)
        except errors.Error as error:
            _log.warning("assistants", reason=error.reason)
        finally:
            database.drop()
