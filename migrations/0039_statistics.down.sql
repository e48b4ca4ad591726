-- squawk-ignore-file ban-drop-table
drop table statistics_samples;
drop table statement_times;
