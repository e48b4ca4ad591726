drop table user_template_selections;
