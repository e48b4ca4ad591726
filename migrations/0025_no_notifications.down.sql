create function note_change(tag text) returns void
language plpgsql
as $$
declare
  noted text := coalesce(current_setting('omniflo.changed', true), '');
begin
  if noted = '*' or position(tag || e'\n' in noted) > 0 then
    return;
  end if;
  -- Past some hundred, one that names everything costs everybody less.
  if tag = '*' or length(noted) > 8000 then
    perform pg_notify('omniflo_changes', '*');
    perform set_config('omniflo.changed', '*', true);
  else
    perform pg_notify('omniflo_changes', tag);
    perform set_config('omniflo.changed', noted || tag || e'\n', true);
  end if;
end
$$;

create function note_row() returns trigger
language plpgsql
as $$
begin
  if tg_op = 'TRUNCATE' then
    perform note_change('*');
  elsif tg_table_name = 'templates' then
    if tg_op <> 'INSERT' then
      perform note_change('template:' || old.id);
      if old.is_default then
        perform note_change('default:' || old.template_type_id);
      end if;
    end if;
    if tg_op <> 'DELETE' and new.is_default then
      perform note_change('default:' || new.template_type_id);
    end if;
  elsif tg_table_name = 'template_types' then
    perform note_change('type:' || old.id);
  elsif tg_table_name = 'template_tools' then
    if tg_op <> 'INSERT' then
      perform note_change('type:' || old.template_type_id);
    end if;
    if tg_op <> 'DELETE' then
      perform note_change('type:' || new.template_type_id);
    end if;
  elsif tg_table_name = 'openai_models' then
    perform note_change('model:' || old.id);
  elsif tg_table_name = 'users' then
    perform note_change('user:' || old.id);
  else
    -- What belongs to a user: selections and memberships.
    if tg_op <> 'INSERT' then
      perform note_change('user:' || old.user_id);
    end if;
    if tg_op <> 'DELETE' then
      perform note_change('user:' || new.user_id);
    end if;
  end if;
  return null;
end
$$;

create trigger templates_note_changes after insert or update or delete on templates
  for each row execute function note_row();
create trigger template_types_note_changes after update or delete on template_types
  for each row execute function note_row();
create trigger template_tools_note_changes after insert or update or delete on template_tools
  for each row execute function note_row();
create trigger openai_models_note_changes after update or delete on openai_models
  for each row execute function note_row();
create trigger users_note_changes after update or delete on users
  for each row execute function note_row();
create trigger user_template_selections_note_changes after insert or update or delete on user_template_selections
  for each row execute function note_row();
create trigger organization_members_note_changes after insert or update or delete on organization_members
  for each row execute function note_row();

create trigger templates_note_truncation after truncate on templates execute function note_row();
create trigger template_types_note_truncation after truncate on template_types execute function note_row();
create trigger template_tools_note_truncation after truncate on template_tools execute function note_row();
create trigger openai_models_note_truncation after truncate on openai_models execute function note_row();
create trigger users_note_truncation after truncate on users execute function note_row();
create trigger user_template_selections_note_truncation after truncate on user_template_selections
  execute function note_row();
create trigger organization_members_note_truncation after truncate on organization_members execute function note_row();
