create type openai_tool_type as enum ('file_search', 'code_interpreter', 'function');

create table template_types (
  id text collate "C" not null,
  name text collate "C" not null,
  description text not null default '',
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint template_types_pkey primary key (id),
  -- Also the order of ListTemplateTypes.
  constraint template_types_name_is_unique unique (name),
  constraint template_types_name_is_hyphenated_words check (
    char_length(name) <= 64 and name ~ '^[a-z0-9]+(-[a-z0-9]+)*$'
  ),
  constraint template_types_description_within_bounds check (char_length(description) <= 2000)
);

create table template_tools (
  id text collate "C" not null,
  template_type_id text collate "C" not null,
  name text collate "C" not null,
  type openai_tool_type not null,
  description text not null default '',
  -- Text, not json: the order of the keys and the spelling of the numbers matter to the model.
  schema text,
  -- One member, by the name of the type that it fits: {"file_search": {...}} or {"code_interpreter": {...}}.
  config jsonb,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint template_tools_pkey primary key (id),
  constraint template_tools_name_and_type_are_unique unique (name, type),
  constraint template_tools_belong_to_a_type foreign key (template_type_id)
    references template_types (id) on delete cascade,
  constraint template_tools_name_within_bounds check (name ~ '^[A-Za-z0-9_-]{1,64}$'),
  constraint template_tools_description_within_bounds check (char_length(description) <= 1024),
  constraint template_tools_only_functions_have_a_schema check ((type = 'function') = (schema is not null)),
  constraint template_tools_schema_within_bounds check (octet_length(schema) <= 65536),
  constraint template_tools_config_fits_type check (
    config is null
    or (type = 'file_search' and jsonb_typeof(config -> 'file_search') is not distinct from 'object')
    or (type = 'code_interpreter' and jsonb_typeof(config -> 'code_interpreter') is not distinct from 'object')
  )
);

-- The tools of a type, by name.
create index template_tools_by_template_type on template_tools (template_type_id, name, id);
