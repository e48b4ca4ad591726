-- What the call needed to be allowed: a replay needs the same.
alter table idempotency_keys add column rights jsonb not null default '[]';
