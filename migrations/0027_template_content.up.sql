-- compatible-from: 0025
-- What a template says beside its instructions. The constraints are validated by the next file.
create type verbosity as enum ('low', 'medium', 'high');

-- Whether each text is at most so long, and matches.
create function each_text_fits(texts text [], longest integer, pattern text) returns boolean
language sql immutable parallel safe
return coalesce(array_ndims(texts), 1) = 1 and not exists (
  select from unnest(texts) as item (value)
  where item.value is null or char_length(item.value) > longest or item.value !~ pattern
);

-- Whether it is an array of at most so many variables, each with another name.
create function variables_fit(
  variables jsonb, most integer, longest_name integer, longest_description integer, longest_default integer
) returns boolean
language sql immutable parallel safe
return case when jsonb_typeof(variables) = 'array' then jsonb_array_length(variables) <= most and (
  select
    count(*) = count(distinct variable ->> 'name')
    and coalesce(bool_and(coalesce(
      (variable ->> 'name') ~ '^[a-z][a-z0-9_]*$'
      and char_length(variable ->> 'name') <= longest_name
      and char_length(variable ->> 'description') <= longest_description
      and char_length(variable ->> 'default_value') <= longest_default
      and jsonb_typeof(variable -> 'required') = 'boolean'
      and (variable ->> 'required' = 'false' or variable ->> 'default_value' = '')
      -- Nothing else, and texts for texts.
      and variable = jsonb_build_object(
        'name', variable ->> 'name', 'description', variable ->> 'description',
        'required', variable -> 'required', 'default_value', variable ->> 'default_value'
      ),
      false
    )), true)
  from jsonb_array_elements(variables) as item (variable)
) is true else false end;

-- The tags, and each folder that one is in: of billing/invoices, billing/ as well.
create function tag_paths(tags text []) returns text []
language sql immutable parallel safe
return array(
  select item.tag from unnest(tags) as item (tag)
  union
  select left(item.tag, n) from unnest(tags) as item (tag)
  cross join generate_series(1, char_length(item.tag)) as place (n)
  where substr(item.tag, n, 1) = '/'
);

alter table templates
  -- Null leaves it to the model, where it can be null.
  add column variables jsonb not null default '[]',
  add column response_format text,
  add column verbosity verbosity,
  add column max_output_tokens bigint,
  add column top_p double precision,
  add column tool_choice text collate "C",
  add column parallel_tool_calls boolean,
  add column disabled_tools text [] not null default '{}',
  add column tags text [] not null default '{}',
  add constraint templates_variables_within_bounds check (variables_fit(variables, 64, 64, 128, 256)) not valid,
  add constraint templates_response_format_within_bounds check (octet_length(response_format) <= 65536) not valid,
  add constraint templates_max_output_tokens_within_bounds check (max_output_tokens between 16 and 1000000) not valid,
  -- NaN is greater than every number.
  add constraint templates_top_p_within_bounds check (top_p between 0 and 1) not valid,
  add constraint templates_tool_choice_within_bounds check (tool_choice ~ '^[A-Za-z0-9_-]{1,64}$') not valid,
  add constraint templates_disabled_tools_within_bounds
    check (cardinality(disabled_tools) <= 128 and each_text_fits(disabled_tools, 64, '^[A-Za-z0-9_-]+$')) not valid,
  add constraint templates_tags_within_bounds
    check (cardinality(tags) <= 16 and each_text_fits(tags, 64, '^[a-z0-9][a-z0-9._/-]*$')) not valid;

-- The log never has what the variables and the response_format say.
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

drop trigger record_changes on templates;
drop trigger record_truncation on templates;
call record_changes(
  'templates', 'template', '{scope,words,title,description,instructions,variables,response_format}'
);
