"""One parent and children of several kinds: all run, whoever dies is replaced, and all end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.config import ConfigurationError
from service.server import processes
from service.server.processes import CrashLoopError, Kind
from tests.conftest import ROOT
from tests.e2e import children
from tests.e2e.serving import eventually

SECONDS = 20.0


class Supervised:
    """A supervisor in a thread of this process."""

    def __init__(self, folder: Path, kinds: Sequence[Kind], drain_seconds: float) -> None:
        self._folder = folder
        self._reader, self._writer = os.pipe()
        self.started = threading.Event()
        self.died: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(kinds, drain_seconds))
        self._thread.start()

    def _run(self, kinds: Sequence[Kind], drain_seconds: float) -> None:
        try:
            processes.supervise(
                kinds,
                self._reader,
                self.started.set,
                drain_seconds=drain_seconds,
                died=lambda kind, name: self.died.append((kind.name, name)),
            )
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def notes(self, what: str) -> dict[int, str]:
        """Return the names of the children of which this was noted, by their processes."""
        found = (path.name.split() for path in self._folder.iterdir())
        return {int(pid): name for name, pid, noted in found if noted == what}

    def pids(self, name: str) -> list[int]:
        return [pid for pid, other in self.notes("started").items() if other == name]

    def end(self) -> None:
        os.write(self._writer, b"x")
        self.ended()

    def ended(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    running: list[Supervised] = []

    def start(*kinds: Kind, drain_seconds: float = 1.0) -> Supervised:
        running.append(Supervised(tmp_path, kinds, drain_seconds))
        return running[-1]

    yield start
    for supervised in running:
        supervised.end()


def test_children_of_all_kinds_run_and_end(supervise: Supervise, tmp_path: Path) -> None:
    running = supervise(
        Kind("talker", children.live, (tmp_path,), count=2),
        Kind("quiet", children.live_quietly, (tmp_path,), reports_ready=False),
    )
    assert running.started.wait(SECONDS)
    names = {"talker-1", "talker-2", "quiet-1"}
    eventually(lambda: set(running.notes("started").values()) == names, within=SECONDS)
    running.end()
    assert running.notes("ended") == running.notes("started")
    assert running.error is None


def test_whoever_dies_is_replaced_under_the_same_name(supervise: Supervise, tmp_path: Path) -> None:
    running = supervise(
        Kind("talker", children.live, (tmp_path,), count=2),
        Kind("quiet", children.live_quietly, (tmp_path,), reports_ready=False),
    )
    assert running.started.wait(SECONDS)
    for name in ("quiet-1", "talker-2"):
        (pid,) = eventually(lambda name=name: running.pids(name), within=SECONDS)  # type: ignore[misc]
        with capture_logs() as lines:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda name=name: len(running.pids(name)) == 2, within=SECONDS)  # type: ignore[misc]
        kind = name.partition("-")[0]
        # Servers of other tests may log in this process.
        deaths = [(line["event"], line["exit_code"]) for line in lines if "exit_code" in line]
        assert deaths == [(f"{kind} died", -signal.SIGKILL)]
    assert running.died == [("quiet", "quiet-1"), ("talker", "talker-2")]
    assert len(running.pids("talker-1")) == 1


def test_a_vital_kind_that_keeps_dying_ends_all(supervise: Supervise, tmp_path: Path) -> None:
    running = supervise(
        Kind("talker", children.live, (tmp_path,)), Kind("faller", children.fall, (tmp_path,), reports_ready=False)
    )
    running.ended()
    assert isinstance(running.error, CrashLoopError)
    assert "fallers died 5 times" in str(running.error)
    assert len(running.pids("faller-1")) == processes.MAX_CRASHES
    assert list(running.notes("ended").values()) == ["talker-1"]


def test_a_kind_that_is_not_vital_is_tried_again_later(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_CRASHES", 2)
    monkeypatch.setattr(processes, "CRASH_SECONDS", 4.0)
    running = supervise(
        Kind("talker", children.live, (tmp_path,)),
        Kind("faller", children.fall, (tmp_path,), reports_ready=False, is_vital=False),
    )
    eventually(lambda: len(running.died) == 2, within=SECONDS)
    assert len(running.pids("faller-1")) == 2
    eventually(lambda: len(running.pids("faller-1")) == 3, within=SECONDS)
    running.end()
    assert running.error is None
    assert list(running.notes("ended").values()) == ["talker-1"]


def test_one_that_cannot_start_is_named_and_the_others_end(supervise: Supervise, tmp_path: Path) -> None:
    running = supervise(
        Kind("talker", children.live, (tmp_path,)), Kind("faller", children.fall_before_ready, (tmp_path,))
    )
    running.ended()
    assert isinstance(running.error, ConfigurationError)
    assert "a faller process could not start" in str(running.error)
    assert not running.started.is_set()
    assert list(running.notes("ended").values()) == ["talker-1"]


def test_one_that_does_not_end_is_ended(supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "KILL_SECONDS", 0.5)
    running = supervise(
        Kind("talker", children.live, (tmp_path,)), Kind("deaf", children.hang, (tmp_path,)), drain_seconds=0.5
    )
    assert running.started.wait(SECONDS)
    with capture_logs() as lines:
        running.end()
    assert [line["event"] for line in lines if "drain" in line["event"]] == ["deaf did not drain in time"]
    (deaf,) = running.pids("deaf-1")
    with pytest.raises(ProcessLookupError):
        os.kill(deaf, 0)


def test_a_child_that_could_not_be_forked_is_started_again(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RETRY_SECONDS", 0.1)
    running = supervise(Kind("talker", children.live, (tmp_path,)))
    assert running.started.wait(SECONDS)
    faults: list[Exception] = [ConnectionRefusedError(), EOFError()]
    fork = forkserver.connect_to_new_process

    def failing(fds: list[int]) -> tuple[int, int]:
        if faults:
            raise faults.pop()
        return fork(fds)

    monkeypatch.setattr(forkserver, "connect_to_new_process", failing)
    (killed,) = running.pids("talker-1")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(running.pids("talker-1")) == 2, within=SECONDS)
    assert faults == []


def test_children_of_every_kind_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from service.server.processes import Kind, supervise;"
        f"from tests.e2e import children; folder = Path({str(tmp_path)!r});"
        "supervise([Kind('talker', children.live, (folder,)),"
        " Kind('quiet', children.live_quietly, (folder,), reports_ready=False)],"
        " os.pipe()[0], lambda: None, drain_seconds=1)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as parent:

        def names(noted: str) -> list[str]:
            found = (path.name.split() for path in tmp_path.iterdir())
            return sorted(name for name, _, what in found if what == noted)

        eventually(lambda: names("started") == ["quiet-1", "talker-1"], within=SECONDS)
        parent.kill()
        eventually(lambda: names("ended") == ["quiet-1", "talker-1"], within=SECONDS)
