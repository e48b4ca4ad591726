-- no-transaction
-- compatible-from: 0025
-- As with the index of words.
drop index concurrently if exists templates_by_tags;
