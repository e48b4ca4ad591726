-- no-transaction
drop index concurrently templates_by_scoped_words;
