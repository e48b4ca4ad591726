"""The triggers of the database name what has changed as service/tags.py does."""

import re

from service import tags
from service.database import feed, handle
from tests.conftest import Database


def _source(database: Database, function: str) -> str:
    ((source,),) = database.query("select prosrc from pg_proc where proname = %s", (function,))
    return str(source)


def test_the_tags_of_the_triggers_are_those_of_the_service(database: Database) -> None:
    spelled = re.findall(r"note_change\('([^']*)'", _source(database, "note_row"))
    assert {tag.removesuffix(":") for tag in spelled} == {*tags.PREFIXES, tags.EVERYTHING}
    makers = (tags.template, tags.type, tags.default, tags.model, tags.user)
    assert {make("id") for make in makers} == {f"{prefix}:id" for prefix in tags.PREFIXES}


def test_changes_are_told_where_the_service_looks_for_them(database: Database) -> None:
    source = _source(database, "note_change")
    assert set(re.findall(r"pg_notify\('([^']*)'", source)) == {feed.CHANNEL}
    assert set(re.findall(r"set_config\('([^']*)'", source)) == {handle.CHANGED}
    assert set(re.findall(r"current_setting\('([^']*)'", source)) == {handle.CHANGED}
