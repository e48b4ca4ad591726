-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-constraint

alter table openai_models
  drop constraint openai_models_input_price_within_bounds,
  drop constraint openai_models_cached_input_price_within_bounds,
  drop constraint openai_models_output_price_within_bounds,
  add constraint openai_models_input_price_within_bounds check (input_price between 0 and 1000000) not valid,
  add constraint openai_models_cached_input_price_within_bounds
    check (cached_input_price between 0 and 1000000) not valid,
  add constraint openai_models_output_price_within_bounds check (output_price between 0 and 1000000) not valid;
