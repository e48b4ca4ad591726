"""Watches of records: one thread looks for what is new of all of them, and none waits for a reader."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from service import errors
from service.actor import Actor
from service.call import Call
from service.call import running as in_call
from service.database.handle import database
from service.database.transactions import read, sqlstate
from service.deadline import time_limit
from service.models.processing_records import ENDED, ProcessingRecord
from service.operations import processing_records, processing_rights, rights

TICK_SECONDS = 0.25
CHECK_SECONDS = 5.0
"""After how long it is asked again whether the caller may still read the record."""
ANSWER_SECONDS = 10.0
BATCH = 100
"""How many watches are looked after in one query."""
PIECES = 256
"""How many pieces of a text are read at once."""

_log = structlog.get_logger()

News = ProcessingRecord | str
"""A record, or the text that is next."""

Piece = tuple[int, str]
"""A part of a text, after its place."""


class RecordWatch:
    """A stream about one record. It has one thing to say at most, until that is taken."""

    def __init__(
        self,
        actor: Actor,
        record: ProcessingRecord,
        wake: Callable[[], None],
        end: Callable[[errors.Error | None], None],
    ) -> None:
        self.actor, self.id = actor, record.id
        self._place = record.user_id, record.organization_id
        self.wake, self.end = wake, end
        """Has `next` be called until it returns None, on another thread; ends the stream."""
        self.version = record.version
        self.attempt = record.attempt
        self.seq = -1
        """Of the last piece that was queued."""
        self.told = 0
        """How many characters of the text were queued."""
        self.queue: deque[News] = deque([record])
        self.ends_after = record.status in ENDED
        self.is_over = False
        self.checked_at = time.monotonic()

    def hear(self, record: ProcessingRecord | None, pieces: Sequence[Piece]) -> None:
        """Queue what is new."""
        if record is not None and record.attempt != self.attempt:
            self.attempt, self.seq, self.told = record.attempt, -1, 0
        for seq, text in pieces:
            self._say(text)
            self.seq = seq
        if record is None:
            return
        self.version = record.version
        self.ends_after = record.status in ENDED
        if self.ends_after and record.output_text:
            # The pieces that were not read in time went when the run ended.
            self._say(record.output_text[self.told :])
        self.queue.append(record)

    def require_rights(self, now: float) -> None:
        """Raise when the caller may not read the record any more; who it is, and where it is a member, now and then."""
        if now >= self.actor.ends:
            raise errors.Unauthenticated("session_expired" if self.actor.api_key_id is None else "key_over")
        if now < self.checked_at + CHECK_SECONDS:
            return
        self.checked_at = now
        # This raises for a key that has ended.
        rights.end_of_key(self.actor)
        if not processing_rights.reads(self.actor, *self._place):
            raise errors.not_found("PROCESSING_RECORD", id=self.id)

    def _say(self, text: str) -> None:
        if text:
            self.queue.append(text)
            self.told += len(text)


class RecordWatches:
    """All watches of records of a process; a part of the server."""

    def __init__(self) -> None:
        self._open: dict[RecordWatch, None] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="record watches", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._asked.set()
        self._thread.join()

    def open(
        self, actor: Actor, id: str, wake: Callable[[RecordWatch], None], end: Callable[[errors.Error | None], None]
    ) -> RecordWatch:
        """Begin to tell what becomes of a record that the actor may read; `wake` is called with the watch."""
        record = processing_records.get(actor, id)
        watch = RecordWatch(actor, record, lambda: wake(watch), end)
        with self._lock:
            self._open[watch] = None
        watch.wake()
        self._asked.set()
        return watch

    def close(self, watch: RecordWatch) -> None:
        """Forget a stream that is over."""
        with self._lock:
            watch.is_over = True
            self._open.pop(watch, None)

    def next(self, watch: RecordWatch) -> News | None:
        """Return what the watch says next, or None when there is nothing; the end of the run ends it."""
        with self._lock:
            if watch.queue and not watch.is_over:
                return watch.queue.popleft()
            is_last = watch.ends_after and not watch.is_over
            if is_last:
                watch.is_over = True
                self._open.pop(watch, None)
        if is_last:
            watch.end(None)
        return None

    def _run(self) -> None:
        while not self._stopped.is_set():
            if not self._open:
                # Nobody asks the database while nobody watches.
                self._asked.clear()
                if not self._open:
                    self._asked.wait()
            try:
                with in_call(Call("WatchProcessingRecord")), time_limit(ANSWER_SECONDS):
                    self._look()
            except Exception as fault:  # noqa: BLE001 - the next round may do better
                _log.warning("record watches", error=type(fault).__name__, sqlstate=sqlstate(fault))
            self._stopped.wait(TICK_SECONDS)
        database.drop()

    def _look(self) -> None:
        with self._lock:
            # Nothing is read for those that have not said everything.
            free = [watch for watch in self._open if not (watch.queue or watch.ends_after)]
        for start in range(0, len(free), BATCH):
            batch = free[start : start + BATCH]
            # The texts first: what they do not have yet of a run that has ended is in its record.
            pieces = _pieces(batch)
            versions = _versions(batch)
            changed = [watch.id for watch in batch if versions.get(watch.id, watch.version) != watch.version]
            records = {record.id: record for record in _records(changed)} if changed else {}
            for watch, texts in zip(batch, pieces, strict=True):
                self._tell(watch, texts, records.get(watch.id), is_there=watch.id in versions)

    def _tell(
        self, watch: RecordWatch, pieces: Sequence[Piece], record: ProcessingRecord | None, *, is_there: bool
    ) -> None:
        try:
            if not is_there:
                raise errors.not_found("PROCESSING_RECORD", id=watch.id)
            watch.require_rights(time.monotonic())
        except errors.Error as error:
            self.close(watch)
            watch.end(error)
            return
        with self._lock:
            watch.hear(record, pieces)
            has_news = bool(watch.queue)
        if has_news:
            watch.wake()


@read
def _pieces(watches: Sequence[RecordWatch]) -> list[list[Piece]]:
    """Return the next pieces of the text of each."""
    found: list[list[Piece]] = [[] for _ in watches]
    rows = database.execute_sql(
        """
        select watch.n, piece.seq, piece.text
        from unnest(%s::text[], %s::bigint[]) with ordinality watch (id, seq, n)
        cross join lateral (
            select seq, text from processing_output o where o.record_id = watch.id and o.seq > watch.seq
            order by seq limit %s
        ) piece
        order by watch.n, piece.seq
        """,
        ([watch.id for watch in watches], [watch.seq for watch in watches], PIECES),
    )
    for number, seq, text in rows.fetchall():
        found[number - 1].append((seq, text))
    return found


@read
def _versions(watches: Sequence[RecordWatch]) -> dict[str, int]:
    rows = database.execute_sql(
        "select id, version from processing_records where id = any(%s)", ([watch.id for watch in watches],)
    )
    return dict(rows.fetchall())


@read
def _records(ids: Sequence[str]) -> list[ProcessingRecord]:
    return ProcessingRecord.fetch("where t.id = any(%s)", [list(ids)])
