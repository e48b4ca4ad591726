"""Watchers that read nothing, or that are too many: they are ended, and the others are told everything."""

from collections.abc import Callable
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from omniflo.templates.v1.change_service_pb2 import WatchChangesRequest
from tests.conftest import Database
from tests.e2e.clients import connected
from tests.e2e.serving import eventually, serving
from tests.e2e.watching import watching
from tests.hostile.raw import WATCH_CHANGES, connections

SILENT = 10
CHANGES = 100


def test_watchers_that_read_nothing_are_ended_and_cost_others_nothing(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    with (
        serving(url, tmp_path / "log", receive_seconds=2) as service,
        connected(service.address) as api,
        watching(api.channel) as watcher,
        connections(service.address, SILENT, window=0) as silent,
    ):
        request = WatchChangesRequest(heartbeat=Duration(seconds=1)).SerializeToString()
        streams = [(stranger, stranger.open(WATCH_CHANGES)) for stranger in silent]
        for stranger, stream in streams:
            stranger.send(stream, request)
        database = Database(url)
        for number in range(CHANGES):
            database.query("insert into users (id, clerk_id) values (%s, %s)", (f"u{number}", f"u{number}"))
        eventually(lambda: len(watcher.changes) == CHANGES, within=10)
        assert watcher.ids() == [f"u{number}" for number in range(CHANGES)]
        for stranger, stream in streams:
            assert stranger.wait_until_ended(stream, 10)
        assert watcher.ends == []
        database.close()
        eventually(lambda: len(service.calls()) >= SILENT, within=5)
    codes = [line["code"] for line in service.calls() if line["method"] == WATCH_CHANGES]
    assert codes.count("CANCELLED") >= SILENT


def test_the_caller_of_most_watches_loses_the_oldest(new_database: Callable[[], str], tmp_path: Path) -> None:
    with (
        serving(new_database(), tmp_path / "log", watches=4) as service,
        connected(service.address) as api,
        watching(api.channel) as watcher,
        connections(service.address, 1) as (stranger,),
    ):
        streams = []
        for _ in range(4):
            streams.append(stranger.open(WATCH_CHANGES))
            stranger.send(streams[-1], b"")
            # Only one that has begun is older than the next.
            assert stranger.wait_until_answered(streams[-1], 10)
        assert stranger.wait_until_ended(streams[0], 10)
        stranger.read(0.5)
        assert stranger.ended == {streams[0]}
        assert watcher.ends == []
