-- no-transaction
-- compatible-from: 0025
-- This index told of all scopes. There is no release yet that has only this one; states of the main branch from before
-- find the same without it, by reading more.
drop index concurrently if exists templates_by_words;
