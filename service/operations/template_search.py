"""Templates by the words of their titles and descriptions, at a bounded price."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.deadline import remaining, time_limit

MAX_WORDS = 16
"""The most different words of a query."""
MAX_RARE = 5_000
"""The most templates with the words of a query for which they are found first and sorted afterwards."""
MAX_FEW = 5_000
"""The most templates that a caller may read for which each is looked at."""
SEARCH_SECONDS = 2.0
"""The longest that a search may take."""
MAX_RUNNING = 4
"""How many searches a process runs at the same time."""
MAX_OF_ONE = 2
"""How many of them, running or waiting, are one caller's."""
MAX_WAITING = 2
WAIT_SECONDS = 1.0
"""How many others wait for a place, and how long. They have connections, as those that run: together they leave some of
the default `OMNIFLO_THREADS` to other calls."""

_HAS_WORDS = "t.words @@ %s::tsquery"


class Way(Enum):
    """How the templates with the words of a query are found."""

    LOOK_AT_EACH = "look at each"
    """Among the few that the caller may read. What other organizations write costs nothing then."""
    FIND_AND_SORT = "find and sort"
    """All of them by the index of words; they are sorted afterwards."""
    WALK = "walk"
    """From the newest template on, until a page is full."""

    @property
    def condition(self) -> str:
        """The condition on the template `t` that it has the words."""
        # No index has the other form, and PostgreSQL expects it of every second template, however rare the words are.
        return _HAS_WORDS if self is Way.FIND_AND_SORT else f"case when {_HAS_WORDS} then true end"


_places = threading.Semaphore(MAX_RUNNING)
_callers: Counter[str] = Counter()
_lock = threading.Lock()


@contextmanager
def bounded(actor: Actor) -> Iterator[None]:
    """Run a search in the block, after a wait for a place; RESOURCE_EXHAUSTED OVERLOADED when none becomes free."""
    overloaded = errors.ResourceExhausted("OVERLOADED", "too many searches are running", retry_seconds=1.0)
    with _lock:
        # A caller that has its share never waits, so it cannot take the place that another waits for.
        if _callers.total() >= MAX_RUNNING + MAX_WAITING or _callers[actor.name] >= MAX_OF_ONE:
            raise overloaded
        _callers[actor.name] += 1
    try:
        if not _places.acquire(timeout=max(0.0, min(WAIT_SECONDS, remaining()))):
            raise overloaded
        try:
            with time_limit(SEARCH_SECONDS):
                yield
        finally:
            _places.release()
    finally:
        with _lock:
            _callers[actor.name] -= 1
            if not _callers[actor.name]:
                del _callers[actor.name]


def words_of(query: str) -> str:
    """Return the tsquery that wants every word as a prefix, and every run of what is written without spaces.

    The database makes them, as it does of templates. A single letter is a prefix only where it is the last word.
    FIELD_INVALID for too many words.
    """
    ((words, runs),) = database.execute_sql("select words, runs from template_terms(%s)", [query]).fetchall()
    words, runs = list(dict.fromkeys(words)), list(dict.fromkeys(runs))
    if len(words) + len(runs) > MAX_WORDS:
        raise errors.field_invalid(("query", f"must have at most {MAX_WORDS} different words"))
    wanted = [f"'{word}'" + ("" if len(word) == 1 and word != words[-1] else ":*") for word in words]
    return " & ".join([*wanted, *map(_phrase, runs)])


def way(words: str, scopes: str, parameters: Sequence[object]) -> Way:
    """Return the way that costs least for these words, among the templates of the scopes that a query returns.

    PostgreSQL takes any prefix for a common one and walks from the newest template to the oldest until a page is full.
    Where the words are common that is quick; where they are not, it reads the whole table.
    """
    few = f"select from ({scopes}) readable (scope) join templates t on t.scope = readable.scope limit {MAX_FEW + 1}"
    if _count(few, parameters) <= MAX_FEW:
        return Way.LOOK_AT_EACH
    rare = f"select from templates t where {_HAS_WORDS} limit {MAX_RARE + 1}"
    return Way.FIND_AND_SORT if _count(rare, [words]) <= MAX_RARE else Way.WALK


def _count(sql: str, parameters: Sequence[object]) -> int:
    ((found,),) = database.execute_sql(f"select count(*) from ({sql}) found", parameters).fetchall()
    return int(found)


def _phrase(run: str) -> str:
    """Return the tsquery that wants a run: all pairs of its characters, each after the one before."""
    pairs = [f"'{this}{next}'" for this, next in itertools.pairwise(run)]
    return f"({' <-> '.join(pairs)})" if pairs else f"'{run}':*"
