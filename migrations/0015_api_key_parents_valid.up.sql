-- compatible-from: 0013
alter table api_keys validate constraint api_keys_belong_to_a_parent;
