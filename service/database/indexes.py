"""The indexes that migrations make, as their files say; those of constraints, which cannot be dropped alone, aside."""

import re
from collections.abc import Iterable, Mapping

_NAME = r'"?(?P<{}>\w+)"?'
_CHANGE = re.compile(
    rf"create (?:unique )?index (?:concurrently )?(?:if not exists )?{_NAME.format('made')} on (?:only )?"
    rf"{_NAME.format('table')}|drop index (?:concurrently )?(?:if exists )?{_NAME.format('dropped')}"
    rf"|drop table (?:if exists )?{_NAME.format('gone')}",
    re.IGNORECASE,
)


def made_by(files: Iterable[str]) -> Mapping[str, str]:
    """Return the statement that makes each index, by its name, of migrations in their order."""
    statements: dict[str, str] = {}
    tables: dict[str, str] = {}
    for text in files:
        for statement in re.sub(r"--[^\n]*", "", text).split(";"):
            words = " ".join(statement.split())
            match = _CHANGE.match(words)
            if match is None:
                continue
            if match["made"]:
                statements[match["made"]], tables[match["made"]] = words, match["table"]
            for name in [name for name, table in tables.items() if match["gone"] == table or match["dropped"] == name]:
                del statements[name], tables[name]
    return statements
