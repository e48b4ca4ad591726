-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-column
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

do $$
begin
  execute format(
    'alter function record_change() set search_path = pg_catalog, %I, pg_temp', current_schema()
  );
end
$$;

drop trigger record_changes on templates;
drop trigger record_truncation on templates;
call record_changes('templates', 'template', '{scope,words,title,description,instructions}');

alter table templates
  drop column variables,
  drop column response_format,
  drop column verbosity,
  drop column max_output_tokens,
  drop column top_p,
  drop column tool_choice,
  drop column parallel_tool_calls,
  drop column disabled_tools,
  drop column tags;

drop function tag_paths(text []);
drop function variables_fit(jsonb, integer, integer, integer, integer);
drop function each_text_fits(text [], integer, text);
drop type verbosity;
