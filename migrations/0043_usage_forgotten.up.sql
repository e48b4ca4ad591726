-- compatible-from: 0025
-- What a user leaves is deleted and forgotten in parts, for which nobody waits long.

-- As before, but that the texts of records are not read.
create or replace function record_change() returns trigger
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
        'instructions', case when old.instructions is distinct from new.instructions then '…' end,
        'variables', case when old.variables is distinct from new.variables then '…' end,
        'response_format', case when old.response_format is distinct from new.response_format then '…' end
      ));
      old.title := null; old.description := null; old.instructions := null; old.words := null;
      old.variables := null; old.response_format := null;
      new.title := null; new.description := null; new.instructions := null; new.words := null;
      new.variables := null; new.response_format := null;
    elsif kind = 'processing_record' then
      -- Nor are these, which may be a megabyte.
      old.results := null; old.output_text := null;
      new.results := null; new.output_text := null;
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

do $$
begin
  execute format(
    'alter function record_change() set search_path = pg_catalog, %I, pg_temp', current_schema()
  );
end
$$;

-- Makes a user nobody in some of its usage: in all that is not summed up yet, and in up to `most` usages and sums each. Returns
-- in how many of these, which is 0 at the end.
create function forget_usage_of(whose text, most integer) returns integer
language plpgsql
as $$
declare
  used integer;
  total usage_totals;
  more usage_totals [] := '{}';
begin
  update usage_arrivals set user_id = '' where user_id = whose and user_id <> '';
  update usages set user_id = '' where user_id = whose and user_id <> '' and time <= coalesce(
    (select time from usages where user_id = whose and user_id <> '' order by time offset most - 1 limit 1),
    'infinity'
  );
  get diagnostics used = row_count;
  for total in
    with gone as (
      delete from usage_totals where ctid = any(array(
        select ctid from usage_totals where level = 'user' and user_id = whose and user_id <> ''
        order by period, time limit most for update
      )) returning *
    )
    -- Two that run at once lock the same rows in the same order.
    select * from gone
    order by level, period, time, template_id, template_revision, template_type, model, user_id, organization_id
  loop
    total.user_id := '';
    more := array_append(more, total);
  end loop;
  perform add_usage_totals(more);
  return used + cardinality(more);
end
$$;

-- Whoever is deleted is nobody in all usage, however it is deleted.
create or replace function forget_usage() returns trigger
language plpgsql security definer
as $$
declare
  forgotten text [];
  one text;
begin
  if tg_op = 'TRUNCATE' then
    forgotten := array(
      select user_id from usages union select user_id from usage_arrivals union select user_id from usage_totals
    );
  else
    forgotten := array(select id from gone);
  end if;
  foreach one in array forgotten loop
    while forget_usage_of(one, 10000) > 0 loop end loop;
  end loop;
  return null;
end
$$;

-- Makes users nobody in all usage who are gone without having been deleted, as forget_usage() does with those who are deleted;
-- returns how many, and that is no more than `most`.
create or replace function remove_orphaned_usage(most integer) returns integer
language plpgsql security definer
as $$
declare
  one text;
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
  foreach one in array forgotten loop
    while forget_usage_of(one, 10000) > 0 loop end loop;
  end loop;
  return cardinality(forgotten);
end
$$;

do $$
declare
  definer regprocedure;
begin
  foreach definer in array array['forget_usage()', 'remove_orphaned_usage(integer)']::regprocedure[] loop
    execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', definer, current_schema());
  end loop;
end
$$;
