-- compatible-from: 0013
-- Of a response that is too large to be kept: its SHA-256, and the id of what it shows, which a retry reads again. A
-- release that does not know of them refuses the retry: it does not know the right that is kept with it.
alter table idempotency_keys
  add column digest bytea,
  add column resource_id text collate "C";
