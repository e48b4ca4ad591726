-- squawk-ignore-file ban-drop-table
drop table processing_records;
drop function move_processing_record();
drop type processing_runner;
drop type processing_status;
