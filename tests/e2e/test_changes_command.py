"""`changes`: what happened, read without a server."""

import json
import re
from collections.abc import Callable

import pytest

from tests.conftest import Database
from tests.e2e.test_process import run


@pytest.fixture(scope="module")
def url(new_database: Callable[[], str]) -> str:
    """The URL of a database with a log."""
    url = new_database()
    assert run("migrate", "up", database_url=url).returncode == 0
    database = Database(url)
    database.query(
        "insert into users (id, clerk_id) values ('u1', 'user_1'), ('u2', 'user_2');"
        "begin; set local omniflo.actor = 'user:u1'; set local omniflo.method = 'ImportModel';"
        "insert into openai_models (id, openai_id, name) values ('m1', 'gpt', 'GPT'); commit;"
        "update changes set time = '2026-01-01' where resource_id = 'u1'"
    )
    database.close()
    return url


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ["create model m1", "create user u2", "create user u1"]),
        (["--limit", "1"], ["create model m1"]),
        (["--kind", "user"], ["create user u2", "create user u1"]),
        (["--kind", "user", "--kind", "model", "--resource", "m1"], ["create model m1"]),
        (["--actor", "user:u1"], ["create model m1"]),
        (["--method", "ImportModel"], ["create model m1"]),
        (["--organization", "g1"], []),
        (["--until", "2026-01-02"], ["create user u1"]),
        (["--since", "2026-01-02", "--kind", "user"], ["create user u2"]),
        (["--since", "2026-01-01T00:00:00+01:00", "--until", "2026-01-01T00:00:00+00:00"], []),
    ],
)
def test_it_lists_the_newest_first(url: str, arguments: list[str], wanted: list[str]) -> None:
    done = run("changes", "list", *arguments, database_url=url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [" ".join(line.split()[2:5]) for line in lines] == wanted
    for line in lines:
        assert re.fullmatch(r"\d+  \S+Z  \w+ \w+ \S+  (sql:omniflo|user:u1 by ImportModel)", line)


def test_it_shows_one_change_whole(url: str) -> None:
    id = run("changes", "list", "--limit", "1", database_url=url).stdout.split()[0]
    shown = json.loads(run("changes", "show", id, database_url=url).stdout)
    assert (shown["id"], shown["kind"], shown["actor"], shown["before"]) == (int(id), "model", "user:u1", None)
    assert shown["after"]["openai_id"] == "gpt"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "4711"], "there is no change 4711, or no longer"),
        (["show", "x"], "must be a number from 1 on"),
        (["list", "--limit", "0"], "must be a number from 1 on"),
        (["list", "--since", "yesterday"], "must be a day or a time of ISO 8601"),
        (["list", "--kind", "cat"], "invalid choice: 'cat'"),
        ([], "the following arguments are required: action"),
    ],
)
def test_what_it_cannot_do_is_said(url: str, arguments: list[str], said: str) -> None:
    done = run("changes", *arguments, database_url=url)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
