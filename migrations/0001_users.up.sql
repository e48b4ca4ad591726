-- Times default to the time of the statement, which is one time for both of a row.
-- Ids sort and compare by bytes everywhere, so that pages do not depend on the collation of the database.
create table users (
  id text collate "C" not null,
  clerk_id text collate "C" not null,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  constraint users_pkey primary key (id),
  constraint users_clerk_id_is_unique unique (clerk_id),
  constraint users_clerk_id_within_bounds check (char_length(clerk_id) between 1 and 255)
);

-- ListUsers, newest first.
create index users_by_create_time on users (create_time, id);
