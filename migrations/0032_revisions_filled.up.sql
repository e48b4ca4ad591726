-- no-transaction
-- compatible-from: 0025
-- The first revision of the templates that were there before, a thousand in each transaction. One that has changed
-- meanwhile has its first revision already, so this may be interrupted and run again.
do $$
declare
  batch text[] := '{}';
begin
  loop
    batch := array(
      select id from templates where id > coalesce(batch[cardinality(batch)], '') order by id limit 1000
    );
    exit when batch = '{}';
    perform keep_template_revision(t, '', '', t.update_time) from templates t where id = any(batch) and revision = 1;
    commit;
  end loop;
end
$$;
