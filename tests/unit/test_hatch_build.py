"""The compilation of the protos, as wheels and editable installs do it."""

import sys
from importlib.resources import files
from pathlib import Path
from shutil import copytree

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

import hatch_build
from tests.conftest import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what is compiled in a folder with a space in its path."""
    root = tmp_path / "a folder"
    for name in ("docs", "protos", "third_party"):
        copytree(ROOT / name, root / name)
    return root


def test_all_protos_are_compiled_with_their_types(root: Path) -> None:
    hatch_build.compile_protos(root)
    expected = {f"buf/validate/{name}" for name in ("validate_pb2.py", "validate_pb2.pyi", "py.typed")}
    for path in (root / "protos").rglob("*.proto"):
        proto = path.relative_to(root / "protos").with_suffix("")
        kinds = ("pb2", "pb2_grpc") if proto.name.endswith("_service") else ("pb2",)
        expected |= {f"{proto.as_posix()}_{kind}.{suffix}" for kind in kinds for suffix in ("py", "pyi")}
        expected |= {(proto.parent / name).as_posix() for name in ("py.typed", "service_config.json")}
    assert len(expected) > 20
    made = (path for path in (root / "gen").rglob("*") if path.is_file())
    assert {path.relative_to(root / "gen").as_posix() for path in made} == expected


def test_what_was_compiled_before_is_gone(root: Path) -> None:
    (root / "gen").mkdir()
    (root / "gen" / "old_pb2.py").touch()
    hatch_build.compile_protos(root)
    assert not (root / "gen" / "old_pb2.py").exists()


def test_a_proto_that_does_not_compile_is_an_error_and_leaves_what_was_there(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "gen").mkdir()
    (root / "gen" / "old_pb2.py").touch()
    broken = root / "protos" / "omniflo" / "templates" / "v1" / "broken.proto"
    broken.write_text("syntax = 'proto3'; message Broken { Missing field = 1; }")
    with pytest.raises(RuntimeError, match="protoc failed"):
        hatch_build.compile_protos(root)
    assert "broken.proto" in capfd.readouterr().err
    assert [path.name for path in (root / "gen").iterdir()] == ["old_pb2.py"]
    assert {path.name for path in root.iterdir()} == {"docs", "gen", "protos", "third_party"}


def test_the_plugins_may_be_on_the_path_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    programs = Path(sys.executable).parent
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="protoc-gen-mypy is missing"):
        hatch_build.compile_protos(root)
    monkeypatch.setenv("PATH", str(programs))
    hatch_build.compile_protos(root)
    # Where other tests of this process have servers, gRPC says which forks it does not handle.
    assert [line for line in capfd.readouterr().err.splitlines() if "fork_posix" not in line] == []


def test_third_party_has_the_details_of_errors_and_all_that_they_import(tmp_path: Path) -> None:
    includes = [f"-I{ROOT / 'third_party'}", f"-I{files('grpc_tools') / '_proto'}"]
    out = tmp_path / "descriptors"
    assert protoc.main(["protoc", *includes, f"--descriptor_set_out={out}", "google/rpc/error_details.proto"]) == 0
    (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    assert {"BadRequest", "ErrorInfo", "RetryInfo"} <= {message.name for message in file.message_type}
