drop table templates;
drop function template_words(text, text);
drop type reasoning_effort;
