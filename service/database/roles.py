"""The roles of the embedded PostgreSQL: one owns the database and all in it, one serves, and neither is a superuser."""

from contextlib import closing

from service.database.connections import connect

SUPERUSER = "postgres"
OWNER = "omniflo"
SERVICE = "omniflo_service"

_OTHERS = "nspname !~ '^pg_' and nspname <> 'information_schema'"
_NOT_OF_AN_EXTENSION = "not exists (select from pg_depend where objid = {}.oid and deptype in ('e', 'a', 'i'))"
# Partitions depend on their table, and a table with partitions on its own columns.
_NO_TABLE_OF_AN_EXTENSION = "not exists (select from pg_depend where objid = r.oid and deptype = 'e')"

# Nobody's function or operator takes the place of one of the system's.
_PREPARE = f"""
set search_path = pg_catalog;
do $$
declare
  change text;
begin
  if not exists (select from pg_roles where rolname = '{OWNER}') then
    create role {OWNER} login;
  end if;
  if not exists (select from pg_roles where rolname = '{SERVICE}') then
    create role {SERVICE} login;
    -- Who owns the data may look at what the other one does, and end it.
    grant {SERVICE} to {OWNER};
  end if;
  alter database postgres owner to {OWNER};
  -- Backups are verified in a database of their own.
  if not (select rolcreatedb from pg_roles where rolname = '{OWNER}') then
    alter role {OWNER} createdb;
  end if;
  -- Earlier releases were the superuser, and so is the owner of what they made.
  for change in
    select format('table %s', r.oid::regclass)
    from pg_class r join pg_namespace n on n.oid = r.relnamespace
    where {_OTHERS} and relkind in ('r', 'p', 'v', 'm', 'f') and relowner = '{SUPERUSER}'::regrole
      and {_NO_TABLE_OF_AN_EXTENSION}
    union all
    select format('sequence %s', r.oid::regclass)
    from pg_class r join pg_namespace n on n.oid = r.relnamespace
    where {_OTHERS} and relkind = 'S' and relowner = '{SUPERUSER}'::regrole
      and {_NOT_OF_AN_EXTENSION.format("r")}
    union all
    select format('routine %s', p.oid::regprocedure)
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where {_OTHERS} and proowner = '{SUPERUSER}'::regrole and {_NOT_OF_AN_EXTENSION.format("p")}
    union all
    select format('type %s', t.oid::regtype)
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where {_OTHERS} and typtype in ('e', 'd') and typowner = '{SUPERUSER}'::regrole
      and {_NOT_OF_AN_EXTENSION.format("t")}
    union all
    select format('schema %I', nspname)
    from pg_namespace n
    where {_OTHERS} and nspowner = '{SUPERUSER}'::regrole and {_NOT_OF_AN_EXTENSION.format("n")}
  loop
    execute format('alter %s owner to {OWNER}', change);
  end loop;
end
$$
"""


def prepare(url: str) -> None:
    """Make the roles where there are none, and give the owner all that is in the database."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(_PREPARE)
