"""Where backups are kept in tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.backups import kept
from service.backups.store import Store
from service.config import Settings
from tests.backups import s3_server
from tests.backups.s3_server import Server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("s3") / "buckets"
    (folder / "bucket").mkdir(parents=True)
    with s3_server.running(folder) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment().items():
            environment.setenv(name, value)
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What OMNIFLO_BACKUP_DIR says: a folder that is not there yet, and a prefix of a bucket."""
    if request.param == "folder":
        return str(tmp_path / "backups")
    request.getfixturevalue("s3")
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def store(place: str) -> Store:
    return kept.store(Settings(backup_dir=place))
