"""What the image of deploy/ and its pods execute, with the settings that are written there, on ports that are free."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from tests.conftest import ROOT, as_service, fails
from tests.e2e.clients import connected
from tests.e2e.serving import eventually
from tests.envoy import free_port

pytestmark = pytest.mark.waiting

SECONDS = 60.0
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")


def command(instruction: str) -> list[str]:
    """Return what an instruction of the Dockerfile has executed."""
    (text,) = re.findall(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return list(json.loads(text))


def pod(name: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of a pod, and the variables that it has from the image, the ConfigMap and itself."""
    text = (DEPLOY / "kubernetes" / f"{name}.yaml").read_text()
    (arguments,) = re.findall(r"^ +args: \[(.*)\]$", text, re.MULTILINE)
    (of_image,) = re.findall(r"^ENV (PATH=.*)$", DOCKERFILE, re.MULTILINE)
    settings = (DEPLOY / "kubernetes" / "settings.yaml").read_text()
    variables = dict(re.findall(r"(\w+)=(\S+)", of_image))
    variables |= re.findall(r'^  (\w+): "?([^"\n]*)"?$', settings.partition("\ndata:\n")[2], re.MULTILINE)
    variables |= re.findall(r'\{name: (\w+), value: "([^"]*)"\}', text)
    return arguments.split(", "), variables


def test_the_image_serves_with_the_settings_of_its_pods(new_database: Callable[[], str], tmp_path: Path) -> None:
    url, log = new_database(), tmp_path / "log"
    ports = {port: str(free_port()) for port in ("50051", "50052", "9464")}

    def environment(variables: dict[str, str]) -> dict[str, str]:
        ours = {
            name: re.sub(r"\d+$", lambda port: ports.get(port[0], port[0]), text) for name, text in variables.items()
        }
        urls = {"OMNIFLO_DATABASE_URL": as_service(url), "OMNIFLO_DATABASE_OWNER_URL": url}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**ours, **urls, "PATH": path, "TMPDIR": str(tmp_path)}

    def executed(words: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env=environment(variables),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    arguments, variables = pod("migrate")
    done = executed([*command("ENTRYPOINT"), *arguments], variables)
    assert done.returncode == 0, done.stderr

    arguments, variables = pod("server")
    assert arguments == command("CMD")
    assert int(variables["OMNIFLO_DRAIN_DELAY_SECONDS"]) > 0
    variables["OMNIFLO_DRAIN_DELAY_SECONDS"] = "2"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command("ENTRYPOINT"), *arguments], env=environment(variables), cwd=tmp_path, stderr=stderr
        )
    probe = command("HEALTHCHECK .* CMD")
    try:
        eventually(lambda: executed(probe, variables).returncode == 0, within=SECONDS)
        with grpc.insecure_channel(f"127.0.0.1:{ports['50052']}") as channel:
            health = HealthStub(channel)
            # What startupProbe and livenessProbe ask for; the readinessProbe names nothing.
            assert health.Check(HealthCheckRequest(service="liveness")).status == HealthCheckResponse.SERVING
            watch = health.Watch(HealthCheckRequest(), timeout=SECONDS)
            assert next(watch).status == HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            while next(watch).status == HealthCheckResponse.SERVING:
                pass
            # Until the delay is over, those who have not heard of it are answered.
            with connected(f"127.0.0.1:{ports['50051']}") as api:
                assert fails(api.users.ListUsers, ListUsersRequest()).reason == "UNAUTHENTICATED"
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    done = executed(probe, variables)
    assert (done.returncode, done.stdout) == (1, "")
