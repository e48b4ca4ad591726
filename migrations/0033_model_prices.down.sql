-- squawk-ignore-file ban-drop-column
alter table openai_models drop column input_price, drop column cached_input_price, drop column output_price;
