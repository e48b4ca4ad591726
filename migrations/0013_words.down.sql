-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, ban-drop-column

drop index templates_by_words;

alter table templates drop column words;

create index templates_by_words on templates using gin (template_words(title, description));
