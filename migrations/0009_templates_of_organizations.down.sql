-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-constraint, adding-required-field, constraint-missing-not-valid, adding-foreign-key-constraint, disallowed-unique-constraint, require-concurrent-index-creation, require-concurrent-index-deletion, ban-drop-column

-- Without its organization a template would be everybody's to read.
do $$
begin
  if exists (select from templates where organization_id is not null)
    or exists (select from user_template_selections where organization_id is not null)
  then
    raise exception 'templates or selections belong to organizations: delete them, or move them, before this is taken back';
  end if;
end
$$;

drop index templates_by_organization;
drop index templates_by_user;
drop index templates_by_model;
drop index templates_by_template_type;
drop index templates_by_scope;
drop index templates_one_default_for_each_scope_and_type;
drop index user_template_selections_by_template;

alter table templates add constraint templates_id_and_type_are_unique unique (id, template_type_id);

alter table user_template_selections
  drop constraint user_template_selections_belong_to_a_member,
  drop constraint user_template_selections_are_of_a_template_within_reach,
  drop constraint user_template_selections_are_of_a_template_of_their_type,
  drop constraint user_template_selections_one_for_each_user_scope_and_type,
  drop column template_scope,
  drop column scope,
  drop column organization_id,
  add constraint user_template_selections_one_for_each_user_and_type unique (user_id, template_type_id),
  add constraint user_template_selections_are_of_a_template_of_their_type foreign key (template_id, template_type_id)
    references templates (id, template_type_id) on delete cascade;

alter table templates
  drop constraint templates_id_type_and_scope_are_unique,
  drop constraint templates_belong_to_an_organization,
  drop column scope,
  drop column organization_id;

create unique index templates_one_default_for_each_type on templates (template_type_id) where is_default;
create index templates_by_create_time on templates (create_time, id);
create index templates_by_template_type on templates (template_type_id, create_time, id);
create index templates_by_model on templates (model_id, create_time, id);
create index templates_by_user on templates (user_id, create_time, id);
create index user_template_selections_by_template on user_template_selections (template_id, template_type_id);
