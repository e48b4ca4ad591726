"""A signal before the service serves ends it there and then, and the embedded PostgreSQL with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from service.database.migrate import LOCK_KEY
from tests.conftest import Database


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_a_start_that_waits(new_database: Callable[[], str], number: signal.Signals) -> None:
    database = Database(new_database())
    database.query("select pg_advisory_lock(%s)", (LOCK_KEY,))
    environment = {**os.environ, "OMNIFLO_DATABASE_URL": database.url, "OMNIFLO_LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "service", "serve", "--migrate"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            polls = "select count(*) from pg_stat_activity where datname = current_database() and query like %s"
            while database.query(polls, ("select pg_try_advisory_lock%",)) == [(0,)]:
                assert process.poll() is None
            process.send_signal(number)
            output, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert b"Serving" not in output
    assert b"Traceback" not in output
    database.close()
