-- no-transaction
-- compatible-from: 0013
-- Whether an organization has an ADMIN, which every write in it asks.
create index concurrently organization_members_admins on organization_members (organization_id) where role = 'admin';
