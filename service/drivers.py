"""Keeps Peewee from loading a driver that it does not use, which costs each process 15 MB and 0.15 s."""

import sys
from importlib import import_module

# It loads each that is installed, and works with psycopg2. The other one is for jobs.
if not {"peewee", "psycopg"} & sys.modules.keys():
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    # Its arrays are in a module of their own, which does the same.
    import_module("playhouse.postgres_ext")
    del sys.modules["psycopg"]
