"""How long and how often the tests look for what goes wrong rarely: a little in each run, a lot in `make soak`.

TEST_SOAK=on asks for a lot. The tests that take their numbers from here are marked `soak`.
"""

import os

IS_SOAK = os.environ.get("TEST_SOAK") == "on"

HISTORY_SECONDS = 300.0 if IS_SOAK else 10.0
"""For how long readers look for an old value after a new one."""

CACHED_WRITES = 2_000 if IS_SOAK else 200
"""Writes of which each has to show in a cache."""

HOSTILE_CALLS = 40_000 if IS_SOAK else 2_500
"""Different ones; those that are refused are sent again, at least once."""

SWITCHES = 400 if IS_SOAK else 25
"""Of a default or a selection, by each of 16 clients."""

EDITS = 40 if IS_SOAK else 5
"""By each of 16 clients, of one template."""

EDITED = 2_000 if IS_SOAK else 200
"""Changes of a template, of its type, of its tools and labels, after which an old revision is rendered as before."""

ROLES = 128 if IS_SOAK else 16
"""Changes of the role of another member, by each of 16 clients."""

MOVED_TEMPLATES = 50_000 if IS_SOAK else 2_000
"""Templates of one model that is replaced."""

SECRETS = 1_000 if IS_SOAK else 200
"""Keys of which no secret may be found anywhere."""

HOSTILE_SECONDS = 60.0 if IS_SOAK else 3.0
"""For how long strangers hold what they can of a server."""

LOGGED_SECONDS = 300.0 if IS_SOAK else 4.0
"""For how long 16 writers write what four readers must read, each change once."""

KILLS = 30 if IS_SOAK else 3
"""Of PostgreSQL meanwhile."""

OPEN_CHANGES = 200_000 if IS_SOAK else 20_000
"""That happen while a transaction stays open."""

LOG_ROWS = 1_000_000 if IS_SOAK else 50_000
"""Of a log of changes that is large enough for a wrong plan to be dear."""

JOB_SECONDS = 300.0 if IS_SOAK else 15.0
"""For how long workers are killed that run jobs."""

SAVED_TEMPLATES = 100_000 if IS_SOAK else 2_000
"""Templates, with their log, in a backup that is restored."""

KILLED_BACKUPS = 50 if IS_SOAK else 3
"""Commands that are killed while they make a backup."""

DAILY_BACKUPS = 20 if IS_SOAK else 4
"""Days on which a backup is made, verified, and old ones deleted."""

FAULTY_RUNS = 2_000 if IS_SOAK else 40
"""Files that are uploaded and run while OpenAI does what it should in two requests of three."""

DURATIONS = 200_000 if IS_SOAK else 20_000
"""Of usages whose percentiles are compared with the exact ones."""

KILLED_ROLL_UPS = 60 if IS_SOAK else 4
"""Sessions that are ended while they sum usage up."""

COPIED_TEMPLATES = 200 if IS_SOAK else 24
"""Templates that are written, changed and deleted while workers are killed that copy them."""

COPYING_KILLS = 30 if IS_SOAK else 3
"""Of those workers."""

POSTGRESQL_KILLS = 2 if IS_SOAK else 1
"""Of PostgreSQL meanwhile."""

LATE_SECONDS = 2.0 if IS_SOAK else 0.2
"""After how long a new assistant is listed; half as long again, and it has settled."""

FOREIGN_ASSISTANTS = 50 if IS_SOAK else 5
"""Assistants of others that stay as they are meanwhile."""

COPYING_WORKERS = (1, 2) if IS_SOAK else (2,)
"""How many workers copy at once."""

TEMPLATES_OF_A_TYPE = 1_000 if IS_SOAK else 24
"""Templates that are copied again because their type changes."""

PROCESSED_FILES = 1_000 if IS_SOAK else 60
"""Files that are uploaded and run while workers are killed and OpenAI does what it should not."""

ODD_CALLS = 100_000 if IS_SOAK else 600
"""Calls with names, ids and headers that nobody has used before, which are to add nothing to the metrics."""

FAILOVERS = 3 if IS_SOAK else 1
"""Of a PostgreSQL that is killed to its standby."""

MIXED_SECONDS = 1_200.0 if IS_SOAK else 10.0
"""For how long callers write and read while one thing after another fails."""
