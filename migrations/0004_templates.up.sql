create type reasoning_effort as enum ('none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max');

-- The words of a template for full-text search. Punctuation parts words: PostgreSQL's parser would take an address or a
-- tag for one word, or for none, and a query for the beginning of a word in it would find nothing.
create function template_words(title text, description text) returns tsvector
language sql immutable parallel safe
return to_tsvector(
  'simple',
  translate(title || ' ' || description, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))
);

create table templates (
  id text collate "C" not null,
  title text not null,
  description text not null default '',
  instructions text not null,
  user_id text collate "C" not null,
  template_type_id text collate "C" not null,
  is_default boolean not null default false,
  model_id text collate "C" not null,
  -- Null leaves it to the model, and so does a null effort.
  temperature double precision,
  reasoning_effort reasoning_effort,
  assistant_id text,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint templates_pkey primary key (id),
  -- What a selection refers to, so that it can only be of a template of its own type.
  constraint templates_id_and_type_are_unique unique (id, template_type_id),
  constraint templates_have_an_author foreign key (user_id) references users (id),
  constraint templates_are_of_a_type foreign key (template_type_id) references template_types (id),
  constraint templates_name_a_model foreign key (model_id) references openai_models (id),
  constraint templates_title_within_bounds check (char_length(title) between 1 and 256),
  constraint templates_description_within_bounds check (char_length(description) <= 2000),
  constraint templates_instructions_within_bounds check (char_length(instructions) between 1 and 256000),
  -- NaN is greater than every number.
  constraint templates_temperature_within_bounds check (temperature between 0 and 2)
);

-- At most one default for each type; also finds it.
create unique index templates_one_default_for_each_type on templates (template_type_id) where is_default;

-- ListTemplates, newest first: all, and by each filter.
create index templates_by_create_time on templates (create_time, id);
create index templates_by_template_type on templates (template_type_id, create_time, id);
create index templates_by_model on templates (model_id, create_time, id);
create index templates_by_user on templates (user_id, create_time, id);
create index templates_by_words on templates using gin (template_words(title, description));
