create table openai_models (
  id text collate "C" not null,
  openai_id text collate "C" not null,
  name text collate "C" not null,
  description text not null default '',
  -- The day from which OpenAI refuses the model, null when unknown.
  shutdown_date date,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint openai_models_pkey primary key (id),
  constraint openai_models_openai_id_is_unique unique (openai_id),
  constraint openai_models_openai_id_within_bounds check (openai_id ~ '^[!-~]{1,128}$'),
  constraint openai_models_name_within_bounds check (char_length(name) between 1 and 256),
  constraint openai_models_description_within_bounds check (char_length(description) <= 2000)
);

-- ListModels, by name.
create index openai_models_by_name on openai_models (name, id);
