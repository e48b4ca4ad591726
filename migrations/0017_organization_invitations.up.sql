-- compatible-from: 0013
-- Who is invited to an organization: a member only after accepting.
create table organization_invitations (
  id text collate "C" not null,
  organization_id text collate "C" not null,
  user_id text collate "C" not null,
  role organization_role not null,
  -- Null where calls are not authenticated.
  inviter_id text collate "C",
  expire_time timestamptz not null,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  constraint organization_invitations_pkey primary key (id),
  constraint organization_invitations_organization_and_user_are_unique unique (organization_id, user_id),
  constraint organization_invitations_belong_to_an_organization foreign key (organization_id)
    references organizations (id) on delete cascade,
  constraint organization_invitations_are_for_a_user foreign key (user_id) references users (id) on delete cascade,
  -- Who leaves takes the invitations along.
  constraint organization_invitations_are_made_by_a_member foreign key (organization_id, inviter_id)
    references organization_members (organization_id, user_id) on delete cascade
);

-- ListInvitations, newest first.
create index organization_invitations_by_organization on organization_invitations (organization_id, create_time, id);
create index organization_invitations_by_user on organization_invitations (user_id, create_time, id);
-- The invitations that end with the membership of who made them.
create index organization_invitations_by_inviter on organization_invitations (inviter_id, organization_id)
  where inviter_id is not null;
-- The purge of those that have expired.
create index organization_invitations_by_expire_time on organization_invitations (expire_time);
