"""Compiles protos/ into gen/ for wheels and editable installs; `make proto` runs the same function."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


def compile_protos(root: Path = ROOT) -> None:
    """Write the modules of protos/ and of buf/validate, with their type stubs, anew into gen/."""
    gen = root / "gen"
    shutil.rmtree(gen, ignore_errors=True)
    gen.mkdir()
    ours = sorted((root / "protos").rglob("*.proto"))
    services = [path for path in ours if path.name.endswith("_service.proto")]
    includes = [
        f"-I{root / 'protos'}",
        f"-I{root / 'third_party'}",
        f"-I{files('grpc_tools') / '_proto'}",
    ]
    validate = root / "third_party" / "buf" / "validate" / "validate.proto"
    _protoc(*includes, f"--python_out={gen}", f"--mypy_out=quiet:{gen}", *map(str, [*ours, validate]))
    _protoc(*includes, f"--grpc_python_out={gen}", f"--mypy_grpc_out=quiet,only_sync:{gen}", *map(str, services))
    for folder in {path.parent for path in gen.rglob("*.py")}:
        (folder / "py.typed").touch()


def _protoc(*arguments: str) -> None:
    # The plugins of mypy-protobuf lie beside the interpreter, which need not be on the PATH.
    plugins = [
        f"--plugin={name}={Path(sys.executable).parent / name}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        if any(argument.startswith(f"--{name.removeprefix('protoc-gen-')}_out") for argument in arguments)
    ]
    if protoc.main(["protoc", *plugins, *arguments]) != 0:
        raise RuntimeError("protoc failed; its message is above")


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_protos(Path(self.root))
        if self.target_name == "wheel" and version == "standard":
            # An editable install reads the folder where it is.
            build_data["force_include"]["migrations"] = "service/migrations"


if __name__ == "__main__":
    compile_protos()
