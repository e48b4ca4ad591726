"""The triggers of the database name what has changed as service/tags.py does."""

import re

from service import tags
from service.database import handle
from tests.conftest import Database
from tests.migrations.conftest import fill


def _source(database: Database, function: str) -> str:
    ((source,),) = database.query("select prosrc from pg_proc where proname = %s", (function,))
    return str(source)


def test_the_tags_of_the_triggers_are_those_of_the_service(database: Database) -> None:
    source = _source(database, "record_change")
    spelled = re.findall(r"'([a-z]+):' \|\|", source)
    assert set(spelled) - {"sql"} == tags.PREFIXES
    assert f"tags := '{{{tags.EVERYTHING}}}'" in source
    makers = (tags.template, tags.type, tags.default, tags.model, tags.user)
    assert {make("id") for make in makers} == {f"{prefix}:id" for prefix in tags.PREFIXES}


def test_a_transaction_is_told_what_it_has_changed_where_the_service_asks(database: Database) -> None:
    settings = re.findall(r"_(?:setting|config)\('([^']*)'", _source(database, "record_change"))
    assert [name for name in settings if name == handle.WRITTEN] == [handle.WRITTEN] * 2


def _written(database: Database, sql: str) -> list[str]:
    """Answer what a transaction is told after the statements."""
    database.query(f"begin; {sql}")
    ((text,),) = database.query("select current_setting(%s, true)", (handle.WRITTEN,))
    database.query("rollback")
    return str(text or "").splitlines()


def test_a_transaction_that_changes_some_hundred_things_is_told_one_tag_for_everything(database: Database) -> None:
    fill(database)
    title = "update templates set title = 'Other' where id"
    assert _written(database, "update templates set title = title") == []
    assert _written(database, "insert into template_types (id, name) values ('t9', 'nine')") == [""]
    assert _written(database, f"{title} = 'p1'; savepoint s; {title} = 'p2'; rollback to s; {title} = 'p3'") == [
        "",
        *("template:p1", "default:t1"),
        *("template:p3", "default:t2"),
    ]
    again = ";".join(["update templates set is_default = is_default, version = version + 1"] * 300)
    written = _written(database, again)
    assert len("\n".join(written)) < 8200
    assert written[-1] == tags.EVERYTHING
