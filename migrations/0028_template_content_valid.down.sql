-- Taking back is for a database that nobody uses meanwhile:
-- squawk-ignore-file ban-drop-constraint

alter table templates
  drop constraint templates_variables_within_bounds,
  drop constraint templates_response_format_within_bounds,
  drop constraint templates_max_output_tokens_within_bounds,
  drop constraint templates_top_p_within_bounds,
  drop constraint templates_tool_choice_within_bounds,
  drop constraint templates_disabled_tools_within_bounds,
  drop constraint templates_tags_within_bounds,
  add constraint templates_variables_within_bounds check (variables_fit(variables, 64, 64, 128, 256)) not valid,
  add constraint templates_response_format_within_bounds check (octet_length(response_format) <= 65536) not valid,
  add constraint templates_max_output_tokens_within_bounds check (max_output_tokens between 16 and 1000000) not valid,
  add constraint templates_top_p_within_bounds check (top_p between 0 and 1) not valid,
  add constraint templates_tool_choice_within_bounds check (tool_choice ~ '^[A-Za-z0-9_-]{1,64}$') not valid,
  add constraint templates_disabled_tools_within_bounds
    check (cardinality(disabled_tools) <= 128 and each_text_fits(disabled_tools, 64, '^[A-Za-z0-9_-]+$')) not valid,
  add constraint templates_tags_within_bounds
    check (cardinality(tags) <= 16 and each_text_fits(tags, 64, '^[a-z0-9][a-z0-9._/-]*$')) not valid;
