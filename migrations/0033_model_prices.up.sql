-- compatible-from: 0025
-- What a million tokens cost, in USD; null when unknown.
alter table openai_models
  add column input_price numeric,
  add column cached_input_price numeric,
  add column output_price numeric,
  add constraint openai_models_input_price_within_bounds check (input_price between 0 and 1000000) not valid,
  add constraint openai_models_cached_input_price_within_bounds
    check (cached_input_price between 0 and 1000000) not valid,
  add constraint openai_models_output_price_within_bounds check (output_price between 0 and 1000000) not valid;
