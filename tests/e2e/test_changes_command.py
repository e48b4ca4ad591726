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


def test_it_brings_back_what_was_deleted(url: str) -> None:
    database = Database(url)
    database.query(
        "insert into template_types (id, name) values ('t1', 'letters');"
        "insert into template_tools (id, template_type_id, name, type) values ('o1', 't1', 'run', 'code_interpreter');"
        "insert into templates (id, title, instructions, user_id, template_type_id, model_id)"
        " values ('p1', 'One', 'Do it.', 'u1', 't1', 'm1');"
        "delete from templates; delete from template_types; delete from openai_models"
    )

    def undelete(id: str) -> tuple[int, str]:
        done = run("changes", "undelete", id, database_url=url)
        return done.returncode, done.stdout + done.stderr

    assert undelete("p1") == (1, 'TEMPLATE_TYPE_NOT_FOUND: the template type does not exist {"name": "letters"}\n')
    assert undelete("t1") == (0, "template_type t1 is there again\n")
    assert undelete("m1") == (0, "model m1 is there again\n")
    assert undelete("p1") == (0, "template p1 is there again\n")
    assert undelete("p1")[0] == undelete("t1")[0] == 1
    kinds = "model, organization, template, template type"
    assert undelete("u1") == (1, f"the log has no deletion of a {kinds} u1, or no longer\n")
    assert database.query("select t.title, o.name from templates t, template_tools o") == [("One", "run")]
    newest = "select actor, method from changes where kind = 'template' order by seq desc limit 1"
    assert database.query(newest) == [("system", "changes")]
    database.close()
