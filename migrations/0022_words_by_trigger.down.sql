-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file adding-field-with-default, adding-required-field, require-concurrent-index-creation, ban-drop-column

alter function note_row() reset search_path;

drop trigger templates_set_words on templates;
drop function set_template_words();

alter table templates drop column words;

create or replace function template_words(title text, description text) returns tsvector
language sql immutable parallel safe
return to_tsvector(
  'simple',
  translate(title || ' ' || description, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))
);

drop function template_terms(text);

alter table templates
  add column words tsvector not null generated always as (template_words(title, description)) stored;

create index templates_by_words on templates using gin (words);
