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

create or replace function forget_usage() returns trigger
language plpgsql security definer
as $$
declare
  forgotten text [];
  total usage_totals;
begin
  if tg_op = 'TRUNCATE' then
    forgotten := array(
      select user_id from usages union select user_id from usage_arrivals union select user_id from usage_totals
    );
  else
    forgotten := array(select id from gone);
  end if;
  update usage_arrivals set user_id = '' where user_id = any(forgotten);
  update usages set user_id = '' where user_id = any(forgotten) and user_id <> '';
  for total in
    delete from usage_totals where level = 'user' and user_id = any(forgotten) and user_id <> '' returning *
  loop
    total.user_id := '';
    perform add_usage_totals(array[total]);
  end loop;
  return null;
end
$$;

create or replace function remove_orphaned_usage(most integer) returns integer
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

drop function forget_usage_of(text, integer);

do $$
declare
  definer regprocedure;
begin
  foreach definer in array array['forget_usage()', 'remove_orphaned_usage(integer)']::regprocedure[] loop
    execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', definer, current_schema());
  end loop;
end
$$;
