"""Templates by their tags and the words of their titles and descriptions, at a bounded price."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.deadline import remaining, time_limit

MAX_WORDS = 16
"""The most different words of a query."""
MAX_RARE = 5_000
"""The most templates with the words and tags of a search for which they are found first and sorted afterwards."""
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

IN_PART = "t.scope || '' = part.scope"
"""That a template is in `part.scope`, in a form that no index has."""

Condition = tuple[str, object]
"""A condition and its parameter."""

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


def conditions(query: str, tags: Sequence[str]) -> tuple[list[Condition], list[Condition]]:
    """Return conditions on a template `t` of `part.scope` that it has all words and tags, twice: to find and to look.

    The first are found by indexes in which words and tags are kept together with their scope: what other organizations
    write costs nothing then, and how long a search takes tells nothing of it.
    """
    find, look = list[Condition](), list[Condition]()
    if query:
        # Of this transaction. PostgreSQL makes the words of rows anew where a bitmap of those with a common word has no
        # room; this is for 200,000 blocks.
        database.execute_sql("set local work_mem = '16MB'")
        words, has_words = words_of(query), "t.words @@ %s::tsquery"
        find.append(("scoped_words(t.scope, t.words) @@ scoped_query(part.scope, %s::tsquery)", words))
        if "<->" in words:
            # The index has no places, so it finds more than there is of a phrase.
            find.append((has_words, words))
        look.append((has_words, words))
    if tags:
        paths = "tag_paths(t.tags)"
        find.append((f"scoped_terms(t.scope, {paths}) @> scoped_terms(part.scope, %s::text[])", list(tags)))
        look.append((f"{paths} @> %s::text[]", list(tags)))
    return find, unindexed(look)


def unindexed(conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions in a form that no index has, and that PostgreSQL expects to be met by every second row."""
    return [(f"case when {condition} then true end", value) for condition, value in conditions]


def are_rare(find: Sequence[Condition], scopes: str, parameters: Sequence[object]) -> bool:
    """Whether templates that meet conditions `to find` are few, in the scopes that a query returns.

    PostgreSQL takes any prefix for a common one and walks from the newest template to the oldest until a page is full.
    Where the words are common that is quick; where they are not, it reads all templates of the scopes.
    """
    most = MAX_RARE + 1
    wanted = " and ".join([IN_PART, *(condition for condition, _ in find)])
    of_part = f"select from templates t where {wanted} limit {most}"
    ((found,),) = database.execute_sql(
        f"""
        select count(*)
        from (select from ({scopes}) part (scope) cross join lateral ({of_part}) of_part limit {most}) found
        """,
        [*parameters, *(value for _, value in find)],
    ).fetchall()
    return bool(found <= MAX_RARE)


def _phrase(run: str) -> str:
    """Return the tsquery that wants a run: all pairs of its characters, each after the one before."""
    pairs = [f"'{this}{next}'" for this, next in itertools.pairwise(run)]
    return f"({' <-> '.join(pairs)})" if pairs else f"'{run}':*"
