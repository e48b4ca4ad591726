-- no-transaction
-- compatible-from: 0013
-- The keys that end with a key that is deleted.
create index concurrently api_keys_by_parent on api_keys (parent_id) where parent_id is not null;
