-- compatible-from: 0025
-- Revisions: what a template said, and a type with its tools, each time that it changed. Triggers make them, so SQL by hand
-- makes them too. They outlive what they are of, until the log forgets its deletion.

-- The long texts of revisions, each once for what it is of: a template, or a type.
create table revision_texts (
  owner_id text collate "C" not null,
  -- SHA-256 of the text as UTF-8.
  digest bytea not null,
  content text not null,
  constraint revision_texts_pkey primary key (owner_id, digest)
);

create table template_revisions (
  template_id text collate "C" not null,
  -- From 1, without gaps.
  revision bigint not null,
  -- The columns of the template that are part of a revision, but for the long texts; and the names of type and model, for
  -- when these are gone.
  says jsonb not null,
  instructions_digest bytea not null,
  response_format_digest bytea,
  message text not null,
  actor text collate "C" not null,
  author_id text collate "C",
  create_time timestamptz not null,
  constraint template_revisions_pkey primary key (template_id, revision)
);

create table template_type_revisions (
  template_type_id text collate "C" not null,
  revision bigint not null,
  says jsonb not null,
  -- The rows of its tools by name, each with the digest of its schema instead of that.
  tools jsonb not null,
  actor text collate "C" not null,
  author_id text collate "C",
  create_time timestamptz not null,
  constraint template_type_revisions_pkey primary key (template_type_id, revision)
);

-- Each label names a revision that there is: they have no gaps.
create function labels_fit(labels jsonb, newest bigint, most integer) returns boolean
language sql immutable parallel safe
return jsonb_typeof(labels) = 'object' and not exists (
  select from jsonb_each(labels) with ordinality label (name, revision, place)
  where name !~ '^[a-z][a-z0-9_-]{0,63}$' or name = 'latest' or place > most
    or revision::text !~ '^[1-9][0-9]*$' or revision > to_jsonb(newest)
);

alter table templates
  -- Of the newest revision.
  add column revision bigint not null default 1,
  -- Revisions by label.
  add column labels jsonb not null default '{}',
  add constraint templates_labels_fit check (labels = '{}' or labels_fit(labels, revision, 32)) not valid;

alter table template_types add column revision bigint not null default 1;

alter table user_template_selections
  -- Null follows the template.
  add column revision bigint,
  add constraint user_template_selections_revision_from_one check (revision >= 1) not valid;

create function template_says(template templates) returns jsonb
language plpgsql
as $$
begin
  template.instructions := null; template.response_format := null; template.words := null;
  return to_jsonb(template) - '{
    id, user_id, organization_id, scope, is_default, assistant_id, labels, tags,
    create_time, update_time, version, revision, words, instructions, response_format
  }'::text[] || jsonb_build_object(
    'template_type', (select name from template_types where id = template.template_type_id),
    'model', (select openai_id from openai_models where id = template.model_id)
  );
end
$$;

create function number_template_revision() returns trigger
language plpgsql
as $$
declare
  same templates := old;
  newest template_revisions;
begin
  if tg_op = 'INSERT' then
    -- What was deleted may come back. Rows that are restored bring their numbers along.
    select * into newest from template_revisions where template_id = new.id order by revision desc limit 1;
    if newest.revision is not null then
      new.revision := newest.revision + (
        newest.says <> template_says(new)
        or newest.instructions_digest <> sha256(convert_to(new.instructions, 'UTF8'))
        or newest.response_format_digest is distinct from sha256(convert_to(new.response_format, 'UTF8'))
      )::integer;
    end if;
    return new;
  end if;
  -- What is no part of a revision.
  same.id := new.id; same.user_id := new.user_id; same.organization_id := new.organization_id; same.scope := new.scope;
  same.is_default := new.is_default; same.assistant_id := new.assistant_id; same.labels := new.labels;
  same.tags := new.tags;
  same.create_time := new.create_time; same.update_time := new.update_time; same.version := new.version;
  same.words := new.words; same.revision := new.revision;
  new.revision := old.revision + (same is distinct from new)::integer;
  if new.template_type_id <> old.template_type_id and new.labels <> '{}' then
    raise check_violation using
      message = 'the labels of a template are on revisions of its type',
      constraint = 'templates_with_labels_keep_their_type';
  end if;
  return new;
end
$$;

create function keep_template_revision(template templates, message text, actor text, moment timestamptz) returns void
language plpgsql
as $$
declare
  instructions bytea := sha256(convert_to(template.instructions, 'UTF8'));
  response_format bytea := sha256(convert_to(template.response_format, 'UTF8'));
begin
  insert into revision_texts values (template.id, instructions, template.instructions) on conflict do nothing;
  if response_format is not null then
    insert into revision_texts values (template.id, response_format, template.response_format) on conflict do nothing;
  end if;
  insert into template_revisions
  select
    template.id, template.revision, template_says(template), instructions, response_format,
    message, actor, substring(actor from '(?:^| for )user:(.+)$'), moment
  where not exists (
    select from template_revisions r where r.template_id = template.id and r.revision = template.revision
  )
  on conflict do nothing;
end
$$;

create function record_template_revision() returns trigger
language plpgsql security definer
as $$
begin
  -- The next file may not have come to it yet.
  if tg_op = 'UPDATE' and old.revision = 1 then
    perform keep_template_revision(old, '', '', old.update_time);
  end if;
  perform keep_template_revision(
    new, coalesce(current_setting('omniflo.message', true), ''), this_actor(), clock_timestamp()
  );
  return null;
end
$$;

-- Who it is that writes, as in the log.
create function this_actor() returns text
language sql stable
return coalesce(nullif(current_setting('omniflo.actor', true), ''), 'sql:' || session_user);

create function number_type_revision() returns trigger
language plpgsql
as $$
declare
  same template_types := old;
  newest bigint;
begin
  if tg_op = 'INSERT' then
    select max(revision) into newest from template_type_revisions where template_type_id = new.id;
    if newest > new.revision then
      new.revision := newest + 1;
    end if;
    return new;
  end if;
  same.id := new.id; same.create_time := new.create_time; same.update_time := new.update_time;
  same.version := new.version; same.revision := new.revision;
  -- Its tools raise the number themselves.
  if new.revision <= old.revision then
    new.revision := old.revision + (same is distinct from new)::integer;
  end if;
  return new;
end
$$;

create function keep_type_revision(type template_types, actor text, moment timestamptz) returns void
language plpgsql
as $$
begin
  insert into revision_texts
  select type.id, sha256(convert_to(schema, 'UTF8')), schema
  from template_tools where template_type_id = type.id and schema is not null
  on conflict do nothing;
  insert into template_type_revisions
  select
    type.id, type.revision,
    to_jsonb(type) - '{id, create_time, update_time, version, revision}'::text[],
    (
      select coalesce(jsonb_agg(
        to_jsonb(tool) || jsonb_build_object('schema', encode(sha256(convert_to(schema, 'UTF8')), 'hex'))
        order by name, id
      ), '[]')
      from template_tools tool where template_type_id = type.id
    ),
    actor, substring(actor from '(?:^| for )user:(.+)$'), moment
  where not exists (
    select from template_type_revisions r where r.template_type_id = type.id and r.revision = type.revision
  );
end
$$;

create function record_type_revision() returns trigger
language plpgsql security definer
as $$
begin
  perform keep_type_revision(new, this_actor(), clock_timestamp());
  return null;
end
$$;

-- A change of tools is one of their types: once for each statement.
create function raise_type_revision() returns trigger
language plpgsql
as $$
declare
  types text[];
begin
  if tg_op = 'UPDATE' then
    types := array(
      with was as (select to_jsonb(t) - '{version, update_time}'::text[] as row from earlier t),
        becomes as (select to_jsonb(t) - '{version, update_time}'::text[] as row from later t)
      select row ->> 'template_type_id' from (
        (table becomes except table was) union all (table was except table becomes)
      ) differing
    );
  elsif tg_op = 'INSERT' then
    types := array(select template_type_id from later);
  else
    types := array(select template_type_id from earlier);
  end if;
  update template_types
  set revision = revision + 1, version = version + 1, update_time = greatest(clock_timestamp(), update_time)
  where id = any(types);
  return null;
end
$$;

-- Rows that are restored without their tables take the place of those that the triggers have just made.
create function replace_restored() returns trigger
language plpgsql
as $$
begin
  execute format(
    'delete from %1$s where (%2$I, %3$I) = (($1).%2$I, ($1).%3$I)', tg_relid::regclass, tg_argv[0], tg_argv[1]
  ) using new;
  return new;
end
$$;

create trigger replace_restored before insert on template_revisions
  for each row when (pg_trigger_depth() = 0) execute function replace_restored('template_id', 'revision');
create trigger replace_restored before insert on template_type_revisions
  for each row when (pg_trigger_depth() = 0) execute function replace_restored('template_type_id', 'revision');
create trigger replace_restored before insert on revision_texts
  for each row when (pg_trigger_depth() = 0) execute function replace_restored('owner_id', 'digest');

create trigger number_revision before insert or update on templates
  for each row execute function number_template_revision();
create trigger record_revision after insert on templates
  for each row execute function record_template_revision();
create trigger record_next_revision after update on templates
  for each row when (old.revision <> new.revision) execute function record_template_revision();

create trigger number_revision before insert or update on template_types
  for each row execute function number_type_revision();
create trigger record_revision after insert on template_types
  for each row execute function record_type_revision();
create trigger record_next_revision after update on template_types
  for each row when (old.revision <> new.revision) execute function record_type_revision();

create trigger raise_revision after insert on template_tools
  referencing new table as later for each statement execute function raise_type_revision();
create trigger raise_next_revision after update on template_tools
  referencing old table as earlier new table as later for each statement execute function raise_type_revision();
create trigger raise_last_revision after delete on template_tools
  referencing old table as earlier for each statement execute function raise_type_revision();

-- As before. What was deleted by the changes that go now, for good as far as the log knows, loses its revisions first, as
-- many at a time: while there are more, only these go, and it returns how many.
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
    delete from changes where seq in (
      select seq from changes where time < until order by time, seq limit most
      for update skip locked
    ) returning time
  )
  select count(*), max(time) into deleted, newest from old;
  update registry set begin_time = greatest(begin_time, newest) where deleted > 0;
  return deleted;
end
$$;

do $$
declare
  maker regprocedure;
begin
  foreach maker in array array[
    'template_says(templates)', 'number_template_revision()', 'keep_template_revision(templates, text, text, timestamptz)',
    'record_template_revision()', 'number_type_revision()', 'keep_type_revision(template_types, text, timestamptz)',
    'record_type_revision()', 'raise_type_revision()', 'replace_restored()', 'purge_changes(integer, integer)'
  ]::regprocedure[] loop
    execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', maker, current_schema());
  end loop;
  foreach maker in array array['record_template_revision()', 'record_type_revision()']::regprocedure[] loop
    execute format('revoke execute on function %s from public', maker);
  end loop;
end
$$;

-- Types are few, and their tables are locked by now.
select keep_type_revision(t, '', t.update_time) from template_types t;
