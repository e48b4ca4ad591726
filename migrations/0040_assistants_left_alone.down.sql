-- squawk-ignore-file ban-drop-column
alter table assistant_copying drop column quiet_time;
