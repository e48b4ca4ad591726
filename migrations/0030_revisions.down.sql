-- squawk-ignore-file ban-drop-column
drop trigger number_revision on templates;
drop trigger record_revision on templates;
drop trigger record_next_revision on templates;
drop trigger number_revision on template_types;
drop trigger record_revision on template_types;
drop trigger record_next_revision on template_types;
drop trigger raise_revision on template_tools;
drop trigger raise_next_revision on template_tools;
drop trigger raise_last_revision on template_tools;
drop function number_template_revision();
drop function record_template_revision();
drop function number_type_revision();
drop function record_type_revision();
drop function raise_type_revision();
drop function keep_template_revision(templates, text, text, timestamptz);
drop function keep_type_revision(template_types, text, timestamptz);
drop function template_says(templates);
drop function this_actor();

alter table templates drop column labels, drop column revision;
alter table template_types drop column revision;
alter table user_template_selections drop column revision;
drop function labels_fit(jsonb, bigint, integer);
drop table template_revisions;
drop table template_type_revisions;
drop table revision_texts;
drop function replace_restored();

create or replace function purge_changes(days integer, most integer) returns integer
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
do $$
begin
  execute format('alter function purge_changes(integer, integer) set search_path = pg_catalog, %I, pg_temp', current_schema());
end
$$;
