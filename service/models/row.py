"""What all rows have in common: ids, times, versions, and how they are read and changed."""

import functools
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import peewee as pw
from cuid2 import Cuid
from playhouse.postgres_ext import ArrayField

from service import errors
from service.database.handle import database

new_id = Cuid().generate

L = TypeVar("L", bound=NamedTuple)

OVERHEAD_BYTES = 512
"""The most bytes that a message takes beside the texts of its row: times, numbers, and ids and names of other rows."""


class Text(pw.TextField):
    """Text that sorts and compares by bytes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(collation="C", **kwargs)


class Choice(pw.TextField):
    """One of the values of an enum type of the database, which `field_type` names."""


class Moment(pw.DateTimeField):
    """A moment in UTC, to the microsecond."""

    field_type = "TIMESTAMPTZ"


class Timestamp(Moment):
    """A moment that the database's clock sets."""

    def __init__(self) -> None:
        super().__init__(constraints=[pw.SQL("default statement_timestamp()")])


_SHORT = (
    pw.IntegerField,
    pw.FloatField,
    pw.BooleanField,
    pw.DateTimeField,
    pw.DateField,
    pw.DecimalField,
    pw.ForeignKeyField,
    pw.BlobField,
    Choice,
)
"""The kinds of columns whose values OVERHEAD_BYTES covers."""


class Row(pw.Model):
    """A row with an id and its times."""

    id = Text(primary_key=True)
    create_time = Timestamp()
    update_time = Timestamp()

    class Meta:
        database = database

    @classmethod
    @functools.cache
    def names(cls) -> tuple[str, ...]:
        """Return the names of the columns, in the order of `of`."""
        return tuple(field.column_name for field in cls._meta.sorted_fields)

    @classmethod
    @functools.cache
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the attributes, in the same order."""
        return tuple(field.name for field in cls._meta.sorted_fields)

    @classmethod
    def of(cls, values: Iterable[object]) -> Self:
        """Make a row of values in the order of `names`, as a query returned them."""
        row = cls(__no_default__=1)
        row.__data__.update(zip(cls.fields(), values, strict=True))
        return row

    @classmethod
    def columns(cls, alias: str) -> str:
        """Return the columns for a select list, each behind the alias of the table."""
        return ", ".join(f"{alias}.{column}" for column in cls.names())

    @classmethod
    def fetch(cls, tail: str, parameters: Sequence[object] = ()) -> list[Self]:
        """Return the rows of the table `t` that the tail of a select chooses.

        The text is fixed, so it costs a third of what a query costs that is built anew for each call.
        """
        sql = f"select {cls.columns('t')} from {cls._meta.table_name} t {tail}"
        return [cls.of(values) for values in database.execute_prepared(sql, parameters).fetchall()]

    @classmethod
    def fetch_one(cls, tail: str, parameters: Sequence[object] = ()) -> Self | None:
        """Return the first of the rows that `fetch` returns."""
        return next(iter(cls.fetch(tail, parameters)), None)

    @classmethod
    def fetch_by(cls, key: Mapping[str, str], *columns: str) -> Self | None:
        """Return the row that has the key: one of these unique columns, by its name, with its value."""
        column, value = key_column(key, *columns)
        return cls.fetch_one(f"where t.{column} = %s", [value])

    @classmethod
    @functools.cache
    def message_size(cls, alias: str, *without: str) -> str:
        """Return the expression for the size of a row in bytes, no smaller than its message without these columns.

        It counts each column that may be long, so a new one is counted as well.
        """
        texts = [
            _as_text(field, f"{alias}.{field.column_name}")
            for field in cls._meta.sorted_fields
            if not isinstance(field, _SHORT) and field.name not in without
        ]
        return " + ".join([*(f"coalesce(octet_length({text}), 0)" for text in texts), str(OVERHEAD_BYTES)])

    @classmethod
    def add(cls, **values: object) -> Self:
        """Insert a row with a new id, and return it as the database has it."""
        row: Self = cls.insert(id=new_id(), **values).returning(cls).execute()[0]
        return row

    @classmethod
    def lock(cls, *conditions: object, mode: Any = "FOR NO KEY UPDATE") -> list[Self]:
        """Lock the rows that meet the conditions, in the order of their ids, and return them."""
        rows = cls.select().where(*conditions) if conditions else cls.select()
        return list(rows.order_by(cls.id).for_update(mode))

    @classmethod
    def lock_one(cls, *conditions: object, mode: Any = "FOR NO KEY UPDATE") -> Self | None:
        """Lock the one row that meets the conditions and return it; None when there is none."""
        return next(iter(cls.lock(*conditions, mode=mode)), None)


class Versioned(Row):
    """A row that changes, and counts how often it did."""

    version = pw.BigIntegerField(constraints=[pw.SQL("default 1")])

    _generated: ClassVar[frozenset[str]] = frozenset({"scope"})
    """The columns that the database makes."""
    is_latest: bool = True
    """Whether it is as the row is now, and no earlier revision of it."""

    @property
    def etag(self) -> str:
        """The version; none of an earlier revision, so that an old text is not written back by mistake."""
        if not self.is_latest:
            return ""
        # With the id in it, a row that was deleted and created again has another etag.
        digest = blake2b(f"{self.id}:{self.version}".encode(), digest_size=9).digest()
        return urlsafe_b64encode(digest).decode()

    def require_etag(self, etag: str) -> None:
        """Raise Aborted, with the current etag, unless `etag` is empty or current."""
        if etag not in {"", self.etag}:
            raise errors.Aborted(
                "ETAG_MISMATCH", "the resource has changed since its etag was read", {"etag": self.etag}
            )

    def change(self, **values: object) -> Self:
        """Write what differs as a new version, and return the row. Where nothing differs, nothing is written."""
        values = {name: value for name, value in values.items() if self.__data__[name] != value}
        return self.touch(**values) if values else self

    @classmethod
    def bring_back(cls, values: Mapping[str, Any]) -> None:
        """Insert a row that was deleted, of its columns as JSON, as a new version.

        A column that the release lacked by which it was deleted has its default.
        """
        columns = ", ".join(name for name in cls.names() if name in values and name not in cls._generated)
        database.execute_sql(
            f"insert into {cls._meta.table_name} ({columns}) select {columns} from jsonb_populate_record("
            f"null::{cls._meta.table_name}, %s::jsonb || jsonb_build_object('update_time', clock_timestamp()))",
            [json.dumps({**values, "version": values["version"] + 1})],
        )

    def touch(self, **values: object) -> Self:
        """Write the values as a new version, and return the row."""
        cls = type(self)
        update = cls.update(version=cls.version + 1, update_time=_later(cls), **values).where(cls.id == self.id)
        row: Self = update.returning(cls).execute()[0]
        return row


def key_column(key: Mapping[str, str], *columns: str) -> tuple[str, str]:
    """Return the one column of the key and its value. The names of the columns are SQL's, whoever named the key."""
    ((name, value),) = key.items()
    return columns[columns.index(name)], value


def split(lead: type[L], values: Sequence[Any]) -> tuple[L, Sequence[Any]]:
    """Return the first columns of what a query has read by their names, and the rest."""
    size = len(lead._fields)
    return lead._make(values[:size]), values[size:]


def _as_text(field: pw.Field, column: str) -> str:
    """Return the expression for the text of a column, no shorter than the field of a message."""
    if isinstance(field, ArrayField):
        # An item of an array itself has a comma alone beside it, and less than in a message.
        return f"to_jsonb({column})::text"
    return column if isinstance(field, pw.TextField) else f"{column}::text"


def _later(row: type[Row]) -> pw.Function:
    """Return the expression for a new update_time, which never goes back."""
    return pw.fn.greatest(pw.fn.clock_timestamp(), row.update_time)
