"""The database handle: one connection a thread, and what is done on it."""

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

import peewee as pw

from service import call, deadline
from service.actor import Actor
from service.database.connections import OPTIONS, configure_driver, note, opened
from service.positions import Write
from service.statements import statements

LOCK_SECONDS = 5.0
STATEMENT_SECONDS = 300
"""The longest that any call may have: what ends a read on the server when its client has gone."""


WRITTEN = "omniflo.written"
"""The setting in which triggers tell a transaction the tags of what it has changed, one a line after an empty one."""

Tell = Callable[[Sequence[str]], None]
"""Takes the tags of what a transaction has changed."""


class Lent:
    """A connection that threads use by turns, with what was prepared on it."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.prepared: dict[str, str] = {}


class Lender(Protocol):
    def take(self, last: Lent | None) -> Lent: ...

    def give(self, lent: Lent) -> None: ...


class Thread(threading.local):
    """What a thread has going on with the database."""

    operation = "other"
    """The name of the innermost one, for those who measure."""
    depth = 0
    """How many operations are open, one inside the other."""
    lender: Lender | None = None
    """Who lends the thread its connection; None where it has one of its own."""
    has_lent = False
    """Whether it has a connection of the lender's now."""
    lent: Lent | None = None
    """The one that it has, or had last."""

    def __init__(self) -> None:
        self.prepared: dict[str, str] = {}
        """How the statements that the thread's connection has prepared are executed, by their text."""


thread = Thread()


class measured:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Take note of how long a statement takes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        statements.note(self._name, time.perf_counter() - self._began, None if error is None else type(error).__name__)


class CommitUnknownError(Exception):
    """The connection broke after COMMIT was sent."""


class Database(pw.PostgresqlDatabase):
    """Peewee's database, with one connection a thread, queries only inside operations, and bounded waits."""

    _state: Any
    """Peewee's state of the thread."""

    def __init__(self) -> None:
        super().__init__(None)
        # Peewee holds this lock while it connects, so one hung connect would stop all threads; the state it guards is
        # a thread's own.
        self._lock = contextlib.nullcontext()
        self.prepares = True
        """Whether statements are prepared; ends where a pooler is found to give each transaction another server."""
        self.is_doubted = False
        """Whether the schema or the role was found to be other than the service needs, since somebody last looked."""
        self._told: tuple[Tell, ...] = ()
        self._told_lock = threading.Lock()

    def tell(self, hear: Tell) -> None:
        """Tell somebody what each transaction has changed, when it has been committed and before it is reported done.

        The tags that this takes are asked for only while there is somebody to tell.
        """
        # Another one: a thread that commits may be going through the old one.
        with self._told_lock:
            self._told = (*self._told, hear)

    def tell_no_more(self, hear: Tell) -> None:
        with self._told_lock:
            self._told = tuple(other for other in self._told if other != hear)

    def configure(self, url: str, *, prepares: bool = True, name: str = OPTIONS["application_name"]) -> None:
        """Name the server, and ourselves to it; nothing connects yet."""
        configure_driver()
        self.prepares = prepares
        self.init(url, **OPTIONS | {"application_name": name})

    def _connect(self) -> Any:
        connection = opened(self.database, **self.connect_params)
        connection.autocommit = True
        return connection

    def _initialize_connection(self, conn: Any) -> None:
        # The timeouts are for single statements, which run without a transaction. A client that is gone ends its query
        # on the server. What is prepared is planned once, whatever the planner hopes to gain from the values. And pages
        # are on flash or in memory: PostgreSQL supposes a turning disk, where reading all would beat an index of words.
        try:
            conn.cursor().execute(
                f"set lock_timeout = '{LOCK_SECONDS}s'; set statement_timeout = '{STATEMENT_SECONDS}s';"
                "set client_connection_check_interval = '2s'; set plan_cache_mode = force_generic_plan;"
                "set random_page_cost = 1.1"
            )
        except BaseException:
            conn.close()
            raise
        note(conn)

    def execute_sql(self, sql: str, params: Sequence[object] | None = None) -> Any:
        if not thread.depth:
            raise RuntimeError("a query outside an operation")
        with measured(thread.operation):
            return super().execute_sql(sql, params)

    def execute_prepared(self, sql: str, params: Sequence[object]) -> Any:
        """Execute a text that never changes, planned once a connection: planning costs more than running."""
        if not self.prepares:
            return self.execute_sql(sql, params)
        execute = thread.prepared.get(sql)
        if execute is None:
            # Of the text: should a pooler hand this thread another's connection, the same name is the same statement.
            name = f"omniflo_{blake2b(sql.encode(), digest_size=12).hexdigest()}"
            numbers = itertools.count(1)
            self.execute_sql(f"prepare {name} as {re.sub('%s', lambda _: f'${next(numbers)}', sql)}")
            execute = thread.prepared[sql] = f"execute {name} ({', '.join(['%s'] * len(params))})"
        return self.execute_sql(execute, params)

    def begin(self, actor: Actor) -> None:  # type: ignore[override]
        """Begin, with server-side timeouts that end a statement just before the deadline ends the connection.

        The triggers of migrations/0024_change_log.up.sql record who it was that changed something, and by which call.
        """
        left = max(0.001, min(deadline.remaining(), 300.0))
        running = call.current()
        with measured("begin"):
            self._begin(actor, left, running)

    def _begin(self, actor: Actor, left: float, running: call.Call) -> None:
        super().execute_sql(
            "begin isolation level read committed;"
            f"set local lock_timeout = {int(1000 * min(left, LOCK_SECONDS))};"
            f"set local statement_timeout = {max(1, int(1000 * left))};"
            "set local omniflo.actor = %s; set local omniflo.api_key_id = %s;"
            "set local omniflo.method = %s; set local omniflo.request_id = %s; set local omniflo.message = %s",
            (actor.name, actor.api_key_id or "", running.method, running.request_id, running.message),
        )

    def commit(self) -> None:
        told = self._told
        tags, write = self._written() if told else ((), None)
        try:
            with measured("commit"):
                super().commit()
            call.current().write = write
        except Exception as error:
            if self.is_lost():
                raise CommitUnknownError from error
            raise
        finally:
            for hear in told if tags else ():
                hear(tags[1:])

    def _written(self) -> tuple[Sequence[str], Write]:
        """Return the tags of what the transaction has changed after an empty one, nothing where it has not; and its id.

        A transaction that has written nothing has the id of one that everybody sees.
        """
        ((written, epoch, id),) = self.execute_sql(
            "select current_setting(%s, true), epoch::text, coalesce(pg_current_xact_id_if_assigned()::text::bigint,"
            " pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1) from registry",
            [WRITTEN],
        ).fetchall()
        return (written or "").splitlines(), Write(epoch, id)

    def rollback(self) -> None:
        # A lost connection has been rolled back by the server.
        if not self.is_lost():
            super().rollback()

    def use(self, lent: Lent) -> None:
        """Give the thread a connection that is lent to it; without one yet, the next query opens it."""
        # The thread has been left as it was when it gave this one back.
        if lent.prepared is thread.prepared and lent.connection is self._state.conn:
            return
        thread.prepared = lent.prepared
        if lent.connection is None:
            self._state.reset()
        else:
            self._state.set_connection(lent.connection)

    def keep(self, lent: Lent) -> None:
        """Note the connection that the thread has by now, if any: others may borrow it."""
        lent.connection, lent.prepared = self._state.conn, thread.prepared

    def is_lost(self) -> bool:
        """Whether the thread's connection is gone or useless."""
        return self._state.conn is None or self._state.conn.closed != 0

    def current(self) -> object:
        """Return the thread's connection, to be told from others, or None."""
        return self._state.conn

    def was_lost(self) -> bool:
        """Whether the thread had a connection, and it is gone."""
        return self._state.conn is not None and self._state.conn.closed != 0

    def drop(self) -> None:
        """Close the thread's connection, whatever its state; the next query opens another."""
        connection = self._state.conn
        self._state.reset()
        thread.prepared = {}
        if connection is not None and not connection.closed:
            connection.close()


database = Database()
