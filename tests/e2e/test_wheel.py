"""The wheel, installed into an empty environment, is a whole service: this checkout is nowhere on its path."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.template_type_service_pb2 import ListTemplateTypesRequest
from tests.conftest import ROOT, Api
from tests.e2e.clients import connected
from tests.e2e.serving import eventually, serving_by

SOURCES = (
    *("hatch_build.py", "pyproject.toml", "LICENSE", "README.md"),
    *("docs", "migrations", "protos", "service", "third_party"),
)
UV = Path(sys.executable).parent / "uv"


def run(*command: object, cwd: Path) -> str:
    """Return what the command prints, on both streams when it fails."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources, so that the gen/ that other tests import stays where it is."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, sources)
    # Not in an isolated environment, which would have to be fetched: what it builds with is locked and installed here.
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", sources / "dist", cwd=sources)
    (wheel,) = (sources / "dist").iterdir()
    return wheel


def installed(what: str, environment: Path) -> Path:
    """Return the interpreter of a new environment with this and what it says it depends on, as locked; nothing else."""
    venv.create(environment)
    python = environment / "bin" / "python"
    arguments = ("pip", "install", "--quiet", "--python", python, "--constraint", ROOT / "requirements.lock", what)
    try:
        # All of it is in uv's cache, unless that was emptied after `make` had installed this environment.
        run(UV, *arguments, "--offline", cwd=environment)
    except AssertionError:
        run(UV, *arguments, cwd=environment)
    return python


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the service."""
    environment = tmp_path_factory.mktemp("environment") / "with a space"
    return installed(f"omniflo-templates[server] @ {wheel.as_uri()}", environment)


def test_the_wheel_has_only_its_own_packages(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(wheel, tmp_path, "zip")
    packages = {path.name for path in tmp_path.iterdir() if path.suffix != ".dist-info"}
    assert packages == {"buf", "omniflo", "service"}
    names = {path.name for path in (ROOT / "migrations").iterdir()}
    assert {path.name for path in (tmp_path / "service" / "migrations").iterdir()} == names


def test_the_wheel_has_the_service_config_for_its_callers(python: Path, tmp_path: Path) -> None:
    file = "files('omniflo.templates.v1').joinpath('service_config.json')"
    read = f"from importlib.resources import files; print({file}.read_text(), end='')"
    assert run(python, "-c", read, cwd=tmp_path) == (ROOT / "docs" / "service_config.json").read_text()


def test_the_wheel_alone_migrates_seeds_and_serves(
    python: Path, new_database: Callable[[], str], tmp_path: Path
) -> None:
    found = "import pathlib, service; print(pathlib.Path(service.__file__).parents[1])"
    assert Path(run(python, "-c", found, cwd=tmp_path).strip()).is_relative_to(python.parents[1])
    served = serving_by(python, tmp_path, new_database(), tmp_path / "log", "--migrate", "--seed")
    with served as service, connected(service.address) as api:
        health = HealthStub(api.channel)
        eventually(lambda: health.Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING, within=10)
        types = api.types.ListTemplateTypes(ListTemplateTypesRequest()).template_types
    assert {kind.name for kind in types} == {"data-export", "data-processing"}


CALLER = """
import sys
from importlib.metadata import distributions

import grpc

from omniflo.templates.v1.user_service_pb2 import GetUserRequest
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    print(UserServiceStub(channel).GetUser(GetUserRequest(id=sys.argv[2])).clerk_id)
print(*sorted(distribution.name for distribution in distributions()))
"""


def test_callers_install_the_stubs_without_the_service(wheel: Path, tmp_path: Path, api: Api, address: str) -> None:
    python = installed(str(wheel), tmp_path / "environment")
    user = api.user()
    assert run(python, "-c", CALLER, address, user.id, cwd=tmp_path).splitlines() == [
        user.clerk_id,
        "googleapis-common-protos grpcio grpcio-status omniflo-templates protobuf typing_extensions",
    ]
    done = subprocess.run([python, "-m", "service", "serve"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the packages of the service are not installed: install omniflo-templates[server]\n"
