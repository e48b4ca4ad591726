-- no-transaction
create index concurrently templates_by_tags on templates using gin (tag_paths(tags));
