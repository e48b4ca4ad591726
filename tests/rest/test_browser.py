"""The page of examples/browser calls by gRPC-Web, in a real Chromium and through a real Envoy."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, NamedTuple

import pytest

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest, UpdateTemplateRequest
from tests.clerk_stand_in import Clerk
from tests.conftest import PLATFORM_ADMIN, ROOT, Api, Callers, Guarded
from tests.envoy import speaking_http
from tests.scale import IS_SOAK

SOURCE = ROOT / "examples" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
SECONDS = 600.0

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not IS_SOAK, reason="building the page takes npm half a minute: only in `make soak`"),
    pytest.mark.skipif(shutil.which("npm") is None or CHROMIUM is None, reason="npm or Chromium is absent"),
]


class Page(NamedTuple):
    """The folder in which it was built, and where it is served."""

    folder: Path
    origin: str


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, built as examples/README.md says."""
    folder = tmp_path_factory.mktemp("page")
    built = folder / "examples" / "browser"
    shutil.copytree(SOURCE, built, ignore=shutil.ignore_patterns("node_modules", "stubs", "dist"))
    for name in ("protos", "third_party", "buf.yaml"):
        (folder / name).symlink_to(ROOT / name)
    for command in (
        ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
        [str(Path(sys.executable).with_name("buf")), "generate"],
        ["npm", "run", "build"],
    ):
        subprocess.run(command, cwd=built, check=True, timeout=SECONDS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=built))
    Thread(target=server.serve_forever, daemon=True).start()
    yield Page(built, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


Use = Callable[[str, str], subprocess.Popen[str]]


@pytest.fixture
def use(page: Page, guarded: Guarded, callers: Callers, tmp_path: Path) -> Iterator[Use]:
    """Has Chromium use the page, with a token and for a template type."""
    del callers
    with speaking_http(guarded.address, tmp_path, origin=page.origin) as envoy:

        def use(token: str, template_type: str) -> subprocess.Popen[str]:
            arguments = [str(CHROMIUM), f"{page.origin}/index.html", f"http://{envoy.address}", token, template_type]
            command = ["node", "try.mjs", *arguments]
            return subprocess.Popen(command, cwd=page.folder, stdout=subprocess.PIPE, text=True)

        yield use


def line(output: IO[str] | None) -> str:
    assert output is not None
    return output.readline().strip()


def test_a_page_renders_a_template_and_sees_a_change(use: Use, callers: Callers, clerk: Clerk) -> None:
    admin: Api = callers.user(PLATFORM_ADMIN)
    body = Template(title="A title", instructions="Sum up.", is_default=True)
    body.template_type, body.model = admin.type().name, admin.model().openai_id
    template = admin.templates.CreateTemplate(CreateTemplateRequest(template=body))
    with use(clerk.session(PLATFORM_ADMIN), template.template_type) as page:
        assert json.loads(line(page.stdout))["instructions"] == "Sum up."
        assert line(page.stdout) == "watching"
        admin.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id, title="Other")))
        assert line(page.stdout) == f"TEMPLATE {template.id}"
        assert page.wait(SECONDS) == 0


def test_a_page_reads_the_details_of_an_error(use: Use, callers: Callers, clerk: Clerk) -> None:
    del callers
    with use(clerk.session(PLATFORM_ADMIN), "no-such-type") as page:
        assert line(page.stdout).startswith("NotFound TEMPLATE_TYPE_NOT_FOUND: ")
        page.terminate()
        page.wait(SECONDS)
