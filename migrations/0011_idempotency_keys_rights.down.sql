-- squawk-ignore ban-drop-column
alter table idempotency_keys drop column rights;
