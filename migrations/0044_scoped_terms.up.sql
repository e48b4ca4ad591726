-- compatible-from: 0025
-- What templates are found by, each term after the scope and a space. How long an index of these is read does not depend
-- on what is in other scopes.

-- In plpgsql, which keeps its plans: an SQL function makes one in each statement that writes a template.
create function scoped_terms(scope text, terms text []) returns text []
language plpgsql immutable parallel safe
as $$
begin
  return array(select scope || ' ' || item.term from unnest(terms) as item (term));
end
$$;

create function scoped_words(scope text, words tsvector) returns tsvector
language plpgsql immutable parallel safe
as $$
begin
  return array_to_tsvector(array(select scope || ' ' || item.word from unnest(tsvector_to_array(words)) as item (word)));
end
$$;

-- A query for scoped words, of one whose words have no spaces, quotes or parentheses, and that has no "!". Scoped words
-- have no places, so of a phrase it wants the parts, wherever they are.
create function scoped_query(scope text, query tsquery) returns tsquery
language plpgsql immutable parallel safe
as $$
begin
  return regexp_replace(
    ' ' || replace(query::text, '<->', '&'),
    '([ (])''',
    -- A backslash is written twice in a tsquery, and each twice in a replacement.
    '\1''' || replace(replace(scope, '\', '\\\\'), '''', '''''') || ' ',
    'g'
  )::tsquery;
end
$$;
