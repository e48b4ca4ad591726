"""What the service does for itself: checks the database, and deletes what is over."""

from collections.abc import Sequence
from typing import Any

from service.actor import Actor
from service.database import grants, migrate
from service.database.handle import database
from service.database.migrate import Migration
from service.database.transactions import read, transaction
from service.openai_files import KEPT_SECONDS

KEEP_HOURS = 24
KEEP_KEY_DAYS = 30
BATCH = 1000


@read
def ping(actor: Actor) -> None:
    """Run the smallest query there is."""
    database.execute_sql("select 1").fetchone()


@read
def obstacles(actor: Actor, migrations: Sequence[Migration]) -> dict[str, Any]:
    """Return what keeps calls from working with the database, for the log: nothing when they can.

    That is a schema with which a release with these migrations cannot work (`schema`), or what the database's role
    lacks (`missing`): tables and functions that it does not see, and rights on those that it does. `help` is what to
    do.
    """
    found = database.execute_sql(grants.MISSING, grants.wanted_by()).fetchall()
    missing = sorted(right for (right,) in found)
    if "SELECT on schema_migrations" not in missing:
        schema = migrate.obstacle(migrations)
        if schema is not None:
            return {"schema": schema}
    return {"missing": missing, "help": grants.HELP} if missing else {}


@read
def max_connections(actor: Actor) -> int:
    """Return how many connections the server has for us at most, whoever has them now."""
    ((most,),) = database.execute_sql(
        """
        select max(setting::int) filter (where name = 'max_connections')
          - coalesce(sum(setting::int) filter (where name like '%%reserved_connections'), 0)
        from pg_settings
        """
    ).fetchall()
    return int(most)


@transaction
def purge_invitations(actor: Actor) -> int:
    """Delete up to 1,000 invitations that have expired; return how many."""
    deleted = database.execute_sql(
        """
        delete from organization_invitations where id = any(array(
            select id from organization_invitations where expire_time < clock_timestamp()
            order by expire_time limit %s
            for update skip locked
        ))
        """,
        (BATCH,),
    )
    return int(deleted.rowcount)


@transaction
def purge_keys(actor: Actor) -> int:
    """Delete up to 1,000 API keys that ended 30 days ago, with those made with them; return how many."""
    deleted = database.execute_sql(
        """
        delete from api_keys where id = any(array(
            select id from api_keys
            where least(revoke_time, expire_time) < clock_timestamp() - make_interval(days => %s)
            order by least(revoke_time, expire_time) limit %s
            for update skip locked
        ))
        """,
        (KEEP_KEY_DAYS, BATCH),
    )
    return int(deleted.rowcount)


@transaction
def purge_batch(actor: Actor) -> int:
    """Delete up to 1,000 request ids that are older than 24 hours by the database's clock; return how many."""
    deleted = database.execute_sql(
        """
        delete from idempotency_keys where ctid = any(array(
            select ctid from idempotency_keys
            where create_time < clock_timestamp() - make_interval(hours => %s)
            order by create_time limit %s
            for update skip locked
        ))
        """,
        (KEEP_HOURS, BATCH),
    )
    return int(deleted.rowcount)


@transaction
def purge_processing_records(actor: Actor, days: int) -> int:
    """Delete up to 1,000 records that are older than so many days, and have their files deleted; return how many."""
    ((deleted,),) = database.execute_sql(
        """
        with deleted as (
            delete from processing_records where id = any(array(
                select id from processing_records where create_time < clock_timestamp() - make_interval(days => %s)
                order by create_time limit %s
                for update skip locked
            ))
            returning openai_file_id, owns_file, create_time
        ),
        files as (
            insert into openai_leftovers (kind, id)
            select distinct 'file'::openai_leftover_kind, openai_file_id from deleted
            -- OpenAI has deleted older ones by itself.
            where owns_file and openai_file_id <> '' and create_time > clock_timestamp() - make_interval(secs => %s)
            on conflict do nothing
        )
        select count(*) from deleted
        """,
        (days, BATCH, KEPT_SECONDS),
    ).fetchall()
    return int(deleted)


@transaction
def purge_changes(actor: Actor, days: int) -> int:
    """Delete up to 1,000 changes that are older than so many days, but none of the last day; return how many."""
    ((deleted,),) = database.execute_sql("select purge_changes(%s, %s)", (days, BATCH)).fetchall()
    return int(deleted)
