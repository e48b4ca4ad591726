"""An embedded PostgreSQL that cannot be had says why, and leaves nothing behind."""

import tempfile
from pathlib import Path

import pytest

from service.database import embedded
from service.database.accounts import EmbeddedError


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of sockets are made."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_folder_with_other_files_is_named_and_left_alone(tmp_path: Path, sockets: Path) -> None:
    folder = tmp_path / "postgresql"
    folder.mkdir()
    (folder / "a letter").write_text("Dear all")
    with pytest.raises(EmbeddedError, match=r"cannot make its data folder .*set OMNIFLO_DATA_DIR") as caught:
        embedded.Server(tmp_path)
    assert "not empty" in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["a letter"]
    assert list(sockets.iterdir()) == []


def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path, sockets: Path) -> None:
    server = embedded.Server(tmp_path, ["-c", "no_such_setting=on"])
    with pytest.raises(EmbeddedError, match="not running"):
        _ = server.pid
    with pytest.raises(EmbeddedError, match="did not start") as caught:
        server.start()
    assert 'unrecognized configuration parameter "no_such_setting"' in str(caught.value)
    assert list(sockets.iterdir()) == []
