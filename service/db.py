"""The database handle: connections, transactions, how long they may take, and what a lost one means."""

import contextlib
import functools
import itertools
import re
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, ParamSpec, TypeVar

import peewee as pw
import psycopg2
from psycopg2 import errorcodes, extensions

from service import errors

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_SECONDS = 5.0
LOCK_SECONDS = 5.0
GRACE_SECONDS = 0.1
"""How much later than the deadline the connection is cut. A transaction's own timeouts, which spare the connection,
come first, at least for its first statement."""
STATEMENT_SECONDS = 300
"""The longest that any call may have: what ends a read on the server when its client has gone."""
TRIES = 3

_UNAVAILABLE_CLASSES = ("08", "53", "57", "28", "3D", "58")
"""SQLSTATE classes of a database that is away, full, shutting down, or that refuses us."""


class Call(threading.local):
    """What the thread is doing: whether an operation is open, and until when it may go on."""

    depth = 0
    deadline: float | None = None
    """On the clock of `time.monotonic`; None outside `time_limit`."""

    def __init__(self) -> None:
        self.prepared: dict[str, str] = {}
        """How the statements that the thread's connection has prepared are executed, by their text."""

    def remaining(self) -> float:
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()


call = Call()


class time_limit:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Bound everything that this thread does with the database in the block."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def __enter__(self) -> None:
        self._outer = call.deadline
        call.deadline = self._deadline if self._outer is None else min(self._deadline, self._outer)

    def __exit__(self, *_: object) -> None:
        call.deadline = self._outer


def _wait(connection: Any) -> None:
    """Wait for the server, but never past the deadline of the call.

    psycopg2 calls this wherever libpq would block, also while it connects. An exception makes psycopg2 close the
    connection, so a database that hangs costs a call its deadline and nothing more.
    """
    give_up = time.monotonic() + CONNECT_SECONDS if connection.status == extensions.STATUS_SETUP else float("inf")
    while (state := connection.poll()) != extensions.POLL_OK:
        left = min(call.remaining() + GRACE_SECONDS, give_up - time.monotonic())
        if left <= 0:
            raise (
                errors.deadline_exceeded() if call.remaining() <= 0 else psycopg2.OperationalError("connect timed out")
            )
        # A new one each time: libpq opens another socket when it tries another address of the host.
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poller.poll(None if left == float("inf") else int(left * 1000) + 1)


def connect(url: str) -> Any:
    """Answer a connection in autocommit that belongs to no operation; waits for it are bounded as for all."""
    extensions.set_wait_callback(_wait)
    connection = psycopg2.connect(url, **_OPTIONS)
    connection.autocommit = True
    return connection


def readable(connection: Any, seconds: float) -> bool:
    """Wait for something to come on a connection that has nothing to do."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(max(0, int(seconds * 1000)) + 1))


_OPTIONS: dict[str, Any] = {
    "application_name": "omniflo-templates",
    "client_encoding": "UTF8",
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


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
        self.on_change: list[Callable[[Sequence[str]], None]] = []
        """Whom to tell what a transaction has changed, when it has been committed and before anybody is answered."""

    def configure(self, url: str, *, prepares: bool = True) -> None:
        """Name the server; nothing connects yet."""
        extensions.set_wait_callback(_wait)
        self.prepares = prepares
        # Peewee takes the other spelling for the name of a database.
        self.init(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url, **_OPTIONS)

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

    def execute_sql(self, sql: str, params: Sequence[object] | None = None) -> Any:
        if not call.depth:
            raise RuntimeError("a query outside an operation")
        return super().execute_sql(sql, params)

    def execute_prepared(self, sql: str, params: Sequence[object]) -> Any:
        """Execute a text that never changes, planned once a connection: planning costs more than running."""
        if not self.prepares:
            return self.execute_sql(sql, params)
        execute = call.prepared.get(sql)
        if execute is None:
            # Of the text: should a pooler hand this thread another's connection, the same name is the same statement.
            name = f"omniflo_{blake2b(sql.encode(), digest_size=12).hexdigest()}"
            numbers = itertools.count(1)
            self.execute_sql(f"prepare {name} as {re.sub('%s', lambda _: f'${next(numbers)}', sql)}")
            execute = call.prepared[sql] = f"execute {name} ({', '.join(['%s'] * len(params))})"
        return self.execute_sql(execute, params)

    def begin(self, isolation_level: object = None) -> None:
        """Begin, with server-side timeouts that end a statement just before the deadline ends the connection."""
        del isolation_level
        left = max(0.001, min(call.remaining(), 300.0))
        super().execute_sql(
            "begin isolation level read committed;"
            f"set local lock_timeout = {int(1000 * min(left, LOCK_SECONDS))};"
            f"set local statement_timeout = {max(1, int(1000 * left))}"
        )

    def commit(self) -> None:
        changes = self._changes() if self.on_change else ()
        try:
            super().commit()
        except Exception as error:
            if self.is_lost():
                raise CommitUnknownError from error
            raise
        finally:
            for tell in self.on_change if changes else ():
                tell(changes)

    def _changes(self) -> list[str]:
        """Answer what the transaction has changed, as the triggers of migrations/0012_changes.up.sql name it."""
        ((noted,),) = self.execute_sql("select current_setting('omniflo.changed', true)").fetchall()
        return (noted or "").splitlines()

    def rollback(self) -> None:
        # A lost connection has been rolled back by the server.
        if not self.is_lost():
            super().rollback()

    def is_lost(self) -> bool:
        """Whether the thread's connection is gone or useless."""
        return self._state.conn is None or self._state.conn.closed != 0

    def was_lost(self) -> bool:
        """Whether the thread had a connection, and it is gone."""
        return self._state.conn is not None and self._state.conn.closed != 0

    def drop(self) -> None:
        """Close the thread's connection, whatever its state; the next query opens another."""
        connection = self._state.conn
        self._state.reset()
        call.prepared = {}
        if connection is not None and not connection.closed:
            connection.close()


database = Database()


def transaction(operation: Callable[P, T]) -> Callable[P, T]:
    """Run an operation in a transaction of its own, or as a part of the one that is open.

    A deadlock or a serialization failure is tried again, and so is a connection that broke before COMMIT was sent:
    nothing was written then. What cannot be mended is raised as one of `errors`.
    """

    @functools.wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if database.in_transaction():
            return operation(*args, **kwargs)
        return _attempt(lambda: _commit(lambda: operation(*args, **kwargs)))

    return run


def read(operation: Callable[P, T]) -> Callable[P, T]:
    """Run an operation of single reading statements, without a transaction unless one is open."""

    @functools.wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if call.depth:
            return operation(*args, **kwargs)
        return _attempt(lambda: operation(*args, **kwargs))

    return run


@contextmanager
def session() -> Iterator[Any]:
    """Answer a connection in autocommit for what is no operation, such as migrations, and close it afterwards."""
    database.drop()
    try:
        yield database.connection()
    except (pw.PeeweeException, psycopg2.OperationalError) as error:
        raise _translate(error)[0] or error from error
    finally:
        database.drop()


@contextmanager
def refused_by(constraint: str, error: Callable[[], errors.Error]) -> Iterator[None]:
    """Raise `error()` when the block violates the constraint, with the transaction as it was before the block."""
    try:
        with database.atomic():
            yield
    except pw.IntegrityError as violation:
        if _constraint(violation) != constraint:
            raise
        raise error() from None


def _commit(operation: Callable[[], T]) -> T:
    with database.transaction():
        return operation()


def _attempt(operation: Callable[[], T]) -> T:
    call.depth += 1
    try:
        for tries_left in range(TRIES - 1, -1, -1):
            if database.is_lost():
                database.drop()
            try:
                return operation()
            except errors.Aborted as conflict:
                if conflict.reason != "CONFLICT" or not tries_left or call.remaining() <= 0:
                    raise
            except CommitUnknownError:
                raise errors.Unavailable(
                    "COMMIT_UNKNOWN", "the connection to the database broke while the write was being committed"
                ) from None
            except (pw.PeeweeException, psycopg2.Error) as error:
                failure, again = _translate(error)
                if failure is None:
                    raise
                if not (again and tries_left and call.remaining() > 0):
                    raise failure from error
        raise AssertionError("unreachable")
    finally:
        call.depth -= 1


def _translate(error: pw.PeeweeException | psycopg2.Error) -> tuple[errors.Error | None, bool]:
    """Answer what a failure means to a caller, or None when it is a fault of ours, and whether to try again."""
    code = sqlstate(error) or ""
    if database.is_lost() or code.startswith(_UNAVAILABLE_CLASSES) or code == errorcodes.READ_ONLY_SQL_TRANSACTION:
        if code == errorcodes.QUERY_CANCELED:
            return errors.deadline_exceeded(), False
        # Lost: a new connection may well succeed. Refused, or away: it would fail as well.
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the database cannot be reached"), database.was_lost()
    if code in {errorcodes.INVALID_SQL_STATEMENT_NAME, errorcodes.DUPLICATE_PREPARED_STATEMENT}:
        database.prepares = False
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the database lost a prepared statement"), True
    if code == errorcodes.FEATURE_NOT_SUPPORTED and call.prepared:
        # A migration changed what a prepared statement answers.
        database.drop()
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the schema of the database has changed"), True
    if code in {errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED}:
        return errors.Aborted("CONFLICT", "other calls kept changing the same rows; nothing was written"), True
    if code == errorcodes.LOCK_NOT_AVAILABLE:
        return errors.Aborted("CONFLICT", "other calls held the same rows for too long; nothing was written"), False
    return errors.violated(_constraint(error)), False


def sqlstate(error: Exception) -> str | None:
    """Answer PostgreSQL's code of an error, where it is one of PostgreSQL's."""
    return getattr(getattr(error, "orig", error), "pgcode", None)


def _constraint(error: Exception) -> str | None:
    """Answer the name of the constraint that was violated."""
    return getattr(getattr(getattr(error, "orig", error), "diag", None), "constraint_name", None)
