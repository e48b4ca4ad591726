-- They go with their table.
select;
