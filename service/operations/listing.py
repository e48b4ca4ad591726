"""Pages of rows: by keyset, and never larger than a client with default limits can read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.database.handle import database

T = TypeVar("T")

MAX_BYTES = 3 * 1024 * 1024
"""The most that the messages of one response may take; gRPC clients reject 4 MiB by default."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Page(Generic[T]):
    rows: list[T]
    next: Key | None
    """The key of the last row, where rows follow it."""


@dataclass(frozen=True)
class Source(Generic[T]):
    """How the rows of one list are found, measured, read and sorted."""

    keys: str
    """The tables in which rows are filtered and sorted."""
    id: str
    """The id of a row there."""
    order: tuple[str, ...]
    """The sort key there: unique together, and indexed."""
    message_size: str
    """The size of a row there in bytes, no smaller than its message."""
    rows: str
    """The tables that a row is read from; `page.id` is its id."""
    select: str
    """What is read there."""
    of: Callable[[Sequence[Any]], T]
    """Makes a row of what was read."""
    key: Callable[[T], Key]
    """Returns the values of `order` for a row."""
    descending: bool = False

    def page(
        self,
        *,
        after: Key | None,
        size: int,
        where: Sequence[str] = (),
        parameters: Sequence[object] = (),
        parts: str = "select",
        part_parameters: Sequence[object] = (),
    ) -> Page[T]:
        """Return the first `size` rows that come after the key, or fewer when they would be too large together.

        The rows are looked for in each row of the query `parts` by itself, whose columns the conditions may name: each
        part is then found by an index, however much there is beside them.
        """
        conditions = list(where)
        values = [*part_parameters, *parameters]
        if after is not None:
            # A comparison of rows; spelled out with OR it does not use the index.
            conditions.append(f"({', '.join(self.order)}) {'<' if self.descending else '>'} %s")
            values.append(after)
        direction = "desc" if self.descending else "asc"
        order = ", ".join(f"k{number} {direction}" for number, _ in enumerate(self.order))
        named = ", ".join(f"{expression} as k{number}" for number, expression in enumerate(self.order))
        sql = f"""
            select page.is_last, {self.select}
            from (
                select *,
                  sum(message_size) over (order by {order}) as total,
                  lead(id) over (order by {order}) is null as is_last
                from (
                    select candidate.*
                    from ({parts}) part cross join lateral (
                        select {self.id} as id, {named}, {self.message_size} as message_size
                        from {self.keys}
                        {"where " + " and ".join(conditions) if conditions else ""}
                        order by {order}
                        limit %s
                    ) candidate
                    order by {order}
                    limit %s
                ) found
            ) page
            join {self.rows}
            where page.total <= %s or page.total = page.message_size
            order by {order}
            limit %s
        """
        found = database.execute_sql(sql, [*values, size + 1, size + 1, MAX_BYTES, size]).fetchall()
        rows = [self.of(columns[1:]) for columns in found]
        return Page(rows, self.key(rows[-1]) if found and not found[-1][0] else None)
