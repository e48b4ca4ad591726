"""The compilation of the protos, as wheels and editable installs do it."""

from pathlib import Path
from shutil import copytree

import pytest

import hatch_build
from tests.conftest import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the protos in a folder with a space in its path."""
    root = tmp_path / "a folder"
    for name in ("protos", "third_party"):
        copytree(ROOT / name, root / name)
    return root


def test_all_protos_are_compiled_with_their_types(root: Path) -> None:
    hatch_build.compile_protos(root)
    expected = {f"buf/validate/{name}" for name in ("validate_pb2.py", "validate_pb2.pyi", "py.typed")}
    for path in (root / "protos").rglob("*.proto"):
        proto = path.relative_to(root / "protos").with_suffix("")
        kinds = ("pb2", "pb2_grpc") if proto.name.endswith("_service") else ("pb2",)
        expected |= {f"{proto.as_posix()}_{kind}.{suffix}" for kind in kinds for suffix in ("py", "pyi")}
        expected.add((proto.parent / "py.typed").as_posix())
    assert len(expected) > 20
    made = (path for path in (root / "gen").rglob("*") if path.is_file())
    assert {path.relative_to(root / "gen").as_posix() for path in made} == expected


def test_what_was_compiled_before_is_gone(root: Path) -> None:
    (root / "gen").mkdir()
    (root / "gen" / "old_pb2.py").touch()
    hatch_build.compile_protos(root)
    assert not (root / "gen" / "old_pb2.py").exists()


def test_a_proto_that_does_not_compile_is_an_error(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = root / "protos" / "omniflo" / "templates" / "v1" / "broken.proto"
    broken.write_text("syntax = 'proto3'; message Broken { Missing field = 1; }")
    with pytest.raises(RuntimeError, match="protoc failed"):
        hatch_build.compile_protos(root)
    assert "broken.proto" in capfd.readouterr().err
