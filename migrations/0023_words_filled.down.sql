-- The words stay: taking back the trigger makes them anew.
select;
