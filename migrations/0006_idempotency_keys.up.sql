-- The answers of writes that carried a request_id. A row is inserted before its effect and in the same transaction.
create table idempotency_keys (
  caller text collate "C" not null,
  method text collate "C" not null,
  request_id text collate "C" not null,
  fingerprint bytea not null,
  -- Null only inside the transaction that is making it.
  response bytea,
  create_time timestamptz not null default statement_timestamp(),
  constraint idempotency_keys_pkey primary key (caller, method, request_id)
);

-- The purge of old rows.
create index idempotency_keys_by_create_time on idempotency_keys (create_time);
