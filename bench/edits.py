"""What revisions take on the disk: what their tables grow by when templates are edited."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pydoc_data.topics import topics
from typing import NamedTuple

from bench.content import Database, id_of
from bench.report import rows

TEMPLATES, EDITS = 200, 10
SHORT, LONG = 1_300, 250_000
"""Characters that instructions have at least."""
LONGEST_SENTENCE = 250


class Disk(NamedTuple):
    """What the tables of revisions grew by, in bytes."""

    revisions: int
    rows: int
    texts: int


def measured(database: Database, templates: int, long_edits: int) -> dict[str, Disk]:
    """Edit some of that many templates of a database, and answer what each kind of edit took."""
    sentences = [sentence for sentence in _sentences() if len(sentence) <= LONGEST_SENTENCE]
    short, long = _beginning(sentences, SHORT), _beginning(sentences, LONG)
    others = sentences[len(long) :]
    last = id_of("template", templates)
    ids = [id_of("template", number) for number in range(1, min(TEMPLATES, templates - 1) + 1)]

    def write(text: Sequence[str], ids: Sequence[str]) -> None:
        database.query("update templates set instructions = %s where id = any(%s)", [" ".join(text), ids])

    def edit(text: list[str], ids: Sequence[str], count: int) -> None:
        for number in range(count):
            # Prime, so that the sentences are all over the text.
            text[number * 7919 % len(text)] = others[number]
            write(text, ids)

    def set_temperature() -> None:
        for number in range(EDITS):
            database.query("update templates set temperature = 1 + 0.1 * %s where id = any(%s)", [number, ids])

    def grown(revisions: int, change: Callable[[], None]) -> Disk:
        before = _sizes(database)
        change()
        return Disk(revisions, *(after - was for after, was in zip(_sizes(database), before, strict=True)))

    write(short, ids)
    write(long, [last])
    size, long_size = (f"{len(' '.join(text)):,} characters" for text in (short, long))
    return {
        f"a setting; instructions of {size}": grown(EDITS * len(ids), set_temperature),
        f"a sentence of {size}": grown(EDITS * len(ids), lambda: edit(short, ids, EDITS)),
        f"a sentence of {long_size}": grown(long_edits, lambda: edit(long, [last], long_edits)),
    }


def table(found: Mapping[str, Disk]) -> str:
    body = [
        [
            name,
            f"{disk.revisions:,}",
            f"{disk.rows / disk.revisions:,.0f}",
            f"{disk.texts / disk.revisions:,.0f}",
            f"{(disk.rows + disk.texts) / disk.revisions:,.0f}",
            f"{(disk.rows + disk.texts) / 1e6:,.1f} MB",
        ]
        for name, disk in found.items()
    ]
    return rows(["what changes", "revisions", "template_revisions", "revision_texts", "bytes a revision", "all"], body)


def _sizes(database: Database) -> tuple[int, int]:
    ((revisions, texts),) = database.query(
        "select pg_total_relation_size('template_revisions'), pg_total_relation_size('revision_texts')"
    )
    return revisions, texts


def _sentences() -> list[str]:
    """Answer the sentences of Python's own help: text that nobody wrote is compressed better or worse."""
    return re.split(r"(?<=[.:?!])\s+", " ".join(topics[name] for name in sorted(topics)))


def _beginning(sentences: Sequence[str], size: int) -> list[str]:
    """Answer the first sentences that are together at least so long."""
    ends = itertools.accumulate(len(sentence) + 1 for sentence in sentences)
    return list(sentences[: next(count for count, end in enumerate(ends, 1) if end > size)])
