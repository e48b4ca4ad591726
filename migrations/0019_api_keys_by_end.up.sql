-- no-transaction
-- compatible-from: 0013
-- The purge of keys that ended long ago.
create index concurrently api_keys_by_end on api_keys (least(revoke_time, expire_time))
  where least(revoke_time, expire_time) is not null;
