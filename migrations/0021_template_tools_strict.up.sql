-- compatible-from: 0013
-- Whether a function is sent with `strict`: null and true, wherever OpenAI takes its schema so; false, never. That other
-- tools have none is no constraint, since an older release that changes the type of a tool would not know of it.
alter table template_tools add column strict boolean;
