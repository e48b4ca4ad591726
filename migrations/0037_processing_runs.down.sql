-- squawk-ignore-file ban-drop-column, ban-drop-table, require-concurrent-index-deletion
drop index processing_records_by_openai_file_id;
drop trigger leave_openai_files on users;
drop trigger leave_openai_files on organizations;
drop function leave_openai_files();
drop trigger record_changes on processing_records;
drop trigger record_cancellation on processing_records;
create trigger record_changes after insert or delete on processing_records
for each row execute function record_change(
  'processing_record', '{update_time,filename,error_reason,error_message,results,output_text}'
);
create trigger record_cancellation after update of status on processing_records
for each row when (new.status = 'cancelled' and old.status <> 'cancelled') execute function record_change(
  'processing_record', '{update_time,filename,error_reason,error_message,results,output_text}'
);

create or replace function move_processing_record() returns trigger
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

drop table openai_leftovers;
drop type openai_leftover_kind;
drop table processing_output;
drop table processing_inputs;
alter table processing_records
  drop column attempt,
  drop column owns_file,
  drop column try_time,
  drop column holder,
  drop column sent_time,
  drop column next_event,
  drop column tries;
