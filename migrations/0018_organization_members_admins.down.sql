-- no-transaction
drop index concurrently organization_members_admins;
