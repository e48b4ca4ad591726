drop function scoped_query(text, tsquery);
drop function scoped_words(text, tsvector);
drop function scoped_terms(text, text []);
