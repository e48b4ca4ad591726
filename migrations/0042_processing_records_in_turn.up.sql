-- no-transaction
-- compatible-from: 0025
-- The runs of each user that workers are to take, the oldest first.
create index concurrently processing_records_in_turn on processing_records (user_id, try_time)
  where try_time is not null;
