-- no-transaction
drop index concurrently api_keys_by_end;
