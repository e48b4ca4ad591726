-- no-transaction
-- squawk-ignore ban-concurrent-index-creation-in-transaction
drop index concurrently openai_models_by_shutdown_date;
