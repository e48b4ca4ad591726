create table user_template_selections (
  id text collate "C" not null,
  user_id text collate "C" not null,
  template_type_id text collate "C" not null,
  template_id text collate "C" not null,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint user_template_selections_pkey primary key (id),
  constraint user_template_selections_one_for_each_user_and_type unique (user_id, template_type_id),
  constraint user_template_selections_belong_to_a_user foreign key (user_id)
    references users (id) on delete cascade,
  -- The type needs no foreign key of its own: the template has one.
  constraint user_template_selections_are_of_a_template_of_their_type foreign key (template_id, template_type_id)
    references templates (id, template_type_id) on delete cascade
);

-- The selections of a template: deleting it, and counting them.
create index user_template_selections_by_template on user_template_selections (template_id, template_type_id);
