-- compatible-from: 0025
-- Runs that the registry does: workers find them here, and nothing notifies.
alter table processing_records
  -- How often it was asked for.
  add column attempt bigint not null default 1,
  -- Whether the registry uploaded the file, and so may delete it.
  add column owns_file boolean not null default false,
  -- When a worker is to take it, or take it over from whoever has it. Null where there is nothing to do.
  add column try_time timestamptz,
  -- Who has it; a new name each time that it is taken.
  add column holder text collate "C",
  -- When the request to OpenAI was begun.
  add column sent_time timestamptz,
  -- The number of the next event of OpenAI's: those before it are kept.
  add column next_event bigint not null default 0,
  -- How often OpenAI has put it off.
  add column tries bigint not null default 0;

-- What workers look for.
-- squawk-ignore require-concurrent-index-creation
create index processing_records_by_try_time on processing_records (try_time) where try_time is not null;
-- Whether something else uses a file that is to be deleted.
-- squawk-ignore require-concurrent-index-creation
create index processing_records_by_openai_file_id on processing_records (openai_file_id) where openai_file_id <> '';

-- What is sent to OpenAI, as it was rendered when the record was created. It goes when the run has completed.
create table processing_inputs (
  record_id text collate "C" not null,
  body text not null,
  input_text text not null,
  -- The JSON Schema of the answer, if the template has one.
  response_format text,
  constraint processing_inputs_pkey primary key (record_id),
  constraint processing_inputs_belong_to_a_record foreign key (record_id)
    references processing_records (id) on delete cascade
);

-- The text of a run as it comes. It goes when the run ends.
create table processing_output (
  record_id text collate "C" not null,
  seq bigint not null,
  text text not null,
  constraint processing_output_pkey primary key (record_id, seq),
  constraint processing_output_belongs_to_a_record foreign key (record_id)
    references processing_records (id) on delete cascade
);

-- What is to be deleted or cancelled at OpenAI.
create type openai_leftover_kind as enum ('file', 'response');

create table openai_leftovers (
  kind openai_leftover_kind not null,
  id text collate "C" not null,
  try_time timestamptz not null default clock_timestamp(),
  tries bigint not null default 0,
  constraint openai_leftovers_pkey primary key (kind, id)
);

create index openai_leftovers_by_try_time on openai_leftovers (try_time);

create or replace function move_processing_record() returns trigger
language plpgsql
as $$
begin
  if tg_op = 'UPDATE' then
    if
      new.status <> old.status and (old.status >= 'completed' or new.status < old.status)
      -- Another attempt begins anew.
      and not (
        new.runner = 'registry' and new.attempt = old.attempt + 1
        and old.status in ('failed', 'cancelled') and new.status = 'processing'
      )
    then
      raise check_violation using
        message = 'the status of a record goes forward only',
        constraint = 'processing_records_status_goes_forward';
    end if;
    if new.runner <> old.runner then
      raise check_violation using
        message = 'the runner of a record stays', constraint = 'processing_records_runner_stays';
    end if;
  end if;
  if new.runner = 'caller' and new.try_time is not null then
    raise check_violation using
      message = 'the registry does not run what a caller runs', constraint = 'processing_records_run_by_their_runner';
  end if;
  new.complete_time := case when new.status >= 'completed' then coalesce(new.complete_time, clock_timestamp()) end;
  return new;
end
$$;

drop trigger record_changes on processing_records;
drop trigger record_cancellation on processing_records;
create trigger record_changes after insert or delete on processing_records
for each row execute function record_change(
  'processing_record',
  '{update_time,filename,error_reason,error_message,results,output_text,try_time,holder,sent_time,next_event,tries}'
);
create trigger record_cancellation after update of status on processing_records
for each row when (new.status = 'cancelled' and old.status <> 'cancelled') execute function record_change(
  'processing_record',
  '{update_time,filename,error_reason,error_message,results,output_text,try_time,holder,sent_time,next_event,tries}'
);

-- What goes with its user or its organization leaves nothing at OpenAI. The argument is the column that refers to it.
create function leave_openai_files() returns trigger
language plpgsql
as $$
begin
  execute format(
    $sql$
    insert into openai_leftovers (kind, id)
    select distinct 'file'::openai_leftover_kind, openai_file_id from processing_records
    where %1$I = $1 and openai_file_id <> '' and owns_file
    union all
    select 'response', response_id from processing_records
    where %1$I = $1 and response_id <> '' and runner = 'registry' and status = 'processing'
    on conflict do nothing
    $sql$,
    tg_argv[0]
  ) using old.id;
  return old;
end
$$;

create trigger leave_openai_files before delete on users for each row execute function leave_openai_files('user_id');
create trigger leave_openai_files before delete on organizations
for each row execute function leave_openai_files('organization_id');
