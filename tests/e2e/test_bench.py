"""The benchmarks on a running service: a contract that has moved on is noticed here, and not when somebody measures."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from bench import assistants, content, edits, revisions, usage, works
from bench.content import Database
from bench.revisions import MANY, PLAIN, TWIN, Options, Result
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceStub
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


def test_usage_is_measured(filled: Database, channel: grpc.Channel, tmp_path: Path) -> None:
    options = usage.Options(40, 40, days=33, hours_days=1, batches=1, rounds=1, calls=1, is_quick=True)
    usage.fill(filled, options)
    recorded = [usage.Recording(2.0, 1.0, 1.0)]
    result = usage.Result(
        {},
        options,
        recorded,
        recorded,
        1.0,
        9,
        1.0,
        usage.measured(UsageServiceStub(channel), options, time.process_time),
    )
    (table,) = usage.write(result, tmp_path)
    text = table.read_text()
    assert "ratio: 1.00" in text
    assert text.count("| year |") == text.count("| day |") == 9


def test_writes_are_measured_while_templates_are_copied(
    filled: Database, channel: grpc.Channel, tmp_path: Path
) -> None:
    options = assistants.Options(rounds=1, calls=3, is_quick=True)
    before = filled.query("select count(*) from templates")[0][0]

    def used() -> dict[str, float]:
        return {assistants.JOBS: time.monotonic(), "worker": time.monotonic(), "": time.monotonic()}

    names = (assistants.OFF, assistants.ON)
    turns = assistants.measured(dict.fromkeys(names, channel), options, dict.fromkeys(names, used), lambda: None)
    assert filled.query("select count(*) from templates") == [(before + 2 * 2 * 3,)], "a round to warm up, and one"
    (table,) = assistants.write(assistants.Result({}, options, turns, 3), tmp_path)
    assert table.read_text().count("no conclusion") == 2
