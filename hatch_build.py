"""Compiles protos/ into gen/ for wheels and editable installs; `make proto` runs the same function."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


def compile_protos(root: Path = ROOT) -> None:
    """Write the modules of protos/ and of buf/validate, with their type stubs, anew into gen/.

    Beside the modules is the service config, so that callers who have installed the wheel have it. When something
    fails, gen/ stays as it was.
    """
    ours = sorted((root / "protos").rglob("*.proto"))
    services = [path for path in ours if path.name.endswith("_service.proto")]
    includes = [
        f"-I{root / 'protos'}",
        f"-I{root / 'third_party'}",
        f"-I{files('grpc_tools') / '_proto'}",
    ]
    validate = root / "third_party" / "buf" / "validate" / "validate.proto"
    gen = root / "gen"
    with TemporaryDirectory(prefix=".gen-", dir=root) as folder:
        made = Path(folder) / "new"
        made.mkdir()
        _protoc(*includes, f"--python_out={made}", f"--mypy_out=quiet:{made}", *map(str, [*ours, validate]))
        _protoc(*includes, f"--grpc_python_out={made}", f"--mypy_grpc_out=quiet:{made}", *map(str, services))
        shutil.copy(root / "docs" / "service_config.json", made / "omniflo" / "templates" / "v1")
        for package in {path.parent for path in made.rglob("*.py")}:
            (package / "py.typed").touch()
        if gen.exists():
            gen.rename(Path(folder) / "old")
        made.rename(gen)


def _protoc(*arguments: str) -> None:
    plugins = [
        f"--plugin={name}={_plugin(name)}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        if any(argument.startswith(f"--{name.removeprefix('protoc-gen-')}_out") for argument in arguments)
    ]
    if protoc.main(["protoc", *plugins, *arguments]) != 0:
        raise RuntimeError("protoc failed; its message is above")


def _plugin(name: str) -> str:
    """Return where the program is: beside the interpreter, which need not be on the PATH, or on the PATH.

    An isolated build has its programs in a folder of their own, on the PATH.
    """
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing; mypy-protobuf has it")
    return path


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        compile_protos(Path(self.root))
        if version == "standard":
            # An editable install reads the folder where it is.
            build_data["force_include"]["migrations"] = "service/migrations"


if __name__ == "__main__":
    compile_protos()
