"""The OpenAPI document of `make openapi`, held against the protos and against a real Envoy by schemathesis."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import CreateApiKeyRequest
from tests.conftest import PLATFORM_ADMIN, ROOT, Callers, Guarded
from tests.contract.methods import METHODS
from tests.envoy import speaking_http
from tests.rest.paths import VARIABLE, bindings
from tests.scale import IS_SOAK

SCHEMATHESIS = "schemathesis==4.32.5"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 20
SECONDS = 3000.0

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not IS_SOAK, reason="schemathesis takes minutes: only in `make soak`"),
    pytest.mark.skipif(shutil.which("go") is None, reason="Go is absent, which runs the generator"),
]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("openapi") / "openapi.json"
    subprocess.run([sys.executable, "deploy/envoy/openapi.py", made], cwd=ROOT, check=True, timeout=SECONDS)
    return made


def test_it_has_every_path_of_the_protos(document: Path) -> None:
    paths = json.loads(document.read_text())["paths"]
    described = {(verb, VARIABLE.sub("*", path)) for path, verbs in paths.items() for verb in verbs}
    assert described == {(verb, VARIABLE.sub("*", path)) for method in METHODS for verb, path, _ in bindings(method)}


def test_no_request_that_it_allows_is_answered_in_a_way_that_it_does_not(
    document: Path, guarded: Guarded, callers: Callers, tmp_path: Path
) -> None:
    body = ApiKey(name="schemathesis", scope=ApiKeyScope.API_KEY_SCOPE_WRITE)
    key = callers.user(PLATFORM_ADMIN).keys.CreateApiKey(CreateApiKeyRequest(api_key=body)).secret
    uv = Path(sys.executable).with_name("uv")
    with speaking_http(guarded.address, tmp_path) as envoy:
        done = subprocess.run(
            [
                *(uv, "tool", "run", "--from", SCHEMATHESIS, "schemathesis", "run", document),
                *("--url", f"http://{envoy.address}", "--header", f"Authorization: Bearer {key}"),
                # A watch does not end.
                *("--exclude-path-regex", ":watch$", "--phases", "coverage,fuzzing", "--checks", CHECKS),
                *("--max-examples", str(EXAMPLES), "--suppress-health-check", "all", "--no-color"),
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    assert done.returncode == 0, done.stdout
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) == sum(
        len(list(bindings(method))) for method in METHODS if not method.descriptor.server_streaming
    )
