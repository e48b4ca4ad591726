-- no-transaction
-- ListModels with shutting_down_before, and ListTemplates with model_shutting_down_before.
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create index concurrently openai_models_by_shutdown_date on openai_models (shutdown_date)
where shutdown_date is not null;
