-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-constraint

alter table api_keys
  drop constraint api_keys_belong_to_a_parent,
  add constraint api_keys_belong_to_a_parent foreign key (parent_id) references api_keys (id) on delete cascade
    not valid;
