-- squawk-ignore require-concurrent-index-deletion
drop index openai_models_by_shutdown_date;
