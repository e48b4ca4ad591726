create type api_key_scope as enum ('read', 'write');

-- A key is 32 random bytes, of which only the SHA-256 is kept: it is compared, never read.
create table api_keys (
  id text collate "C" not null,
  user_id text collate "C" not null,
  -- Null is good wherever the owner is.
  organization_id text collate "C",
  name text not null,
  scope api_key_scope not null,
  digest bytea not null,
  -- Of the secret before the last rotation, and until when it is good.
  previous_digest bytea,
  previous_expire_time timestamptz,
  expire_time timestamptz,
  last_used_time timestamptz,
  revoke_time timestamptz,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint api_keys_pkey primary key (id),
  constraint api_keys_belong_to_a_user foreign key (user_id) references users (id) on delete cascade,
  -- Who leaves an organization loses the keys for it.
  constraint api_keys_belong_to_a_member foreign key (organization_id, user_id)
    references organization_members (organization_id, user_id) on delete cascade,
  constraint api_keys_name_within_bounds check (char_length(name) between 1 and 128)
);

-- ListApiKeys, newest first.
create index api_keys_by_user on api_keys (user_id, create_time, id);
