"""Point-in-time recovery as docs/backup.md has it: what was deleted at twelve is there at 11:59."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.database import embedded, migrate
from tests.conftest import Database
from tests.e2e.serving import eventually
from tests.e2e.test_docs import blocks
from tests.migrations.conftest import fill, working_on

SECONDS = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can walk to."""
    with tempfile.TemporaryDirectory(prefix="omniflo-recovery-") as made:
        path = Path(made)
        path.chmod(0o755)
        (path / "archive").mkdir()
        (path / "archive").chmod(0o777)
        yield path


@contextmanager
def running(data_dir: Path, *options: str) -> Iterator[tuple[embedded.Server, Database]]:
    """Run a PostgreSQL that takes base backups, and yield a superuser's connection."""
    server = embedded.Server(data_dir, ["-c", "fsync=off", *options])
    with (server._folder / "hba.conf").open("a") as rules:
        rules.write("local replication all peer map=omniflo\n")
    server.start()
    try:
        database = Database(server.admin_url)
        yield server, database
        database.close()
    finally:
        server.stop()


def pasted(block: str, **variables: object) -> None:
    programs = embedded.binaries()
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", block],
        env={"PATH": f"{programs}:{os.environ['PATH']}"} | {name: str(value) for name, value in variables.items()},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_was_deleted_is_there_a_moment_before(folder: Path, url: str) -> None:
    archive, copy, recover = blocks("docs/backup.md", "Point-in-time recovery")
    places = {"ARCHIVE": folder / "archive", "BASE": folder / "base", "RECOVERED": folder / "recovered" / "postgresql"}

    def reached(server: embedded.Server) -> dict[str, object]:
        return {"PGHOST": server.socket_dir, "PGUSER": "postgres", "PGDATABASE": "postgres"}

    with running(folder / "data") as (server, _):
        pasted(archive, **places, **reached(server))
    with running(folder / "data") as (server, database):
        with working_on(server.url, afterwards=url):
            migrate.up(migrate.load())
        pasted(copy, **places, **reached(server))
        fill(database)
        ((moment,),) = database.query("select clock_timestamp()::text")
        time.sleep(0.05)
        database.query("delete from user_template_selections; delete from templates where id = 'p3'")
        ((last,),) = database.query("select pg_walfile_name(pg_switch_wal())")
        archived = "select count(*) from pg_stat_archiver where last_archived_wal >= %s"
        eventually(lambda: database.query(archived, (last,)) == [(1,)], within=SECONDS)
        assert database.query("select id from templates order by id") == [("p1",), ("p2",)]
    (folder / "recovered").mkdir()
    pasted(recover, **places, MOMENT=moment)
    # Ready only when it can be written to.
    with running(folder / "recovered", "-c", "hot_standby=off") as (_, database):
        assert database.query("select id from templates order by id") == [("p1",), ("p2",), ("p3",)]
        assert database.query("select count(*) from user_template_selections") == [(2,)]
        assert database.query("select left(pg_walfile_name(pg_current_wal_lsn()), 8)") == [("00000002",)]
