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
