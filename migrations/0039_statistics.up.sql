-- compatible-from: 0025
-- How long statements took, by the operation that executed them, in slots of ten minutes.
create table statement_times (
  slot timestamptz not null,
  name text collate "C" not null,
  calls bigint not null,
  seconds double precision not null,
  slowest double precision not null,
  constraint statement_times_pkey primary key (slot, name)
);

-- What the database said of itself, once a minute.
create table statistics_samples (
  time timestamptz not null,
  figures jsonb not null,
  -- Of each table, once an hour.
  tables jsonb,
  constraint statistics_samples_pkey primary key (time)
);
