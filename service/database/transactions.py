"""Operations as transactions or reads: tried again where that helps, and failures told as `errors`."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import peewee as pw
import psycopg2
import structlog
from psycopg2 import errorcodes

from service import constraints, deadline, errors
from service.actor import Actor
from service.database.handle import CommitUnknownError, database, thread
from service.database.slots import working
from service.happenings import happened

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3

_UNAVAILABLE_CLASSES = ("08", "53", "57", "28", "3D", "58")
"""SQLSTATE classes of a database that is away, full, shutting down, or that refuses us."""


_NOT_AS_IT_SHOULD_BE = {
    errorcodes.INSUFFICIENT_PRIVILEGE,
    errorcodes.UNDEFINED_TABLE,
    errorcodes.UNDEFINED_COLUMN,
    errorcodes.INVALID_SCHEMA_NAME,
}
"""The role may not do what the service does, or the schema is another one than the service's."""

_log = structlog.get_logger()


def transaction(operation: Callable[Concatenate[Actor, P], T]) -> Callable[Concatenate[Actor, P], T]:
    """Run an operation in a transaction of its own, in the name of its actor, or as a part of the one that is open.

    A deadlock or a serialization failure is tried again, and so is a connection that broke before COMMIT was sent:
    nothing was written then. What cannot be mended is raised as one of `errors`.
    """
    name = _name(operation)

    @functools.wraps(operation)
    def run(actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> T:
        outer, thread.operation = thread.operation, name
        try:
            if database.in_transaction():
                return operation(actor, *args, **kwargs)
            return _attempt(lambda: _commit(actor, lambda: operation(actor, *args, **kwargs)))
        finally:
            thread.operation = outer

    return run


def read(operation: Callable[P, T]) -> Callable[P, T]:
    """Run an operation of single reading statements, without a transaction unless one is open."""
    name = _name(operation)

    @functools.wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        outer, thread.operation = thread.operation, name
        try:
            if thread.depth:
                return operation(*args, **kwargs)
            return _attempt(lambda: operation(*args, **kwargs))
        finally:
            thread.operation = outer

    return run


def _name(operation: Callable[..., object]) -> str:
    """Return what the statements of an operation are called, such as `templates.get`."""
    return f"{operation.__module__.rpartition('.')[2]}.{operation.__name__.strip('_')}"


@contextmanager
def session() -> Iterator[Any]:
    """Yield a connection in autocommit for work outside operations, such as migrations, and close it afterwards."""
    database.drop()
    try:
        yield database.connection()
    except (pw.PeeweeException, psycopg2.Error) as error:
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


def _commit(actor: Actor, operation: Callable[[], T]) -> T:
    with database.transaction(actor):
        return operation()


def _attempt(operation: Callable[[], T]) -> T:
    if thread.has_lent:
        return _attempt_connected(operation)
    with working():
        return _attempt_connected(operation)


def _attempt_connected(operation: Callable[[], T]) -> T:
    thread.depth += 1
    try:
        for tries_left in range(TRIES - 1, -1, -1):
            if database.is_lost():
                database.drop()
            try:
                return operation()
            except errors.Aborted as conflict:
                if conflict.reason != "CONFLICT" or not tries_left or deadline.remaining() <= 0:
                    raise
                happened("retried", "conflict")
            except CommitUnknownError:
                raise errors.Unavailable(
                    "COMMIT_UNKNOWN", "the connection to the database broke while the write was being committed"
                ) from None
            except (pw.PeeweeException, psycopg2.Error) as error:
                failure, again = _translate(error)
                if failure is None:
                    raise
                if not (again and tries_left and deadline.remaining() > 0):
                    raise failure from error
                happened("retried", "conflict" if isinstance(failure, errors.Aborted) else "unavailable")
        raise AssertionError("unreachable")
    finally:
        thread.depth -= 1


def _translate(error: pw.PeeweeException | psycopg2.Error) -> tuple[errors.Error | None, bool]:
    """Return the error that a caller gets, None for a fault of ours, and whether to try again."""
    code = sqlstate(error) or ""
    if database.is_lost() or code.startswith(_UNAVAILABLE_CLASSES) or code == errorcodes.READ_ONLY_SQL_TRANSACTION:
        if code == errorcodes.QUERY_CANCELED:
            return errors.deadline_exceeded(), False
        # Lost: a new connection may well succeed. Refused, or away: it would fail as well.
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the database cannot be reached"), database.was_lost()
    if code in {errorcodes.INVALID_SQL_STATEMENT_NAME, errorcodes.DUPLICATE_PREPARED_STATEMENT}:
        database.prepares = False
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the database lost a prepared statement"), True
    if code == errorcodes.FEATURE_NOT_SUPPORTED and thread.prepared:
        # A migration changed the columns that a prepared statement returns.
        database.drop()
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the schema of the database has changed"), True
    if code in _NOT_AS_IT_SHOULD_BE:
        # Health asks at once what is missing. PostgreSQL's sentence names a table, and nothing of a row.
        database.is_doubted = True
        _log.error("database", sqlstate=code, error=_sentence(error))
        return errors.Unavailable("DATABASE_UNAVAILABLE", "the database does not let the service do its work"), False
    if code in {errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED}:
        return errors.Aborted("CONFLICT", "other calls kept changing the same rows; nothing was written"), True
    if code == errorcodes.LOCK_NOT_AVAILABLE:
        return errors.Aborted("CONFLICT", "other calls held the same rows for too long; nothing was written"), False
    return constraints.violated(_constraint(error)), False


def sqlstate(error: Exception) -> str | None:
    """Return PostgreSQL's code of an error, where it is one of PostgreSQL's."""
    return getattr(getattr(error, "orig", error), "pgcode", None)


def is_denied(error: errors.Error) -> bool:
    """Whether an operation failed for a right that the database's role lacks."""
    return isinstance(error.__cause__, Exception) and sqlstate(error.__cause__) == errorcodes.INSUFFICIENT_PRIVILEGE


def is_lock_timeout(error: Exception) -> bool:
    """Whether a statement waited for a lock for longer than `lock_timeout`."""
    return sqlstate(error) == errorcodes.LOCK_NOT_AVAILABLE


def _constraint(error: Exception) -> str | None:
    """Return the name of the constraint that was violated."""
    return getattr(getattr(getattr(error, "orig", error), "diag", None), "constraint_name", None)


def _sentence(error: Exception) -> str | None:
    """Return what PostgreSQL says that went wrong."""
    return getattr(getattr(getattr(error, "orig", error), "diag", None), "message_primary", None)
