drop table templates;
drop type reasoning_effort;
