-- compatible-from: 0025
-- Records of runs: a template with a file, and what came of it.
create type processing_status as enum ('uploading', 'processing', 'completed', 'failed', 'cancelled');

create type processing_runner as enum ('registry', 'caller');

create table processing_records (
  id text collate "C" not null,
  filename text not null,
  user_id text collate "C" not null,
  -- Null is platform-wide.
  organization_id text collate "C",
  -- OpenAI's, empty until it is known.
  openai_file_id text collate "C" not null default '',
  status processing_status not null,
  processing_time interval,
  error_reason text not null default '',
  error_message text not null default '',
  -- What a template was called and said outlives it, so this refers to none.
  template_id text collate "C" not null,
  -- 0 where it is not known.
  template_revision bigint not null default 0,
  template_type_revision bigint not null default 0,
  model text not null default '',
  results text not null default '',
  output_text text not null default '',
  response_id text collate "C" not null default '',
  -- All of them, or none.
  input_tokens bigint,
  cached_tokens bigint,
  output_tokens bigint,
  reasoning_tokens bigint,
  runner processing_runner not null,
  create_time timestamptz not null default statement_timestamp(),
  update_time timestamptz not null default statement_timestamp(),
  complete_time timestamptz,
  version bigint not null default 1,
  constraint processing_records_pkey primary key (id),
  constraint processing_records_belong_to_a_user foreign key (user_id) references users (id) on delete cascade,
  -- They stay when the user leaves.
  constraint processing_records_belong_to_an_organization foreign key (organization_id)
    references organizations (id) on delete cascade,
  constraint processing_records_filename_within_bounds check (char_length(filename) between 1 and 255),
  constraint processing_records_openai_file_id_within_bounds check (char_length(openai_file_id) <= 128),
  constraint processing_records_processing_time_within_bounds
    check (processing_time between interval '0' and interval '720 hours'),
  constraint processing_records_error_reason_within_bounds check (error_reason ~ '^[A-Za-z0-9_.-]{0,64}$'),
  constraint processing_records_error_message_within_bounds check (char_length(error_message) <= 2000),
  constraint processing_records_template_id_within_bounds check (char_length(template_id) between 1 and 64),
  constraint processing_records_template_revision_within_bounds check (template_revision >= 0),
  constraint processing_records_template_type_revision_within_bounds check (template_type_revision >= 0),
  constraint processing_records_model_within_bounds check (char_length(model) <= 128),
  constraint processing_records_results_within_bounds check (octet_length(results) <= 786432),
  constraint processing_records_output_text_within_bounds check (octet_length(output_text) <= 524288),
  constraint processing_records_response_id_within_bounds check (char_length(response_id) <= 128),
  constraint processing_records_usage_within_bounds check (
    num_nulls(input_tokens, cached_tokens, output_tokens, reasoning_tokens) in (0, 4)
    and least(input_tokens, cached_tokens, output_tokens, reasoning_tokens) >= 0
  )
);

-- ListProcessingRecords, newest first.
create index processing_records_by_user on processing_records (user_id, create_time, id);
create index processing_records_by_organization on processing_records (organization_id, create_time, id)
  where organization_id is not null;
-- The purge.
create index processing_records_by_create_time on processing_records (create_time);

-- The status goes forward only, and who runs it stays.
create function move_processing_record() returns trigger
language plpgsql
as $$
begin
  if tg_op = 'UPDATE' then
    if new.status <> old.status and (old.status >= 'completed' or new.status < old.status) then
      raise check_violation using
        message = 'the status of a record goes forward only',
        constraint = 'processing_records_status_goes_forward';
    end if;
    if new.runner <> old.runner then
      raise check_violation using
        message = 'the runner of a record stays', constraint = 'processing_records_runner_stays';
    end if;
  end if;
  new.complete_time := case when new.status >= 'completed' then coalesce(new.complete_time, clock_timestamp()) end;
  return new;
end
$$;

create trigger move_processing_record before insert or update on processing_records
for each row execute function move_processing_record();

-- Of records, the log has that they came, were cancelled and went, and nothing of what is in the file or was made of it:
-- neither their steps nor their results.
create trigger record_changes after insert or delete on processing_records
for each row execute function record_change(
  'processing_record', '{update_time,filename,error_reason,error_message,results,output_text}'
);
create trigger record_cancellation after update of status on processing_records
for each row when (new.status = 'cancelled' and old.status <> 'cancelled') execute function record_change(
  'processing_record', '{update_time,filename,error_reason,error_message,results,output_text}'
);
create trigger record_truncation after truncate on processing_records
execute function record_change('processing_record');
