-- The words of a template are kept beside its texts: a search that made them anew for every row that it looks at took
-- seconds in a large table.
-- There is no release yet that runs on this table, so it is rewritten and its index made anew under a lock:
-- squawk-ignore-file adding-field-with-default, adding-required-field, require-concurrent-index-creation, require-concurrent-index-deletion

drop index templates_by_words;

alter table templates
  add column words tsvector not null generated always as (template_words(title, description)) stored;

create index templates_by_words on templates using gin (words);
