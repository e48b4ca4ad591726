-- compatible-from: 0013
-- The key that a key was made with. It is valid only while that one is.
alter table api_keys
  add column parent_id text collate "C",
  add constraint api_keys_belong_to_a_parent foreign key (parent_id) references api_keys (id) on delete cascade
    not valid;
