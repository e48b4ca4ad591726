-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-constraint

alter table templates
  drop constraint templates_labels_fit,
  add constraint templates_labels_fit check (labels = '{}' or labels_fit(labels, revision, 32)) not valid;
alter table user_template_selections
  drop constraint user_template_selections_revision_from_one,
  add constraint user_template_selections_revision_from_one check (revision >= 1) not valid;
