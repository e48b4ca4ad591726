-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-column

alter table template_tools drop column strict;
