-- compatible-from: 0025
-- Until when nobody asks the server that copies are made at, because it said so or has just failed.
alter table assistant_copying add column quiet_time timestamptz;
