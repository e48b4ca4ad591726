drop table openai_models;
