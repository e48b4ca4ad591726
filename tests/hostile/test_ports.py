"""That nobody else on the machine keeps a service from starting by what they put where its locks and metrics go."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from service import metrics
from service.config import ConfigurationError
from service.server import ports


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(params=[True, False], ids=["run", "tmp"])
def tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder for temporary files, on a system with and without a folder for what runs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = tmp_path / "run"
    if request.param:
        (run / "user" / str(os.geteuid())).mkdir(parents=True)
    monkeypatch.setattr(ports, "RUN", run)
    return tmp_path


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def _folder_of_another(path: Path) -> None:
    path.mkdir()
    if os.geteuid() == 0:
        shutil.chown(path, "nobody")
    else:
        path.chmod(0o777)


def _planted(path: Path) -> tuple[int, ...]:
    """Return what is there, but not when it was read."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, found.st_ctime_ns


PLANTED = [Path.touch, _link, _dangling, os.mkfifo, _folder_of_another]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("name", ["omniflo-templates-{uid}", "omniflo-templates-{uid}-127.0.0.1-{port}.lock"])
def test_what_others_plant_keeps_no_service_from_starting(
    tmp: Path, port: int, name: str, plant: Callable[[Path], None]
) -> None:
    path = tmp / name.format(uid=os.geteuid(), port=port)
    plant(path)
    before = _planted(path)
    with ports.held("listen", f"127.0.0.1:{port}") as address:
        assert address == f"127.0.0.1:{port}"
    assert _planted(path) == before
    assert not (path.parent / "nothing").exists()


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_others_plant_keeps_no_metrics_from_being_kept(tmp: Path, plant: Callable[[Path], None]) -> None:
    with metrics.shared_folder("127.0.0.1:1") as folder:
        name = folder.name
    plant(tmp / name)
    with metrics.shared_folder("127.0.0.1:1") as folder:
        assert folder.lstat().st_uid == os.geteuid()
        assert folder.lstat().st_mode & 0o777 == 0o700
        assert list(folder.iterdir()) == []
    assert not folder.exists()
    assert not (tmp / "nothing").exists()


def test_of_two_that_start_at_once_one_is_refused(tmp: Path, port: int) -> None:
    del tmp
    with ExitStack() as stack:
        stack.enter_context(ports.held("listen", f"127.0.0.1:{port}"))
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="the port is taken"):
                stack.enter_context(ports.held("listen", f"127.0.0.1:{port}"))
