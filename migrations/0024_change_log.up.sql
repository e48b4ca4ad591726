-- compatible-from: 0013
-- What happened: each change of a resource is a row of `changes`. Triggers write it in the transaction of the change, so SQL
-- by hand is in it too.

-- Which database this is, in one row. Transaction ids are those of one cluster, and begin anew where a dump is restored:
-- the log then has another epoch.
create table registry (
  epoch uuid not null default gen_random_uuid(),
  system_identifier bigint not null,
  database_id oid not null,
  -- Of the table `changes`: a dump that is restored into the same database makes another one.
  log_id oid not null,
  -- The log has every change since.
  begin_time timestamptz not null default statement_timestamp(),
  constraint registry_pkey primary key (epoch)
);

create table changes (
  seq bigint not null generated always as identity,
  epoch uuid not null,
  transaction_id xid8 not null default pg_current_xact_id(),
  time timestamptz not null default clock_timestamp(),
  kind text collate "C" not null,
  -- `*` is all of the kind.
  resource_id text collate "C" not null,
  action text collate "C" not null,
  -- Null is the platform's.
  organization_id text collate "C",
  -- The user whom it is about, if it is about one.
  user_id text collate "C",
  template_type_id text collate "C",
  -- What processes may have cached of it is named by these, as service/tags.py does.
  tags text [] not null,
  actor text collate "C" not null,
  api_key_id text collate "C",
  method text collate "C" not null,
  request_id text collate "C" not null,
  -- The columns that differ; all of them of what is created or deleted.
  before jsonb,
  after jsonb,
  -- Rows of an earlier epoch, restored with what they tell, may have numbers of this one.
  constraint changes_pkey primary key (seq, epoch)
);

-- What a transaction has changed, and what became visible since somebody last read.
create index changes_by_transaction on changes (epoch, transaction_id);
-- Lists, newest first: all, and by each filter. Also the purge.
create index changes_by_time on changes (time, seq);
create index changes_by_kind on changes (kind, time, seq);
create index changes_by_resource on changes (resource_id, time, seq);
create index changes_by_organization on changes (organization_id, time, seq) where organization_id is not null;
create index changes_by_user on changes (user_id, time, seq) where user_id is not null;
create index changes_by_actor on changes (actor, time, seq);
create index changes_by_method on changes (method, time, seq);

-- Its arguments are the kind of resource, and the columns that are not recorded. Every write waits for it: a statement
-- less is a write a second more. It tells the transaction as well what it has changed: omniflo.written has the tags, one a
-- line, after an empty one.
create function record_change() returns trigger
language plpgsql security definer
as $$
declare
  kind text := tg_argv[0];
  before jsonb;
  after jsonb;
  resource jsonb := '{"id": "*"}';
  texts jsonb;
  tags text[] := '{}';
  written text;
begin
  if tg_op = 'TRUNCATE' then
    tags := '{*}';
  else
    if kind = 'template' then
      -- Which of its texts differ is recorded, and not what they say: as JSON they would cost more than all else.
      texts := jsonb_strip_nulls(jsonb_build_object(
        'title', case when old.title is distinct from new.title then '…' end,
        'description', case when old.description is distinct from new.description then '…' end,
        'instructions', case when old.instructions is distinct from new.instructions then '…' end
      ));
      old.title := null; old.description := null; old.instructions := null; old.words := null;
      new.title := null; new.description := null; new.instructions := null; new.words := null;
    end if;
    before := case when tg_op <> 'INSERT' then to_jsonb(old) - tg_argv[1]::text[] end;
    after := case when tg_op <> 'DELETE' then to_jsonb(new) - tg_argv[1]::text[] end;
    resource := coalesce(after, before);
    if kind = 'template' then
      after := after || texts;
      tags := array[
        'template:' || old.id,
        case when old.is_default then 'default:' || old.template_type_id end,
        nullif(
          case when new.is_default then 'default:' || new.template_type_id end,
          case when old.is_default then 'default:' || old.template_type_id end
        )
      ];
    elsif kind = 'template_tool' then
      tags := array['type:' || old.template_type_id, 'type:' || nullif(new.template_type_id, old.template_type_id)];
    elsif kind in ('selection', 'member') then
      tags := array['user:' || old.user_id, 'user:' || nullif(new.user_id, old.user_id)];
    elsif kind = 'template_type' then
      tags := array['type:' || old.id];
    elsif kind = 'model' then
      tags := array['model:' || old.id];
    elsif kind = 'user' then
      tags := array['user:' || old.id];
    end if;

    if tg_op = 'UPDATE' then
      select jsonb_object_agg(key, coalesce(before -> key, value)), jsonb_object_agg(key, value) into before, after
      from jsonb_each(after) where value is distinct from before -> key;
      if after is null then
        return null;
      end if;
    elsif tg_op = 'DELETE' then
      -- Nothing changes where something is deleted that had ended before: invitations and keys are purged.
      if least(before ->> 'revoke_time', before ->> 'expire_time')::timestamptz < clock_timestamp() then
        return null;
      end if;
      -- Nothing tells any more who a user was.
      if kind = 'user' then
        before := before - 'clerk_id';
        update changes c set before = c.before - 'clerk_id', after = c.after - 'clerk_id'
        where c.kind = 'user' and c.resource_id = old.id;
      end if;
    end if;
  end if;

  insert into changes (
    epoch, kind, resource_id, action, organization_id, user_id, template_type_id, tags,
    actor, api_key_id, method, request_id, before, after
  ) values (
    (select epoch from registry),
    kind,
    resource ->> 'id',
    case tg_op when 'INSERT' then 'create' when 'UPDATE' then 'update' else 'delete' end,
    case kind when 'organization' then resource ->> 'id' else resource ->> 'organization_id' end,
    case kind when 'user' then resource ->> 'id' else resource ->> 'user_id' end,
    case kind when 'template_type' then resource ->> 'id' else resource ->> 'template_type_id' end,
    array_remove(tags, null),
    coalesce(nullif(current_setting('omniflo.actor', true), ''), 'sql:' || session_user),
    nullif(current_setting('omniflo.api_key_id', true), ''),
    coalesce(current_setting('omniflo.method', true), ''),
    coalesce(current_setting('omniflo.request_id', true), ''),
    before,
    after
  );
  written := coalesce(nullif(current_setting('omniflo.written', true), ''), e'\n');
  written := set_config('omniflo.written', case
    when written like e'%*\n' then written
    -- Past some hundred, one that names everything costs everybody less.
    when length(written) > 8000 then written || e'*\n'
    else written || array_to_string(array_append(tags, ''), e'\n')
  end, true);
  return null;
end
$$;

-- The one place where a table of resources gets its triggers.
create procedure record_changes(resources regclass, kind text, without text [] default '{}')
language plpgsql
as $$
begin
  without := without || '{update_time}';
  execute format(
    'create trigger record_changes after insert or update or delete on %s'
    ' for each row execute function record_change(%L, %L)',
    resources, kind, without
  );
  execute format(
    'create trigger record_truncation after truncate on %s execute function record_change(%L)', resources, kind
  );
end
$$;

-- Makes another epoch where this is not the database that the log was written in, and returns whether it did.
create function renew_epoch() returns boolean
language plpgsql security definer
as $$
declare
  here record;
begin
  select system_identifier, 'changes'::regclass as log_id, d.oid as database_id
  into here
  from pg_control_system(), pg_database d where d.datname = current_database();
  if exists (
    select from registry r
    where (r.system_identifier, r.database_id, r.log_id) = (here.system_identifier, here.database_id, here.log_id)
  ) then
    return false;
  end if;
  -- Whoever has written commits before, and whoever writes from now on does so in the new one.
  lock table changes in share row exclusive mode;
  update registry r set
    epoch = gen_random_uuid(),
    system_identifier = here.system_identifier,
    database_id = here.database_id,
    log_id = here.log_id
  where (r.system_identifier, r.database_id, r.log_id) <> (here.system_identifier, here.database_id, here.log_id);
  return found;
end
$$;

-- Deletes up to `most` of the changes that are older than so many days, the oldest first, and returns how many.
create function purge_changes(days integer, most integer) returns integer
language plpgsql security definer
as $$
declare
  deleted integer;
  newest timestamptz;
begin
  -- Feeds may still have to read what is younger.
  with gone as (
    delete from changes where seq in (
      select seq from changes where time < clock_timestamp() - make_interval(days => greatest(days, 1))
      order by time, seq limit most
      for update skip locked
    ) returning time
  )
  select count(*), max(time) into deleted, newest from gone;
  update registry set begin_time = greatest(begin_time, newest) where deleted > 0;
  return deleted;
end
$$;

-- They do what their caller may not: nobody's table takes the place of one of these, and nobody calls them who is not told
-- to.
do $$
declare
  definer regprocedure;
begin
  foreach definer in array
    array['record_change()', 'renew_epoch()', 'purge_changes(integer, integer)']::regprocedure[]
  loop
    execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', definer, current_schema());
    execute format('revoke execute on function %s from public', definer);
  end loop;
end
$$;

-- Which transaction a retry repeats.
alter table idempotency_keys add column epoch uuid, add column transaction_id bigint;

insert into registry (system_identifier, database_id, log_id) values (0, 0, 0);
select renew_epoch();

-- Rows that are restored without their tables bring another one along.
create function keep_registry() returns trigger
language plpgsql
as $$
begin
  return null;
end
$$;
create trigger keep_registry before insert on registry for each row execute function keep_registry();

call record_changes('users', 'user');
call record_changes('template_types', 'template_type');
call record_changes('template_tools', 'template_tool');
call record_changes('openai_models', 'model');
call record_changes('templates', 'template', '{scope,words,title,description,instructions}');
call record_changes('user_template_selections', 'selection', '{scope}');
call record_changes('organizations', 'organization');
call record_changes('organization_members', 'member');
call record_changes('organization_invitations', 'invitation');
call record_changes('api_keys', 'api_key', '{digest,previous_digest,last_used_time}');
