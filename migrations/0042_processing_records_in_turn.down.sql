-- no-transaction
drop index concurrently processing_records_in_turn;
