-- compatible-from: 0025
alter table templates validate constraint templates_labels_fit;
alter table user_template_selections validate constraint user_template_selections_revision_from_one;
