-- ListModels with shutting_down_before, and ListTemplates with model_shutting_down_before. There are few models: building
-- it takes no longer than a write waits anyway.
-- squawk-ignore require-concurrent-index-creation
create index openai_models_by_shutdown_date on openai_models (shutdown_date) where shutdown_date is not null;
