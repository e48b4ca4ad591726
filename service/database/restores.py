"""The SQL around what pg_restore writes: with it, a database is afterwards as it was saved, or as it was before."""

import json
from collections.abc import Mapping, Sequence

from psycopg2 import extensions

from service.database.snapshots import CONTENT, PRINTED, SUM

DIFFERS = "is not as it was saved"
"""Said of a table that has other rows afterwards."""

_SCHEMA = "current_setting('omniflo.schema')"

_DROP = f"""
do $$
declare
  change text;
begin
  -- All are named before the first of them goes, and takes others with it.
  foreach change in array array({CONTENT.format(_SCHEMA)}) loop
    execute format('drop %s cascade', change);
  end loop;
end
$$;
"""

_BEGIN = """
set client_min_messages = warning;
begin;
set local lock_timeout = '30s';
"""

_MAKE_SCHEMA = f"""
do $$
begin
  -- Who may not create one need not, where there is one.
  if to_regnamespace(quote_ident({_SCHEMA})) is null then
    execute format('create schema %I', {_SCHEMA});
  end if;
end
$$;
"""

_CHECK = f"""
{PRINTED};
do $$
declare
  saved record;
  found_rows bigint;
  found_checksum text;
begin
  for saved in
    select * from json_to_recordset(current_setting('omniflo.tables')::json)
      as t (name text, rows bigint, checksum text)
  loop
    execute format('{SUM.replace("'", "''")}', {_SCHEMA}, saved.name) into found_rows, found_checksum;
    if (found_rows, found_checksum) is distinct from (saved.rows, saved.checksum) then
      raise exception 'the table % {DIFFERS}: it has % rows with the checksum %, and had % with %',
        saved.name, found_rows, found_checksum, saved.rows, saved.checksum;
    end if;
    -- Nothing is known of the rows otherwise until autovacuum comes.
    execute format('analyze %I.%I', {_SCHEMA}, saved.name);
  end loop;
end
$$;
"""

# Rights are restored with nothing, and everybody may execute a new function.
_CLOSE = f"""
do $$
declare
  definer regprocedure;
begin
  for definer in
    select oid from pg_proc where pronamespace = quote_ident({_SCHEMA})::regnamespace and prosecdef
  loop
    execute format('revoke execute on function %s from public', definer);
  end loop;
end
$$;
"""

_RENEW = f"""
select set_config('search_path', quote_ident({_SCHEMA}), true);
select renew_epoch();
do $$
begin
  if exists (select from registry where epoch = current_setting('omniflo.epoch')::uuid) then
    raise exception 'the log of changes still has the epoch of the backup';
  end if;
end
$$;
"""


def before(namespace: str, *, replaces: bool) -> str:
    """Return what opens the transaction, and if asked to, drops all that is in the schema."""
    return "".join([_BEGIN, _setting("schema", namespace), *([_DROP] if replaces else []), _MAKE_SCHEMA])


def after(epoch: str, tables: Mapping[str, tuple[int, str]], grants: Sequence[str]) -> str:
    """Return what ends it: it fails unless the tables are as they were saved, and makes another epoch."""
    rows = [{"name": name, "rows": rows, "checksum": checksum} for name, (rows, checksum) in tables.items()]
    settings = [_setting("tables", json.dumps(rows)), _setting("epoch", epoch)]
    return "".join([*settings, _CHECK, _CLOSE, _RENEW, *(f"{grant};\n" for grant in grants), "commit;\n"])


def _setting(name: str, value: str) -> str:
    quoted = extensions.adapt(value)
    quoted.encoding = "utf8"
    return f"select set_config('omniflo.{name}', {quoted.getquoted().decode()}, true);\n"
