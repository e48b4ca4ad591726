"""Assistants of ours that belong to no template: listed, remembered, and deleted if they are listed again."""

from collections.abc import Collection, Mapping

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction

MOST_DELETED = 20
MOST_SHARE = 0.01
"""At most so many, or so much of all that are ours, are deleted in a sweep; whichever is more."""


@read
def epoch(actor: Actor) -> str:
    """Return what the assistants of this registry have in their metadata."""
    ((found,),) = database.execute_sql("select epoch::text from registry").fetchall()
    return str(found)


@transaction
def note(actor: Actor, attempts: Mapping[str, str], old: Collection[str]) -> list[str]:
    """Take what was listed, and return what is to be deleted: what belonged to no template in the last sweep either.

    `attempts` has the attempts of all that are ours, by their ids; `old` are those of them that are old enough.
    """
    # Nobody adopts one meanwhile.
    database.execute_sql("select pg_advisory_xact_lock(hashtext('assistants'))")
    strays = database.execute_sql(
        """
        select l.assistant_id from unnest(%s::text[], %s::text[]) l (assistant_id, attempt_id)
        where l.assistant_id = any(%s) and not exists (
            select from assistants a where a.assistant_id = l.assistant_id
        ) and not exists (
            select from assistants a where a.assistant_id is null and a.attempt_id = l.attempt_id
        )
        order by l.assistant_id
        """,
        (list(attempts), list(attempts.values()), list(old)),
    ).fetchall()
    ids = [id for (id,) in strays]
    database.execute_sql("delete from assistant_strays where assistant_id <> all(%s)", (ids,))
    database.execute_sql(
        "insert into assistant_strays (assistant_id) select unnest(%s::text[])"
        " on conflict (assistant_id) do update set times = assistant_strays.times + 1",
        (ids,),
    )
    doomed = database.execute_sql(
        "update assistant_strays set is_doomed = true where assistant_id in ("
        "   select assistant_id from assistant_strays where times > 1 order by times desc, assistant_id limit %s"
        " ) returning assistant_id",
        (max(MOST_DELETED, int(MOST_SHARE * len(attempts))),),
    )
    return [id for (id,) in doomed.fetchall()]


@transaction
def forget(actor: Actor, assistant_id: str) -> None:
    """Forget what was deleted."""
    database.execute_sql("delete from assistant_strays where assistant_id = %s", (assistant_id,))
