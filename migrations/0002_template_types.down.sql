drop table template_tools;
drop table template_types;
drop type openai_tool_type;
