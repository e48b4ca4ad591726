-- squawk-ignore-file ban-drop-table
drop table assistants;
drop table assistant_copying;
drop table assistant_strays;
drop function note_assistant();
drop function tell_assistant();
drop type assistant_state;
