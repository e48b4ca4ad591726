"""What the cache hears of changes: from the log, and at once of what its own process commits."""

from collections.abc import Sequence

from service.cache import Cache
from service.database.changes import Change
from service.database.handle import database
from service.positions import Position


class Hearing:
    """A hearer of the feed. It is a part as well, since nobody has to wait for the feed to see its own write."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def start(self) -> None:
        database.tell(self._cache.change)

    def stop(self) -> None:
        database.tell_no_more(self._cache.change)

    def start_over(self, *, missed: bool) -> None:
        del missed
        self._cache.start_over()

    def change(self, changes: Sequence[Change]) -> None:
        self._cache.change({tag for change in changes for tag in change.tags})

    def confirm(self, moment: float, position: Position, safe: object) -> None:
        del safe
        self._cache.confirm(moment, position)

    def awaits_flush(self) -> bool:
        return False
