do $$
declare
  resources regclass;
begin
  for resources in select tgrelid::regclass from pg_trigger where tgname = 'record_changes' loop
    execute format('drop trigger record_changes on %s', resources);
    execute format('drop trigger record_truncation on %s', resources);
  end loop;
end
$$;

drop procedure record_changes(regclass, text, text []);
drop function purge_changes(integer, integer);
drop function renew_epoch();
drop function record_change();
drop table changes;
-- squawk-ignore ban-drop-column
alter table idempotency_keys drop column epoch, drop column transaction_id;
drop table registry;
drop function keep_registry();
