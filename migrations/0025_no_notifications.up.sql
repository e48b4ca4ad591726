-- Changes are read from the log. Notifications made commits wait for each other: while one commits that has notified, no
-- other can, for as long as the disk takes.
-- Releases that wait for them would keep answers that have changed, so none goes on.
-- compatible-from: 0025
drop trigger templates_note_changes on templates;
drop trigger template_types_note_changes on template_types;
drop trigger template_tools_note_changes on template_tools;
drop trigger openai_models_note_changes on openai_models;
drop trigger users_note_changes on users;
drop trigger user_template_selections_note_changes on user_template_selections;
drop trigger organization_members_note_changes on organization_members;

drop trigger templates_note_truncation on templates;
drop trigger template_types_note_truncation on template_types;
drop trigger template_tools_note_truncation on template_tools;
drop trigger openai_models_note_truncation on openai_models;
drop trigger users_note_truncation on users;
drop trigger user_template_selections_note_truncation on user_template_selections;
drop trigger organization_members_note_truncation on organization_members;

drop function note_row();
drop function note_change(text);
