-- compatible-from: 0025
-- As before, but for the array: where PostgreSQL takes the log for small, it looks for the oldest changes again for each
-- row that it joins them with, and each time finds others, so a batch had more than `most`.
create or replace function purge_changes(days integer, most integer) returns integer
language plpgsql security definer
as $$
declare
  until timestamptz := clock_timestamp() - make_interval(days => greatest(days, 1));
  deleted integer;
  newest timestamptz;
  gone text[] := array(
    select resource_id from (select * from changes where time < until order by time, seq limit most) oldest
    where action = 'delete' and kind in ('template', 'template_type')
      and not exists (select from templates where id = resource_id)
      and not exists (select from template_types where id = resource_id)
      -- What has come back meanwhile and was deleted again can come back once more.
      and not exists (
        select from changes later
        where later.resource_id = oldest.resource_id and later.kind = oldest.kind and later.time >= until
      )
  );
begin
  delete from template_revisions where ctid = any(array(
    select ctid from template_revisions where template_id = any(gone) limit most
  ));
  get diagnostics deleted = row_count;
  if deleted < most then
    delete from template_type_revisions where ctid = any(array(
      select ctid from template_type_revisions where template_type_id = any(gone) limit most
    ));
    get diagnostics deleted = row_count;
  end if;
  if deleted < most then
    delete from revision_texts where ctid = any(array(
      select ctid from revision_texts where owner_id = any(gone) limit most
    ));
    get diagnostics deleted = row_count;
  end if;
  if deleted = most then
    return deleted;
  end if;
  -- Feeds may still have to read what is younger.
  with old as (
    delete from changes where seq = any(array(
      select seq from changes where time < until order by time, seq limit most
      for update skip locked
    )) returning time
  )
  select count(*), max(time) into deleted, newest from old;
  update registry set begin_time = greatest(begin_time, newest) where deleted > 0;
  return deleted;
end
$$;

do $$
begin
  execute format('alter function purge_changes(integer, integer) set search_path = pg_catalog, %I, pg_temp', current_schema());
end
$$;
