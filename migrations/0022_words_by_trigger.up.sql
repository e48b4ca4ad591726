-- compatible-from: 0013
-- The words of a template become an ordinary column that a trigger sets: to change how they are made, replace the
-- function and fill the column in batches, as the next file does. A generated column would be rewritten under a lock.
-- Older releases only read the column:
-- squawk-ignore-file ban-drop-generated-expression

-- What a search compares of a text: `words`, in the order of the text, and `runs` of what is written without spaces.
-- It makes no difference how a text spells its characters in Unicode. What parts words is listed here: what PostgreSQL
-- takes for a letter depends on its locale.
create function template_terms(content text, out words text[], out runs text[])
language plpgsql immutable parallel safe set search_path from current
as $$
declare
  -- Soft hyphens, zero-width characters, marks of direction, selectors of variants, tags.
  unseen constant text := '\u00AD\u034F\u061C\u180B-\u180F\u200B-\u200F\u202A-\u202E\u2060-\u206F\uFE00-\uFE0F\uFEFF'
    '\U000E0000-\U000E0FFF';
  -- Thai, Lao, Burmese, Korean, Khmer, Chinese, Japanese, and emoji.
  unspaced constant text := '\u0E00-\u0EFF\u1000-\u109F\u1100-\u11FF\u1780-\u17FF\u2300-\u23FF\u2600-\u27BF'
    '\u2B00-\u2BFF\u2E80-\u2FFF\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u309F\u30A1-\u30FA\u30FC-\u318F'
    '\u31A0-\u31FF\u3400-\u9FFF\uA960-\uA97F\uAC00-\uD7FF\uF900-\uFAFF\U0001F000-\U0001FAFF\U00020000-\U0003FFFF';
  -- Of every script that is in much use. What is in none of these lists is part of a word.
  punctuation constant text := '\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00BF\u00D7\u00F7\u055A-\u055F'
    '\u0589-\u058A\u05BE\u05C0\u05C3\u05C6\u05F3-\u05F4\u0609-\u060D\u061B-\u061F\u066A-\u066D\u06D4\u0700-\u070D'
    '\u0964-\u0965\u0F0B-\u0F14\u1360-\u1368\u1680\u1800-\u180A\u2000-\u2BFF\u2E00-\u303F\u30A0\u30FB\uFFF9-\uFFFD';
  plain text := normalize(regexp_replace(content, '[' || unseen || ']', '', 'g'), nfkc);
begin
  -- In capitals, ß is SS, and the ς at the end of a word is Σ.
  plain := translate(replace(replace(plain, 'ß', 'ss'), 'ẞ', 'ss'), 'ς', 'σ');
  -- The beginning of a word that is longer than any query.
  words := array(
    select left(lower(matched[1]), 256) from regexp_matches(plain, '[^' || unspaced || punctuation || ']+', 'g') matched
  );
  runs := array(select matched[1] from regexp_matches(plain, '[' || unspaced || ']+', 'g') matched);
end
$$;

-- The words of a template for full-text search. Of a run it has each character together with the next one, at its
-- place, so that any part of the run is a phrase of these pairs; and the whole run, whose beginning is what releases
-- before this one look for.
create or replace function template_words(title text, description text) returns tsvector
language plpgsql immutable parallel safe set search_path from current
as $$
declare
  terms record := template_terms(title || ' ' || description);
begin
  return array_to_tsvector(terms.words || array(select left(run, 256) from unnest(terms.runs) run)) || coalesce(
    (
      select string_agg(format('''%s%s'':%s', this, rtrim(next), place), ' ')::tsvector
      from (
        select this, place, lead(this, 1, '') over (order by place) as next
        from string_to_table(array_to_string(terms.runs, ' '), null) with ordinality as characters (this, place)
      ) pairs
      where this <> ' '
    ),
    ''
  );
end
$$;

alter table templates alter column words drop expression;

create function set_template_words() returns trigger
language plpgsql set search_path from current
as $$
begin
  new.words := template_words(new.title, new.description);
  return new;
end
$$;

create trigger templates_set_words before insert or update of title, description on templates
  for each row execute function set_template_words();

-- Where the database is no UTF-8, this says so now, and not at the first write.
select template_terms('');

-- A restore of rows alone has no search_path.
alter function note_row() set search_path from current;
