"""Two replicas under load while everything around them fails: what callers were told holds, and nothing grows.

What they were told is compared with the log of changes, with what a watcher heard, and with what is there in the end:
no write is lost, none was done twice, and no read was older than promised.
"""

import itertools
import os
import random
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from omniflo.templates.v1.change_pb2 import ChangeKind
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    UpdateTemplateRequest,
)
from service.database import embedded
from tests.conftest import Api, Failure
from tests.e2e.clients import connected, say
from tests.e2e.proxy import AtCommit, AtRandom, Proxy, nothing
from tests.e2e.serving import Service, eventually, serving
from tests.e2e.test_faults import dead, hung, looking
from tests.e2e.watching import watching
from tests.scale import IS_SOAK, MIXED_SECONDS

WRITERS = READERS = 4
CALL_SECONDS = 15.0
READ_SECONDS = 0.3
"""A reader that waits for longer would not see what is kept of others."""
LONGEST_SECONDS = 60.0
"""After which a write must have been acknowledged, however often it was sent."""
PROMISED_SECONDS = 1.0
"""How old what is read may be, where the reader asks for nothing else."""
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED}
"""What a call may fail with; then it is sent again."""


class Known:
    """A template, as its writer was told: the numbers in its title, and when each was acknowledged."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.numbers: list[tuple[float, int]] = []
        self.is_deleted = False

    def at(self, moment: float) -> int:
        """Return the newest number that had been acknowledged then; 0 for none."""
        return next((number for when, number in reversed(self.numbers) if when <= moment), 0)


class History:
    """What all callers were told."""

    def __init__(self) -> None:
        self.templates: list[Known] = []
        self.acknowledged = Counter[tuple[str, str]]()
        """Writes, by template and request id."""
        self.stale: list[str] = []
        self.reads = 0
        self.failures = Counter[str]()
        self.over = threading.Event()

    def failed(self, error: grpc.RpcError) -> None:
        """Count a call that may be sent again; raise any other."""
        if error.code() not in PASSING:
            raise error
        # gRPC itself gives no details.
        reason = Failure(error).reason if rpc_status.from_call(error) is not None else ""
        self.failures[f"{error.code().name} {reason}".strip()] += 1


class Writer:
    """Writes templates of its own, and sends each write to one replica after the other until it is acknowledged.

    Half of them write by one replica alone, and go on where the other cannot.
    """

    def __init__(self, history: History, apis: list[Api], number: int, made: dict[str, Any]) -> None:
        self._history, self._name, self._made = history, number, made
        self._apis = itertools.cycle(apis)
        self._dice = random.Random(number)

    def run(self) -> None:
        own: list[Known] = []
        for number in itertools.count(1):
            if self._history.over.wait(self._dice.uniform(0, 0.1)):
                return
            id, choice = f"{self._name}-{number}", self._dice.random()
            if len(own) < 3 or choice < 0.3:
                body = Template(title=str(number), **self._made)
                known = Known(self._insist("CreateTemplate", CreateTemplateRequest(template=body, request_id=id)).id)
                own.append(known)
                self._history.templates.append(known)
            elif choice < 0.75:
                known = self._dice.choice(own)
                changed = Template(id=known.id, title=str(number))
                self._insist("UpdateTemplate", UpdateTemplateRequest(template=changed, request_id=id))
            else:
                known = own.pop(self._dice.randrange(len(own)))
                known.is_deleted = True
                self._insist("DeleteTemplate", DeleteTemplateRequest(id=known.id, request_id=id))
            known.numbers.append((time.monotonic(), number))
            self._history.acknowledged[known.id, id] += 1

    def _insist(self, method: str, request: Any) -> Any:
        give_up = time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                answer, call = getattr(next(self._apis).templates, method).with_call(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                self._history.failed(error)
                assert time.monotonic() < give_up, self._history.failures
                time.sleep(0.05)
                continue
            if method != "DeleteTemplate":
                self._read(answer, dict(call.trailing_metadata())["x-omniflo-token"])
            return answer

    def _read(self, written: Template, token: str) -> None:
        """Look whether the write shows in the next replica."""
        request, metadata = GetTemplateRequest(id=written.id), (("x-omniflo-at-least", token),)
        try:
            found = next(self._apis).templates.GetTemplate(request, metadata=metadata, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            self._history.failed(error)
        else:
            if found.title != written.title:
                self._history.stale.append(f"{written.id}: {found.title} with the token of {written.title}")


class Reader:
    """Reads what others write from one replica, and notes what is older than promised or than what it saw before."""

    def __init__(self, history: History, api: Api, number: int) -> None:
        self._history, self._api = history, api
        self._dice = random.Random(number)

    def run(self) -> None:
        seen = defaultdict[str, int](int)
        while not self._history.over.wait(self._dice.uniform(0, 0.02)):
            if not (newest := self._history.templates[-50:]):
                continue
            known, began = self._dice.choice(newest), time.monotonic()
            try:
                found = self._api.templates.GetTemplate(GetTemplateRequest(id=known.id), timeout=READ_SECONDS)
            except grpc.RpcError as error:
                if not (error.code() is grpc.StatusCode.NOT_FOUND and known.is_deleted):
                    self._history.failed(error)
                continue
            least = max(known.at(began - PROMISED_SECONDS), seen[known.id])
            # Its last number is that of its deletion.
            if int(found.title) < least and not known.is_deleted:
                self._history.stale.append(f"{known.id}: {found.title} after {least}")
            seen[known.id] = int(found.title)
            self._history.reads += 1


class Disk:
    """A small disk for PostgreSQL, which can become full, where this process may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(folder)]
        self.is_small = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        if self.is_small:
            subprocess.run(["/bin/umount", self.folder], check=True)

    @contextmanager
    def full(self, postgres: embedded.Server) -> Iterator[None]:
        ballast = self.folder / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        try:
            yield
        finally:
            ballast.unlink()
            # It goes on, or it has ended itself.
            assert postgres._process is not None
            with suppress(subprocess.TimeoutExpired):
                postgres._process.wait(1)
                postgres.start()


@contextmanager
def still(pid: int) -> Iterator[None]:
    """Let a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def killed(service: Service) -> Iterator[None]:
    """Let a worker die, in whose place there soon is another."""
    service.kill_worker()
    yield


@contextmanager
def network(proxy: Proxy, cuts: Any) -> Iterator[None]:
    proxy.cuts = cuts
    try:
        yield
    finally:
        proxy.cuts = nothing


@contextmanager
def silent(proxy: Proxy) -> Iterator[None]:
    """Let nothing through, and break nothing."""
    over = threading.Event()
    try:
        with network(proxy, lambda *_: not over.wait(CALL_SECONDS)):
            yield
    finally:
        over.set()


def slow(data: bytes, to_service: bool) -> bool:
    del data, to_service
    time.sleep(0.03)
    return False


class Trouble:
    """Has one thing after another fail for some time, each before any comes again."""

    def __init__(self, postgres: embedded.Server, disk: Disk, proxy: Proxy, proxied: Service) -> None:
        dice = self._dice = random.Random(1)
        self._faults = {
            "PostgreSQL is dead": lambda: dead(postgres),
            "PostgreSQL hangs": lambda: hung(postgres),
            "connections are cut": lambda: network(proxy, AtRandom(dice.randrange(1000), commit=0.2, other=0.01)),
            "commits are not answered": lambda: network(proxy, AtCommit(5, is_done=True)),
            "the network is slow": lambda: network(proxy, slow),
            "the network is silent": lambda: silent(proxy),
            "a worker hangs": lambda: still(proxied.newest_worker()),
            "a worker dies": lambda: killed(proxied),
        }
        if disk.is_small:
            self._faults["the disk is full"] = lambda: disk.full(postgres)
        self.count = Counter[str]()

    def go_on(self, seconds: float) -> None:
        end, names = time.monotonic() + seconds, list[str]()
        while time.monotonic() < end or names:
            names = names or self._dice.sample(list(self._faults), len(self._faults))
            self.count[names[-1]] += 1
            with self._faults[names.pop()]():
                time.sleep(self._dice.uniform(0.5, 3.0))
            time.sleep(self._dice.uniform(0.5, 1.0))


class Sizes:
    """What a process takes, every second: it holds no more in the end than after half of the time."""

    def __init__(self, pid: int, over: threading.Event) -> None:
        self._pid, self._over = pid, over
        self._samples: list[dict[str, int]] = []

    def run(self) -> None:
        while not self._over.wait(1):
            lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines)
            numbers = {name: int(status[name].split()[0]) for name in ("VmRSS", "Threads")}
            self._samples.append(numbers | {"file descriptors": len(list(Path(f"/proc/{self._pid}/fd").iterdir()))})

    def growth(self) -> dict[str, float]:
        """Return the median of the last tenth over that of the one after the middle."""
        tenth = len(self._samples) // 10
        middle, last = self._samples[5 * tenth : 6 * tenth], self._samples[-tenth:]
        return {
            name: statistics.median(each[name] for each in last) / statistics.median(each[name] for each in middle)
            for name in self._samples[0]
        }


@pytest.mark.waiting
@pytest.mark.soak
def test_what_callers_were_told_holds_whatever_fails(tmp_path: Path) -> None:
    history = History()
    with ExitStack() as stack:
        disk = Disk(tmp_path / "disk")
        stack.callback(disk.close)
        postgres = embedded.Server(disk.folder / "data", ["-c", "fsync=off", "-c", "max_wal_size=64MB"])
        postgres.start()
        stack.callback(postgres.stop)
        proxy = stack.enter_context(Proxy(postgres.socket_dir))
        through = f"postgresql://omniflo@127.0.0.1:{proxy.port}/postgres?sslmode=disable&gssencmode=disable"
        direct = stack.enter_context(serving(postgres.url, tmp_path / "direct", work="on"))
        proxied = stack.enter_context(serving(through, tmp_path / "proxied", workers=2))
        apis = [stack.enter_context(connected(service.address)) for service in (direct, proxied)]
        made = {"user_id": apis[0].user().id, "template_type": apis[0].type().name, "model": apis[0].model().openai_id}
        made["instructions"] = "Do it."
        trouble = Trouble(postgres, disk, proxy, proxied)
        callers: list[Writer | Reader | Sizes] = [
            *(Writer(history, apis[: 1 + number % 2], number, made) for number in range(WRITERS)),
            *(Reader(history, apis[number % 2], number) for number in range(READERS)),
            sizes := Sizes(direct.workers()[0], history.over),
        ]
        with (
            watching(apis[1].channel, kinds=[ChangeKind.CHANGE_KIND_TEMPLATE]) as watcher,
            ThreadPoolExecutor(len(callers)) as pool,
        ):
            running = [pool.submit(caller.run) for caller in callers]
            try:
                trouble.go_on(MIXED_SECONDS)
            finally:
                history.over.set()
            for caller in running:
                caller.result()
            eventually(lambda: len(watcher.changes) >= len(history.acknowledged), within=LONGEST_SECONDS)
        with looking(postgres.url) as database:
            logged = database.query("select resource_id, request_id from changes where kind = 'template'")
            left = dict(database.query("select id, title from templates"))
    say(f"{len(history.acknowledged)} writes, {history.reads} reads, {trouble.count}, {history.failures}")
    assert history.stale == []
    assert Counter(logged) == history.acknowledged
    assert Counter((change.resource_id, change.request_id) for change in watcher.changes) == history.acknowledged
    assert left == {known.id: str(known.numbers[-1][1]) for known in history.templates if not known.is_deleted}
    assert history.reads > len(history.acknowledged) > 10
    if IS_SOAK:
        growth = sizes.growth()
        say(f"growth: {growth}")
        assert max(growth.values()) <= 1.05
