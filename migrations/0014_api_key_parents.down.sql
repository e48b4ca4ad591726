-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-column

alter table api_keys drop column parent_id;
