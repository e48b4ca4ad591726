drop table organization_members;
drop table organizations;
drop type organization_role;
