-- no-transaction
-- compatible-from: 0025
-- ListTemplates by words that are rare in the scopes which the caller may read.
-- Without a list of what was written last, which every search would read, whosever it is.
create index concurrently templates_by_scoped_words on templates using gin (scoped_words(scope, words))
  with (fastupdate = off);
