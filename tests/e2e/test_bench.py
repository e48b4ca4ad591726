"""The benchmarks on a running service: a contract that has moved on is noticed here, and not when somebody measures."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from bench import content, edits, revisions, works
from bench.content import Database
from bench.revisions import MANY, PLAIN, TWIN, Options, Result
from service.database import embedded
from service.interceptors.consistency import STRONG
from tests.conftest import Api

TEMPLATES = 600
"""The works read the five hundredth."""


@pytest.fixture
def filled(api: Api, url: str, postgres: embedded.Server) -> Iterator[Database]:
    """The database of the server of the tests, filled for the benchmarks."""
    del api
    database = superuser(url, postgres)
    content.fill(database, templates=TEMPLATES, users=TEMPLATES)
    yield database
    database.close()


def superuser(url: str, postgres: embedded.Server) -> Database:
    return Database(postgres.admin_url.replace("/postgres?", f"/{url.partition('?')[0].rpartition('/')[2]}?"))


def test_the_comparison_gets_what_it_expects_of_the_service(
    filled: Database, channel: grpc.Channel, new_database: Callable[[], str], postgres: embedded.Server
) -> None:
    for work in works.works(filled).values():
        assert work.call(channel).answer_size > 0
    seed = superuser(new_database(), postgres)
    content.copy_to_seed(filled, seed)
    assert seed.query('select count(*) from "Template"') == [(TEMPLATES,)]
    seed.close()


def test_templates_with_many_revisions_are_measured(filled: Database, channel: grpc.Channel, tmp_path: Path) -> None:
    options = Options(TEMPLATES, rounds=1, calls=2, long_edits=2, is_quick=True)
    calls = {
        kind: call
        for kind, call in revisions.calls(dict.fromkeys((PLAIN, TWIN, MANY), channel)).items()
        if kind.consistency == STRONG
    }
    are_plain = {kind: kind.read in {PLAIN, TWIN} for kind in calls}
    p50_ms = revisions.measured({kind: call for kind, call in calls.items() if are_plain[kind]}, options)
    revisions.revise(filled)
    p50_ms |= revisions.measured({kind: call for kind, call in calls.items() if not are_plain[kind]}, options)
    disk = edits.measured(filled, TEMPLATES, options.long_edits)
    assert [of.texts > 0 for of in disk.values()] == [False, True, True]

    _, table = revisions.write(Result({}, options, p50_ms, disk), tmp_path)
    text = table.read_text()
    assert text.count("| no conclusion") == len(calls) - sum(are_plain.values()) == 9
