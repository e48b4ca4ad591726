-- no-transaction
-- compatible-from: 0013
-- The words of the templates that were there before the trigger, a thousand in each transaction. What is right already
-- stays, so this may be interrupted and run again.
do $$
declare
  done text collate "C" := '';
begin
  loop
    -- Caches are told of nothing: no response has words.
    perform set_config('omniflo.changed', '*', true);
    with batch as (
      select id, template_words(title, description) as words from templates
      where id > done order by id limit 1000 for no key update
    ), filled as (
      update templates t set words = batch.words from batch where t.id = batch.id and t.words <> batch.words
    )
    select max(id) into done from batch;
    exit when done is null;
    commit;
  end loop;
end
$$;
