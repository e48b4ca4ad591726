drop table api_keys;
drop type api_key_scope;
