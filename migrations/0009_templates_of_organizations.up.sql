-- Templates and selections belong to an organization, or to the platform: organization_id is null then. What is unique or
-- referred to within one of them goes by `scope`, which is never null: a foreign key with a null in it checks nothing.
-- There is no release yet that runs on these tables, so they are rewritten and their indexes made anew under a lock:
-- squawk-ignore-file adding-field-with-default, ban-drop-constraint, adding-required-field, constraint-missing-not-valid, adding-foreign-key-constraint, disallowed-unique-constraint, require-concurrent-index-creation, require-concurrent-index-deletion

alter table templates
  add column organization_id text collate "C",
  add column scope text collate "C" not null generated always as (coalesce(organization_id, '')) stored,
  add constraint templates_belong_to_an_organization foreign key (organization_id) references organizations (id),
  -- What a selection refers to, so that it can only be of a template of its own type, and within its reach.
  add constraint templates_id_type_and_scope_are_unique unique (id, template_type_id, scope);

alter table user_template_selections
  drop constraint user_template_selections_are_of_a_template_of_their_type,
  drop constraint user_template_selections_one_for_each_user_and_type,
  add column organization_id text collate "C",
  add column scope text collate "C" not null generated always as (coalesce(organization_id, '')) stored,
  -- The scope of the template: the selection's own, or the platform's.
  add column template_scope text collate "C" not null default '',
  add constraint user_template_selections_one_for_each_user_scope_and_type unique (user_id, scope, template_type_id),
  add constraint user_template_selections_are_of_a_template_of_their_type
    foreign key (template_id, template_type_id, template_scope)
    references templates (id, template_type_id, scope) on delete cascade,
  add constraint user_template_selections_are_of_a_template_within_reach check (template_scope in ('', scope)),
  -- Who leaves an organization loses the selections there.
  add constraint user_template_selections_belong_to_a_member foreign key (organization_id, user_id)
    references organization_members (organization_id, user_id) on delete cascade;

alter table templates drop constraint templates_id_and_type_are_unique;

-- The selections of a template: deleting it, and counting them.
drop index user_template_selections_by_template;
create index user_template_selections_by_template
  on user_template_selections (template_id, template_type_id, template_scope);

-- At most one default for each type, of the platform and of each organization; also finds it.
drop index templates_one_default_for_each_type;
create unique index templates_one_default_for_each_scope_and_type on templates (scope, template_type_id)
  where is_default;

-- ListTemplates, newest first, within each scope that the caller may read: all, and by each filter.
drop index templates_by_create_time;
drop index templates_by_template_type;
drop index templates_by_model;
drop index templates_by_user;
create index templates_by_scope on templates (scope, create_time, id);
create index templates_by_template_type on templates (template_type_id, scope, create_time, id);
create index templates_by_model on templates (model_id, scope, create_time, id);
create index templates_by_user on templates (user_id, scope, create_time, id);
create index templates_by_organization on templates (organization_id) where organization_id is not null;
