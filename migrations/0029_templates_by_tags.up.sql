-- no-transaction
-- compatible-from: 0025
-- ListTemplates by tags, in every scope. Where a tag is common, the lists' own indexes find it sooner.
create index concurrently templates_by_tags on templates using gin (tag_paths(tags));
