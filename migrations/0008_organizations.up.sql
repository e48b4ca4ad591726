create type organization_role as enum ('admin', 'member', 'viewer');

create table organizations (
  id text collate "C" not null,
  name text collate "C" not null,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint organizations_pkey primary key (id),
  constraint organizations_name_within_bounds check (char_length(name) between 1 and 128)
);

create table organization_members (
  id text collate "C" not null,
  organization_id text collate "C" not null,
  user_id text collate "C" not null,
  role organization_role not null,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  version bigint not null default 1,
  constraint organization_members_pkey primary key (id),
  constraint organization_members_organization_and_user_are_unique unique (organization_id, user_id),
  constraint organization_members_belong_to_an_organization foreign key (organization_id)
    references organizations (id) on delete cascade,
  constraint organization_members_belong_to_a_user foreign key (user_id) references users (id) on delete cascade
);

-- ListMembers, the oldest first.
create index organization_members_by_organization on organization_members (organization_id, create_time, id);
-- The organizations of a user: ListOrganizations, and what a user may read.
create index organization_members_by_user on organization_members (user_id, organization_id);
