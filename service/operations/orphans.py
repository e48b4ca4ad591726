"""Rows whose parents are gone, which foreign keys and triggers prevent: found and removed, by a rule for each table."""

from collections.abc import Sequence
from typing import NamedTuple

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.operations.idempotency import DELETED

BATCH = 1_000
USERS = 10
"""Whose usage is looked through at a time."""


class Rule(NamedTuple):
    name: str
    """The foreign key that should have kept such rows away, or what is removed."""
    sql: str
    """Removes up to so many, and returns how many."""
    batch: int = BATCH


_FOREIGN_KEYS = """
    select conname::text, conrelid::regclass::text, confrelid::regclass::text,
      (select string_agg('c.' || quote_ident(attname), ', ' order by place)
        from unnest(conkey) with ordinality as key (number, place)
        join pg_attribute on attrelid = conrelid and attnum = number),
      (select string_agg('p.' || quote_ident(attname), ', ' order by place)
        from unnest(confkey) with ordinality as key (number, place)
        join pg_attribute on attrelid = confrelid and attnum = number)
    from pg_constraint
    where contype = 'f' and connamespace = current_schema()::regnamespace
      -- The engine's own.
      and conrelid::regclass::text not like 'procrastinate%%'
    order by conname
"""

_REMOVE = """
    with removed as (
        delete from {table} where ctid = any(array(
            select c.ctid from {table} c
            where ({columns}) is not null and not exists (select from {parent} p where ({keys}) = ({columns}))
            limit %s for update of c skip locked
        ))
        returning *
    ){left}
    select count(*) from removed
"""

_LEFT = {
    "processing_records": """,
    files as (
        insert into openai_leftovers (kind, id)
        select 'file'::openai_leftover_kind, openai_file_id from removed where owns_file and openai_file_id <> ''
        union
        select 'response', response_id from removed
        where response_id <> '' and runner = 'registry' and status = 'processing'
        on conflict do nothing
    )"""
}
"""What the rows of a table leave elsewhere, which is to go as well."""

_OTHERS = (
    Rule(
        "request_ids_of_users",
        # Those of users whom a call has deleted still count, until they are purged.
        f"""
        with removed as (
            delete from idempotency_keys where ctid = any(array(
                select k.ctid from idempotency_keys k
                cross join lateral substring(k.caller from '^(?:service:.* for )?user:(.+)$') as caller (user_id)
                where caller.user_id is not null and not exists (select from users u where u.id = caller.user_id)
                  and not exists (
                      select from idempotency_keys d
                      where starts_with(d.caller, '{DELETED}') and d.method = caller.user_id
                  )
                limit %s for update of k skip locked
            ))
            returning 1
        )
        select count(*) from removed
        """,
    ),
    Rule("users_of_usage", "select remove_orphaned_usage(%s)", USERS),
    Rule("revisions", "select remove_orphaned_revisions(%s)"),
    Rule(
        "assistants",
        # A worker deletes them at their server.
        """
        with found as (
            update assistants set check_time = clock_timestamp() where template_id = any(array(
                select template_id from assistants a
                where check_time is null and try_time is null
                  and not exists (select from templates t where t.id = a.template_id)
                  and exists (select from assistant_copying where is_on)
                limit %s for update skip locked
            ))
            returning 1
        )
        select count(*) from found
        """,
    ),
)


@read
def rules(actor: Actor) -> Sequence[Rule]:
    """Return the rules of all tables, as the database has them."""
    keys = database.execute_sql(_FOREIGN_KEYS).fetchall()
    return [
        *(
            Rule(
                name,
                _REMOVE.format(table=table, parent=parent, columns=columns, keys=names, left=_LEFT.get(table, "")),
            )
            for name, table, parent, columns, names in keys
        ),
        *_OTHERS,
    ]


@transaction
def remove(actor: Actor, rule: Rule) -> int:
    """Remove up to a batch of rows that have no parent; return how many."""
    ((count,),) = database.execute_sql(rule.sql, (rule.batch,)).fetchall()
    return int(count)
