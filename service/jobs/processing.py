"""The runs of the registry: a worker takes those that wait, and those that a dead worker has left, and does them."""

import re
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import structlog

from service import errors, logs
from service.actor import SYSTEM
from service.call import Call
from service.call import running as in_call
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.job_metrics import FileRuns
from service.jobs import leftovers
from service.openai_files import Files, content_part
from service.openai_gateway import OutcomeUnknownError, Refused
from service.openai_runs import Created, Delta, Ended, Event, Runs
from service.operations import processing_results, processing_work
from service.operations.processing_work import LONGEST_OUTPUT, LONGEST_RESULTS, Held, Piece

ANSWER_SECONDS = 10.0
"""How long the database may take for a step."""
MOST_TRIES = 20
"""How often a run is put off that OpenAI does not take, before it fails."""
MOST_PAUSE_SECONDS = 300.0
FAULT_SECONDS = 30.0
OF_THE_DATABASE = {"DATABASE_UNAVAILABLE", "DEADLINE_EXCEEDED", "COMMIT_UNKNOWN", "CONFLICT"}

_log = structlog.get_logger()


class Pace(NamedTuple):
    """In seconds."""

    tick: float = 0.25
    """Between two looks at what is new: the texts of runs are kept that often."""
    take: float = 0.5
    """Between two looks for runs that wait."""
    keep: float = 5.0
    """Between two times that it says that its runs go on."""


class _Run:
    """A run that is being done."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.stopped = threading.Event()
        """Set when the worker ends, or when the run is another's."""
        self.is_lost = False
        self.was_sent = held.was_sent
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._room = LONGEST_OUTPUT
        """How many more bytes of the text are kept."""
        self._next_event = held.next_event

    def add(self, delta: Delta) -> None:
        text = _clean(delta.text)
        with self._lock:
            self._texts.append(_cut(text, self._room))
            self._room = max(0, self._room - len(text.encode()))
            self._next_event = delta.sequence + 1

    def piece(self) -> Piece | None:
        """Return what has come since this was last asked."""
        with self._lock:
            text = "".join(self._texts)
            self._texts.clear()
            return Piece(self.held.id, self.held.holder, self._next_event, text) if text else None

    def put_back(self, piece: Piece) -> None:
        """Have a piece asked for once more, with what has come since."""
        with self._lock:
            self._texts.insert(0, piece.text)


class Processing:
    """A part of the process for jobs: does up to so many runs at once, each on a thread of its own."""

    def __init__(
        self,
        runs: Runs,
        files: Files,
        *,
        at_once: int,
        drain_seconds: float,
        pace: Pace | None = None,
        metrics: FileRuns | None = None,
    ) -> None:
        self._runs, self._at_once, self._drain_seconds = runs, at_once, drain_seconds
        self._pace = pace or Pace()
        self._metrics = metrics
        self._undo = {"file": files.delete, "response": runs.cancel}
        self._clearing: threading.Thread | None = None
        self._running: dict[str, tuple[_Run, threading.Thread]] = {}
        """By their holders."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep_going, name="processing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more runs, and leave those that go on to others."""
        self._stopped.set()
        self._thread.join()
        for run, _ in list(self._running.values()):
            run.stopped.set()
        give_up = time.monotonic() + self._drain_seconds
        threads = [thread for _, thread in list(self._running.values())]
        for thread in [*threads, *([] if self._clearing is None else [self._clearing])]:
            thread.join(max(0.0, give_up - time.monotonic()))

    def _keep_going(self) -> None:
        take_at = keep_at = 0.0
        while not self._stopped.wait(self._pace.tick):
            try:
                with in_call(Call("process")), time_limit(ANSWER_SECONDS):
                    self._append()
                    now = time.monotonic()
                    if now >= keep_at:
                        keep_at = now + self._pace.keep
                        self._keep()
                        self._clear()
                    if now >= take_at:
                        take_at = now + self._pace.take
                        self._take()
            except Exception as fault:  # noqa: BLE001 - the next round may do better
                _log.warning("processing", error=type(fault).__name__, sqlstate=sqlstate(fault))
                self._stopped.wait(self._pace.keep)
        database.drop()

    def _append(self) -> None:
        runs = [run for run, _ in list(self._running.values())]
        pieces = [(run, piece) for run in runs if (piece := run.piece()) is not None]
        if not pieces:
            return
        try:
            processing_work.append(SYSTEM, [piece for _, piece in pieces])
        except errors.Error:
            for run, piece in pieces:
                run.put_back(piece)
            raise

    def _keep(self) -> None:
        runs = [run for run, _ in list(self._running.values())]
        if not runs:
            return
        kept = processing_work.keep(SYSTEM, [run.held for run in runs])
        for run in runs:
            if run.held.holder not in kept:
                run.is_lost = True
                run.stopped.set()

    def _clear(self) -> None:
        """Undo what records have left at OpenAI, on a thread that nobody waits for."""
        if self._clearing is None or not self._clearing.is_alive():
            self._clearing = threading.Thread(target=self._clear_all, name="leftovers", daemon=True)
            self._clearing.start()

    def _clear_all(self) -> None:
        try:
            with in_call(Call("process")):
                done = leftovers.clear(self._undo, self._stopped)
            if any(done.values()):
                _log.info("leftovers", **done)
        except Exception as fault:  # noqa: BLE001 - the next round may do better
            _log.warning("leftovers", error=type(fault).__name__, sqlstate=sqlstate(fault))
        finally:
            database.drop()

    def _take(self) -> None:
        free = self._at_once - len(self._running)
        for held in processing_work.take(SYSTEM, free) if free > 0 else []:
            run = _Run(held)
            thread = threading.Thread(target=self._do, args=(run,), name="run", daemon=True)
            self._running[held.holder] = run, thread
            thread.start()

    def _do(self, run: _Run) -> None:
        began = time.monotonic()
        if self._metrics is not None:
            self._metrics.began()
        result, fields = "ended", {}
        try:
            with in_call(Call("process")):
                result = self._run(run)
        except Exception as fault:  # noqa: BLE001 - somebody takes it over when nobody says that it goes on
            result, fields = "given_up", logs.described(fault)
        finally:
            database.drop()
            del self._running[run.held.holder]
            seconds = time.monotonic() - began
            if self._metrics is not None:
                self._metrics.ended(result, seconds)
            _log.info("run", record=run.held.id, result=result, seconds=round(seconds, 3), **fields)

    def _run(self, run: _Run) -> str:
        """Do a run, and return what came of it, for the log."""
        held = run.held
        if held.status == "uploading":
            return self._fail(run, "PROCESSING_UPLOAD_ENDED", "the file did not come to OpenAI whole")
        if held.was_sent and not held.response_id:
            return self._fail_unknown(run)
        try:
            return self._follow(run)
        except OutcomeUnknownError:
            return self._fail_unknown(run)
        except errors.Error as error:
            if error.reason in OF_THE_DATABASE:
                raise
            return self._put_off(run, error)
        except Exception as fault:  # noqa: BLE001 - a fault of ours, which may be another's next time
            _log.error("run", record=held.id, result="fault", **logs.described(fault))
            if run.was_sent and not run.held.response_id:
                return self._fail_unknown(run)
            return self._put_off(run, errors.Internal("INTERNAL", "the service failed", retry_seconds=FAULT_SECONDS))

    def _put_off(self, run: _Run, error: errors.Error) -> str:
        """Have a run done later that OpenAI has not begun, or that has an id; or fail it, if that does not help."""
        tries = run.held.tries
        if error.retry_seconds is None or tries >= MOST_TRIES:
            return self._fail(run, error.reason, error.said if isinstance(error, Refused) else error.message)
        pause = min(max(error.retry_seconds, 2.0**tries), MOST_PAUSE_SECONDS)
        with time_limit(ANSWER_SECONDS):
            processing_work.put_off(SYSTEM, run.held, pause, was_sent=bool(run.held.response_id))
        return "put_off"

    def _follow(self, run: _Run) -> str:
        held = run.held
        for event in self._events(run):
            match event:
                case Delta():
                    run.add(event)
                case Created():
                    with time_limit(ANSWER_SECONDS):
                        is_ours = processing_work.note_response(SYSTEM, held, event.response_id, event.sequence + 1)
                    run.held = held = held._replace(response_id=event.response_id)
                    if not is_ours:
                        return "cancelled"
                case Ended():
                    return self._end(run, event)
        if not run.is_lost:
            with time_limit(ANSWER_SECONDS):
                self._append()
                processing_work.give_back(SYSTEM, held)
        return "lost" if run.is_lost else "given_back"

    def _events(self, run: _Run) -> Iterator[Event]:
        held = run.held
        if held.response_id:
            return self._runs.resume(held.response_id, held.next_event - 1, run.stopped)
        with time_limit(ANSWER_SECONDS):
            sent = processing_work.begin(SYSTEM, held)
        if sent is None:
            run.is_lost = True
            return iter(())
        run.was_sent = True
        text = [{"type": "input_text", "text": sent.text}] if sent.text else []
        return self._runs.start(sent.body, [content_part(held.file_id, held.filename), *text], run.stopped)

    def _end(self, run: _Run, ended: Ended) -> str:
        text = _clean(ended.text)
        usage = None if ended.usage is None else tuple(ended.usage)
        results, reason, message = "", ended.error_code, _clean(ended.error_message)
        if ended.status in {"failed", "incomplete"}:
            reason = reason or ended.status
        with time_limit(ANSWER_SECONDS):
            if ended.status == "completed" and not reason:
                results, message = processing_results.of(text, processing_work.response_format(SYSTEM, run.held))
                reason = "PROCESSING_RESULTS_INVALID" if message else ""
            if len(results.encode()) > LONGEST_RESULTS or len(text.encode()) > LONGEST_OUTPUT:
                text = _cut(text, LONGEST_OUTPUT)
                results, reason = "", "PROCESSING_RESULTS_TOO_LARGE"
                message = "the answer is too large to be kept"
            status = ended.status if ended.status == "cancelled" or not reason else "failed"
            processing_work.end(
                SYSTEM,
                run.held,
                status,
                reason=_code(reason) if status == "failed" else "",
                message=message[:2000],
                results=results,
                output_text=text,
                usage=usage,
            )
        return status

    def _fail_unknown(self, run: _Run) -> str:
        return self._fail(
            run, "PROCESSING_OUTCOME_UNKNOWN", "the request was sent, and it is not known whether OpenAI ran it"
        )

    def _fail(self, run: _Run, reason: str, message: str) -> str:
        with time_limit(ANSWER_SECONDS):
            processing_work.end(SYSTEM, run.held, "failed", reason=_code(reason), message=_clean(message)[:2000])
        return "failed"


def _clean(text: str) -> str:
    """Return a text as the database can have it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _cut(text: str, most: int) -> str:
    """Return the beginning of a text that has so many bytes at most."""
    return text.encode()[:most].decode(errors="ignore")


def _code(reason: str) -> str:
    """Return a reason as a record can have it, whatever OpenAI calls it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", reason)[:64]
