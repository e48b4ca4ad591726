"""WatchChanges: what is committed is told, once and in order, to whoever watches and resumes."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from omniflo.templates.v1.change_pb2 import Change, ChangeAction, ChangeKind
from omniflo.templates.v1.change_service_pb2 import WatchChangesRequest, WatchChangesResponse
from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import UpdateModelRequest
from service.database import embedded
from service.operations import watches
from service.positions import Position
from tests.conftest import Api, Database, fails
from tests.e2e.clients import connected, say
from tests.e2e.serving import eventually, serving
from tests.e2e.test_faults import dead
from tests.e2e.test_feed_faults import cut, own_postgres, writing, written
from tests.e2e.watching import SECONDS, Watcher, watching
from tests.scale import KILLS, LOGGED_SECONDS

__all__ = ["own_postgres"]

INSERT = "insert into users (id, clerk_id) select '{0}' || n, '{0}' || n from generate_series(1, {1}) n"


def first(api: Api, **request: Any) -> WatchChangesResponse:
    """Answer the first response of a stream, and end it."""
    call = api.changes.WatchChanges(WatchChangesRequest(**request))
    response = next(call)
    call.cancel()
    return response


def test_the_first_response_is_empty_and_all_that_follows_is_told(api: Api) -> None:
    with watching(api.channel, heartbeat=Duration(seconds=1)) as watcher:
        (response,) = watcher.responses[:1]
        assert (list(response.changes), response.is_behind, bool(response.resume_token)) == ([], False, True)
        model = api.model()
        api.models.UpdateModel(UpdateModelRequest(model=Model(id=model.id, name="Other"), request_id="a request"))
        eventually(lambda: len(watcher.changes) == 2, within=SECONDS)
        created, updated = watcher.changes
        assert (created.kind, created.resource_id, created.action) == (
            ChangeKind.CHANGE_KIND_MODEL,
            model.id,
            ChangeAction.CHANGE_ACTION_CREATE,
        )
        assert updated == Change(
            id=str(int(created.id) + 1),
            kind=ChangeKind.CHANGE_KIND_MODEL,
            resource_id=model.id,
            action=ChangeAction.CHANGE_ACTION_UPDATE,
            tags=[f"model:{model.id}"],
            time=updated.time,
            actor="anonymous",
            method="UpdateModel",
            request_id="a request",
        )
        told = len(watcher.responses)
        # Heartbeats say how far, and nothing comes twice.
        eventually(lambda: len(watcher.responses) >= told + 2, within=SECONDS)
        beats = watcher.responses[told:]
        assert not any(beat.changes or beat.is_behind for beat in beats)
        times = [beat.time.ToNanoseconds() for beat in beats]
        assert times == sorted(times)
        assert times[-1] > updated.time.ToNanoseconds()
        assert len(watcher.changes) == 2


def test_values_come_where_they_are_asked_for(api: Api) -> None:
    with watching(api.channel, include_values=True) as watcher:
        model = api.model()
        api.models.UpdateModel(UpdateModelRequest(model=Model(id=model.id, name="Other")))
        eventually(lambda: len(watcher.changes) == 2, within=SECONDS)
    created, updated = watcher.changes
    assert created.before == ""
    assert f'"openai_id": "{model.openai_id}"' in created.after
    assert f'"name": "{model.name}"' in updated.before
    assert '"name": "Other"' in updated.after


def test_a_change_of_a_template_names_its_type_and_what_caches_know_of_it(api: Api, database: Database) -> None:
    template = api.template()
    with watching(
        api.channel, kinds=[ChangeKind.CHANGE_KIND_TEMPLATE, ChangeKind.CHANGE_KIND_TEMPLATE_TYPE]
    ) as watcher:
        database.query("update templates set is_default = true")
        eventually(lambda: len(watcher.changes) == 1, within=SECONDS)
        database.query("delete from templates")
        database.query("delete from template_types")
        eventually(lambda: len(watcher.changes) == 3, within=SECONDS)
    update, _, delete = watcher.changes
    assert (update.user_id, update.template_type, update.actor) == (
        template.user_id,
        template.template_type,
        "sql:omniflo",
    )
    assert [tag.split(":")[0] for tag in update.tags] == ["template", "default"]
    assert delete.template_type == template.template_type


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"kinds": [ChangeKind.CHANGE_KIND_ORGANIZATION]}, ["g1", "g2"]),
        ({"organization_id": "g1"}, ["g1"]),
        ({"resource_ids": ["m1", "g2"]}, ["m1", "g2"]),
        ({"kinds": [ChangeKind.CHANGE_KIND_MODEL], "resource_ids": ["g2"]}, []),
    ],
)
def test_filters_leave_out_the_rest(api: Api, database: Database, request_: dict[str, Any], wanted: list[str]) -> None:
    with watching(api.channel, **request_) as watcher, watching(api.channel) as all_:
        database.query(
            "insert into openai_models (id, openai_id, name) values ('m1', 'm1', 'm'), ('m2', 'm2', 'm');"
            "insert into organizations (id, name) values ('g1', 'g'), ('g2', 'g')"
        )
        eventually(lambda: len(all_.changes) == 4, within=SECONDS)
        token = all_.token
        # A response without changes says as well how far it is.
        eventually(lambda: Position.of(watcher.token).time >= Position.of(token).time, within=SECONDS)
        assert watcher.ids() == wanted


def test_everything_of_a_kind_is_told_to_who_asks_for_one_of_it(api: Api, database: Database) -> None:
    api.template()
    with watching(api.channel, kinds=[ChangeKind.CHANGE_KIND_TEMPLATE], resource_ids=["another"]) as watcher:
        database.query("truncate templates cascade")
        eventually(lambda: watcher.changes, within=SECONDS)
    assert [(change.resource_id, list(change.tags)) for change in watcher.changes] == [("*", ["*"])]


def test_a_large_transaction_comes_in_parts_and_is_resumed_as_a_whole(api: Api, database: Database) -> None:
    start = first(api).resume_token
    database.query(INSERT.format("a", 1001))
    ids = {f"a{number}" for number in range(1, 1002)}
    for _ in range(2):
        call = api.changes.WatchChanges(WatchChangesRequest(resume_token=start))
        assert next(call).resume_token == start
        parts = list(islice((part for part in call if part.changes), 2))
        assert [len(part.changes) for part in parts] == [500, 500]
        assert [part.resume_token for part in parts] == ["", ""]
        # In the middle of it, the token is still that from before.
        call.cancel()
    with watching(api.channel, resume_token=start) as watcher:
        eventually(lambda: len(watcher.changes) >= 1001, within=SECONDS)
        database.query(INSERT.format("b", 1001))
        eventually(lambda: len(watcher.changes) >= 2002, within=SECONDS)
    assert Counter(watcher.ids()) == Counter(ids) + Counter(f"b{number}" for number in range(1, 1002))
    assert max(len(response.changes) for response in watcher.responses) == watches.MAX_CHANGES


def test_of_a_huge_transaction_a_kind_that_is_huge_is_one_change(api: Api, database: Database) -> None:
    start = first(api).resume_token
    with watching(api.channel) as live:
        database.query(
            f"begin; {INSERT.format('a', 20_000)}; insert into organizations (id, name) values ('g1', 'g'); commit"
        )
        database.query("insert into users (id, clerk_id) values ('after', 'after')")
        with watching(api.channel, resume_token=start) as resumed:
            for watcher in (live, resumed):
                eventually(lambda watcher=watcher: len(watcher.changes) == 3, within=SECONDS)  # type: ignore[misc]
                found = [(ChangeKind.Name(change.kind)[12:], change.resource_id) for change in watcher.changes]
                assert found[-1] == ("USER", "after")
                assert sorted(found[:2]) == [("ORGANIZATION", "g1"), ("USER", "*")]


def changed(token: str, **fields: Any) -> str:
    return Position.of(token)._replace(**fields).token()


@pytest.mark.parametrize(
    "change",
    [
        lambda position: position._replace(time=datetime.now(UTC) - timedelta(hours=24, minutes=1)),
        lambda position: position._replace(epoch="00000000-0000-0000-0000-000000000000"),
        lambda position: position._replace(timeline="00000002"),
    ],
    ids=["old", "of another epoch", "of another timeline"],
)
def test_a_token_that_says_nothing_any_more_has_expired(api: Api, change: Callable[[Position], Position]) -> None:
    token = change(Position.of(first(api).resume_token)).token()
    failure = fails(next, api.changes.WatchChanges(WatchChangesRequest(resume_token=token)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")


def test_a_token_of_nearly_a_day_ago_is_resumed(api: Api, database: Database) -> None:
    token = changed(first(api).resume_token, time=datetime.now(UTC) - timedelta(hours=23, minutes=59))
    database.query(INSERT.format("a", 1))
    with watching(api.channel, resume_token=token) as watcher:
        eventually(lambda: watcher.ids() == ["a1"], within=SECONDS)


def test_after_another_epoch_an_old_token_has_expired_and_a_stream_is_ended(api: Api, database: Database) -> None:
    with watching(api.channel) as watcher:
        database.query("update registry set epoch = gen_random_uuid()")
        eventually(lambda: watcher.ends, within=SECONDS)
        eventually(lambda: watcher.ends[-1] == ("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED"), within=SECONDS)
    assert watcher.ends[:-1] == [("UNAVAILABLE", "STREAM_ENDED")]
    with watching(api.channel) as watcher:
        database.query(INSERT.format("a", 1))
        eventually(lambda: watcher.ids() == ["a1"], within=SECONDS)


@pytest.mark.parametrize("token", ["x", "W10", "cC8", "é", "a" * 32_768])
def test_a_token_that_never_was_one_is_refused(api: Api, token: str) -> None:
    failure = fails(next, api.changes.WatchChanges(WatchChangesRequest(resume_token=token)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["resume_token"]


def test_a_token_of_one_process_is_resumed_in_another(database: Database, tmp_path: Path) -> None:
    with (
        serving(database.url, tmp_path / "1.log") as one,
        serving(database.url, tmp_path / "2.log") as two,
        connected(one.address) as here,
        connected(two.address) as there,
    ):
        for number in range(20):
            with watching(here.channel) as watcher:
                model = here.model()
                eventually(lambda: watcher.ids() == [model.id], within=SECONDS)  # noqa: B023 - it is over before the next
            with watching(there.channel, resume_token=watcher.token) as resumed:
                database.query(INSERT.format(f"after{number}", 1))
                eventually(lambda: resumed.changes, within=SECONDS)
                assert resumed.ids() == [f"after{number}1"]


def test_a_drain_ends_streams(database: Database, tmp_path: Path) -> None:
    with serving(database.url, tmp_path / "log") as service, connected(service.address) as api:
        watchers = [Watcher(api.channel) for _ in range(20)]
        for watcher in watchers:
            watcher.start()
        service.signal(signal.SIGTERM)
        for watcher in watchers:
            eventually(lambda watcher=watcher: watcher.ends, within=SECONDS)  # type: ignore[misc]
        service.wait(SECONDS)
        for watcher in watchers:
            assert watcher.ends[0] == ("UNAVAILABLE", "STREAM_ENDED")
            watcher.stop()
    (line, *_) = service.events("call")
    assert (line["code"], line["reason"]) == ("UNAVAILABLE", "STREAM_ENDED")


@pytest.mark.timed
def test_a_watcher_is_told_at_once_that_changes_cannot_be_read_and_that_they_can_again(
    own_postgres: embedded.Server, tmp_path: Path
) -> None:
    with (
        serving(own_postgres.url, tmp_path / "log") as service,
        connected(service.address) as api,
        watching(api.channel, heartbeat=Duration(seconds=60)) as watcher,
    ):
        with dead(own_postgres):
            eventually(lambda: watcher.responses[-1].is_behind, within=SECONDS)
        eventually(lambda: not watcher.responses[-1].is_behind, within=SECONDS)
        behind = [response.is_behind for response in watcher.responses]
        assert behind == [False, True, False]
        assert [bool(response.resume_token) for response in watcher.responses] == [True, False, True]
        database = Database(own_postgres.url)
        database.query(INSERT.format("a", 1))
        eventually(lambda: watcher.ids() == ["a1"], within=SECONDS)
        database.close()
        assert watcher.ends == []


@pytest.mark.timed
@pytest.mark.soak
@pytest.mark.parametrize("kills", [0, KILLS], ids=["cut", "killed"])
def test_every_change_is_told_once_to_each_watcher(own_postgres: embedded.Server, tmp_path: Path, kills: int) -> None:
    """Streams are cut, and so are the connections to the database; or PostgreSQL and the worker are killed."""
    url, rounds = own_postgres.url, max(kills, 3)
    with serving(url, tmp_path / "log") as service, connected(service.address) as api:
        watchers = [Watcher(api.channel) for _ in range(4)]
        for watcher in watchers:
            watcher.start()
        with writing(url):
            for number in range(rounds):
                time.sleep(LOGGED_SECONDS / rounds / 2)
                if kills:
                    with dead(own_postgres):
                        """It starts again."""
                    time.sleep(LOGGED_SECONDS / rounds / 2)
                    # A service whose workers die all the time ends.
                    if number % 3 == 0:
                        service.kill_worker()
                else:
                    cut(url)
                    time.sleep(LOGGED_SECONDS / rounds / 2)
                    for watcher in watchers:
                        watcher.cut()
        wanted = written(url)
        assert len(wanted) > 100
        with closing(Database(url)) as database:
            database.query("insert into users (id, clerk_id) values ('last', 'last')")
        for watcher in watchers:
            eventually(lambda watcher=watcher: "last" in watcher.ids(), within=60)  # type: ignore[misc]
            watcher.stop()
            told = Counter(id for id in watcher.ids() if id != "last")
            assert (wanted - told, told - wanted) == (Counter(), Counter())
            assert len(watcher.ends) >= (rounds // 3 if kills else rounds)
            assert {code for code, _ in watcher.ends} <= {"UNAVAILABLE", "CANCELLED", "INTERNAL"}
        say(f"{len(wanted)} changes told once to 4 watchers, cut {sum(len(one.ends) for one in watchers)} times")
