-- compatible-from: 0025
-- Copies of templates at a server that speaks OpenAI's Assistants API: what each should be, and what is known of it.
create type assistant_state as enum ('none', 'pending', 'synced', 'failed');

-- A row outlives its template until its assistant is deleted, so no foreign key holds it.
create table assistants (
  template_id text collate "C" not null,
  -- The registry that the assistant was made by: a database that is restored leaves those of another one alone.
  epoch uuid not null,
  state assistant_state not null default 'none',
  -- Since when it is to be looked at whether it differs from its template. Null where nothing has changed.
  check_time timestamptz,
  -- The digest of what the assistant should say; empty where there should be none.
  desired text collate "C" not null default '',
  -- The digest of what it said when it was last written; empty where that is not known.
  observed text collate "C" not null default '',
  assistant_id text collate "C",
  -- Of the request that created it, which is in its metadata. Without an assistant_id, the request may have been sent.
  attempt_id text collate "C",
  attempt_time timestamptz,
  -- When something is to be done next. Null where nothing is.
  try_time timestamptz,
  -- Who does it, and until when nobody else may.
  holder text collate "C",
  hold_time timestamptz,
  -- How often it has been put off.
  tries bigint not null default 0,
  error_code text collate "C" not null default '',
  -- Since when it is pending, while it is.
  pending_time timestamptz,
  constraint assistants_pkey primary key (template_id)
);

create unique index assistants_by_assistant_id on assistants (assistant_id) where assistant_id is not null;
create index assistants_by_attempt_id on assistants (attempt_id) where assistant_id is null;
create index assistants_by_check_time on assistants (check_time) where check_time is not null;
create index assistants_by_try_time on assistants (try_time) where try_time is not null;
create index assistants_by_state on assistants (state, template_id);
create index assistants_by_pending_time on assistants (pending_time) where pending_time is not null;

-- How far changes have been followed, in one row, once somebody has.
create table assistant_copying (
  id boolean not null default true,
  is_on boolean not null default false,
  -- A token of service/positions.py. Null where every template is to be looked at.
  position text collate "C",
  constraint assistant_copying_pkey primary key (id)
);

-- What was listed of ours and belongs to no template.
create table assistant_strays (
  assistant_id text collate "C" not null,
  -- In how many sweeps, one after the other.
  times bigint not null default 1,
  is_doomed boolean not null default false,
  constraint assistant_strays_pkey primary key (assistant_id)
);

-- Since when a copy is pending; and caches and watches are told what callers see of it, as a change of the template.
create function note_assistant() returns trigger
language plpgsql
as $$
begin
  new.pending_time := case
    when new.state = 'pending' then
      case when tg_op = 'UPDATE' and old.state = 'pending' then old.pending_time else clock_timestamp() end
  end;
  return new;
end
$$;

create function tell_assistant() returns trigger
language plpgsql security definer
as $$
begin
  insert into changes (
    epoch, kind, resource_id, action, organization_id, user_id, template_type_id, tags,
    actor, api_key_id, method, request_id, before, after
  )
  select
    (select epoch from registry), 'template', t.id, 'update', t.organization_id, t.user_id, t.template_type_id,
    array['template:' || t.id],
    this_actor(),
    nullif(current_setting('omniflo.api_key_id', true), ''),
    coalesce(current_setting('omniflo.method', true), ''),
    coalesce(current_setting('omniflo.request_id', true), ''),
    jsonb_build_object('assistant_state', coalesce(old.state, 'none'), 'assistant_id', old.assistant_id),
    jsonb_build_object('assistant_state', coalesce(new.state, 'none'), 'assistant_id', new.assistant_id)
  from templates t where t.id = coalesce(new.template_id, old.template_id);
  perform set_config(
    'omniflo.written',
    coalesce(nullif(current_setting('omniflo.written', true), ''), e'\n')
    || 'template:' || coalesce(new.template_id, old.template_id) || e'\n',
    true
  );
  return null;
end
$$;

do $$
begin
  execute format('alter function tell_assistant() set search_path = pg_catalog, %I, pg_temp', current_schema());
  execute 'revoke execute on function tell_assistant() from public';
end
$$;

create trigger note_assistant before insert or update on assistants for each row execute function note_assistant();
create trigger tell_new_assistant after insert on assistants
for each row when (new.state <> 'none' or new.assistant_id is not null) execute function tell_assistant();
create trigger tell_assistant after update on assistants
for each row when ((old.state, old.assistant_id) is distinct from (new.state, new.assistant_id))
execute function tell_assistant();
create trigger tell_gone_assistant after delete on assistants
for each row when (old.state <> 'none' or old.assistant_id is not null) execute function tell_assistant();

-- What the last good run of each task did, one row a task.
create table job_reports (
  task_name text collate "C" not null,
  time timestamptz not null default clock_timestamp(),
  report jsonb not null,
  constraint job_reports_pkey primary key (task_name)
);

-- Makes users nobody in all usage who are gone without having been deleted, as forget_usage() does with those who are deleted;
-- returns how many, and that is no more than `most`.
create function remove_orphaned_usage(most integer) returns integer
language plpgsql security definer
as $$
declare
  total usage_totals;
  forgotten text [] := array(
    -- From one user to the next: each has many sums.
    with recursive summed (user_id) as (
      (select t.user_id from usage_totals t where t.level = 'user' order by t.user_id limit 1)
      union all
      select (
        select t.user_id from usage_totals t
        where t.level = 'user' and t.user_id > summed.user_id order by t.user_id limit 1
      )
      from summed where summed.user_id is not null
    )
    select used.user_id
    from (select s.user_id from summed s union select a.user_id from usage_arrivals a) used
    where used.user_id <> '' and not exists (select from users u where u.id = used.user_id)
    limit most
  );
begin
  update usage_arrivals set user_id = '' where user_id = any(forgotten);
  update usages set user_id = '' where user_id = any(forgotten) and user_id <> '';
  for total in
    delete from usage_totals where level = 'user' and user_id = any(forgotten) and user_id <> '' returning *
  loop
    total.user_id := '';
    perform add_usage_totals(array[total]);
  end loop;
  return cardinality(forgotten);
end
$$;

-- Deletes revisions of templates and types that are gone and of which the log has no deletion; returns how many, with their
-- texts, and that is no more than `most`.
create function remove_orphaned_revisions(most integer) returns integer
language plpgsql security definer
as $$
declare
  deleted integer;
  gone text [] := array(
    select r.id from (
      select template_id as id from template_revisions
      union select template_type_id from template_type_revisions
      union select owner_id from revision_texts
    ) r
    where not exists (select from templates t where t.id = r.id)
      and not exists (select from template_types t where t.id = r.id)
      -- What is deleted can be brought back, until the log forgets its deletion.
      and not exists (
        select from changes c
        where c.resource_id = r.id and c.kind in ('template', 'template_type') and c.action = 'delete'
      )
    limit most
  );
begin
  delete from template_revisions where ctid = any(array(
    select ctid from template_revisions where template_id = any(gone) limit most
  ));
  get diagnostics deleted = row_count;
  if deleted = 0 then
    delete from template_type_revisions where ctid = any(array(
      select ctid from template_type_revisions where template_type_id = any(gone) limit most
    ));
    get diagnostics deleted = row_count;
  end if;
  if deleted = 0 then
    delete from revision_texts where ctid = any(array(
      select ctid from revision_texts where owner_id = any(gone) limit most
    ));
    get diagnostics deleted = row_count;
  end if;
  return deleted;
end
$$;

do $$
declare
  definer regprocedure;
begin
  foreach definer in array array[
    'remove_orphaned_usage(integer)', 'remove_orphaned_revisions(integer)'
  ]::regprocedure[] loop
    execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', definer, current_schema());
    execute format('revoke execute on function %s from public', definer);
  end loop;
end
$$;
