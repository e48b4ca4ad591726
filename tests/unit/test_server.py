"""The parts of a server: their order, and the thread that watches the database, which goes on whatever it meets."""

import threading

import pytest
from structlog.testing import capture_logs

from service.actor import Actor
from service.errors import Unavailable
from service.operations import maintenance
from service.server import health
from service.server.parts import Parts


class Recorded:
    """A part that notes when it starts and stops, and may fail at either."""

    def __init__(self, name: str, notes: list[str], *, fails_at: str = "") -> None:
        self._name, self._notes, self._fails_at = name, notes, fails_at

    def start(self) -> None:
        self._note("start")

    def stop(self) -> None:
        self._note("stop")

    def _note(self, what: str) -> None:
        if what == self._fails_at:
            raise LookupError(self._name)
        self._notes.append(f"{what} {self._name}")


def test_parts_are_stopped_in_the_reverse_order_of_their_start() -> None:
    notes: list[str] = []
    parts = Parts([Recorded(name, notes) for name in "abc"])
    assert notes == []
    parts.start()
    assert notes == ["start a", "start b", "start c"]
    parts.stop()
    assert notes[3:] == ["stop c", "stop b", "stop a"]


def test_a_part_that_cannot_start_stops_those_that_were_started() -> None:
    notes: list[str] = []
    parts = Parts([Recorded("a", notes), Recorded("b", notes, fails_at="start"), Recorded("c", notes)])
    with pytest.raises(LookupError):
        parts.start()
    assert notes == ["start a", "stop a"]


def test_a_part_that_cannot_stop_does_not_keep_the_others_running() -> None:
    notes: list[str] = []
    parts = Parts([Recorded("a", notes), Recorded("b", notes, fails_at="stop")])
    parts.start()
    with pytest.raises(LookupError):
        parts.stop()
    assert notes == ["start a", "start b", "stop a"]


@pytest.mark.parametrize("fault", [LookupError("a fault of ours"), Unavailable("DATABASE_UNAVAILABLE", "away")])
def test_a_probe_that_fails_in_any_way_is_a_database_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    ping, here = maintenance.ping, threading.get_ident()

    def failing(actor: Actor) -> None:
        # Servers of other tests may run in this process, whose health is watched too.
        if threading.get_ident() != here:
            ping(actor)
            return
        raise fault

    monkeypatch.setattr(maintenance, "ping", failing)
    with capture_logs() as lines:
        assert not health.Probe(health.Health([]))._ask()["is_reachable"]
    said = [line["error"] for line in lines if line["event"] == "probe"]
    assert said == (["LookupError"] if isinstance(fault, LookupError) else [])
