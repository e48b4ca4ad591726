"""The database: the only package that imports psycopg2."""
