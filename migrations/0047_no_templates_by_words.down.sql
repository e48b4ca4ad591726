-- no-transaction
create index concurrently templates_by_words on templates using gin (words);
