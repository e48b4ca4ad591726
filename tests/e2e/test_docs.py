"""The blocks of the documentation: those for a shell are pasted one after the other into one, on a running service."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omniflo.templates.v1.template_service_pb2 import RenderTemplateRequest
from tests.conftest import ROOT, fails
from tests.e2e.serving import eventually, serving
from tests.openai_stand_in import KEY, PORT, StandIn


def blocks(page: str, *sections: str, language: str = "sh") -> list[str]:
    """Return the blocks for a shell, or in another language, in these sections of a page."""
    text = (ROOT / page).read_text()
    found = []
    for section in sections:
        body = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        assert body, f"{page} has no section {section}"
        found += re.findall(rf"```{language}\n(.*?)```", body, re.DOTALL)
    return found


def pdf(text: str) -> bytes:
    """Return a document of one page."""
    drawn = f"BT /F1 18 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    made, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, content in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(made)
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    size = len(objects) + 1
    end = b"xref\n0 %d\n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return made + end % (size, table, size, len(made))


def test_the_blocks_for_callers_can_be_pasted(
    new_database: Callable[[], str], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", stand_in.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first, *others = blocks("README.md", "First calls")
    sections = (
        "From a template to a response",
        "Run a template on a file",
        "Change one field",
        "Try a revision before callers get it",
        "Trace an answer",
        "Variables",
        "Models and their end",
        "Usage",
    )
    pasted = [*others, *blocks("docs/callers.md", *sections)]
    assert len(pasted) >= 9
    if shutil.which("grpcurl") is None:
        pasted = [block for block in pasted if not block.startswith("grpcurl ")]
    (tmp_path / "invoice.pdf").write_bytes(pdf("Invoice 17: total 20 EUR"))
    with serving(new_database(), tmp_path / "log", "--seed", work="on") as service:
        script = "\n".join(["set -euo pipefail", first, *(f"{block}\necho '-- next'" for block in pasted)])
        script = script.replace("invoice.pdf", str(tmp_path / "invoice.pdf"))
        done = subprocess.run(
            ["/bin/bash", "-c", script.replace(f"http://127.0.0.1:{PORT}/v1", stand_in.url)],
            cwd=ROOT,
            env=os.environ | {"TEMPLATES_ADDRESS": service.address},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = done.stdout.split("-- next\n")
    assert '"title": "Invoices"' in outputs[1]
    assert "RESOLUTION_REASON_DEFAULT" in outputs[2]
    assert "a file search needs vector_store_ids" in outputs[3]
    assert "gpt-5.5 was told: Extract the total of each invoice." in done.stdout
    (file,) = stand_in.files
    assert f"It was given: invoice.pdf, {file.bytes} bytes, {file.digest}.\nresult: {{" in done.stdout
    assert '"reasoningEffort": "REASONING_EFFORT_LOW"' in done.stdout
    assert done.stdout.count('"label": "production"') >= 3
    assert '"message": "shorter summaries"' in done.stdout
    assert ('"REASONING_EFFORT_HIGH"' in done.stdout) is (shutil.which("grpcurl") is not None)
    assert "Summarize each letter in English. Write for lawyers." in done.stdout
    assert '"variables.tone"' in done.stdout
    assert "gpt-4o-mini" in done.stdout
    assert '"recordedCount": 1' in done.stdout
    # That of 2.5 s, the example that asks OpenAI itself, and the run of the file.
    assert re.search(r'"count": "3",[^}]*"durationMean": "[0-9.]+s"', done.stdout)


def test_a_call_by_tls_can_be_pasted(new_database: Callable[[], str], tmp_path: Path) -> None:
    (certificates,) = blocks("docs/operators.md", "TLS")
    *_, call = blocks("docs/operators.md", "First set-up in production")
    openssl = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", certificates], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert openssl.returncode == 0, openssl.stderr
    url, listen = new_database(), "127.0.0.1:0"
    files = {"tls_cert": tmp_path / "tls.pem", "tls_key": tmp_path / "tls-key.pem"}
    with serving(url, tmp_path / "log", "--seed", auth="required", health_listen=listen, **files) as service:
        (started,) = service.events("serving")
        # Until health has asked the database.
        eventually(lambda: service.events("database"), within=10)
        script = call.replace("ca.pem", str(tmp_path / "ca.pem")).replace(
            "127.0.0.1:50051", f"127.0.0.1:{started['listen']}"
        )
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=os.environ
            | {"OMNIFLO_DATABASE_URL": url, "OMNIFLO_HEALTH_LISTEN": f"127.0.0.1:{started['health_listen']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SERVING\n{")
    assert '"openaiId": "gpt-5.5"' in done.stdout


def test_a_watch_prints_what_another_terminal_writes(new_database: Callable[[], str], tmp_path: Path) -> None:
    setup, user, *_ = blocks("README.md", "First calls")
    (watch,) = blocks("docs/callers.md", "Watch")
    (list_,) = blocks("docs/callers.md", "What happened")
    # A job of its own can be ended with all that it has started.
    script = f"set -m\n{setup}\n({watch}) > '{tmp_path}/watched' 2>&1 &\nsleep 3\n{user}\n{list_}\nsleep 3\nkill -- -$!"
    with serving(new_database(), tmp_path / "log", "--seed") as service:
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=ROOT,
            env=os.environ | {"TEMPLATES_ADDRESS": service.address},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        eventually(lambda: service.calls()[-1]["code"] == "CANCELLED", within=10)
    assert '"beginTime"' in done.stdout, done.stderr
    watched = (tmp_path / "watched").read_text()
    assert watched.count('"CHANGE_KIND_USER"') == 1
    assert watched.count('"resumeToken"') >= 3


def test_the_channels_of_a_busy_caller_are_connections(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(new_database(), tmp_path / "log") as service:
        monkeypatch.setenv("TEMPLATES_ADDRESS", service.address)
        names: dict[str, Any] = {}
        for block in blocks("docs/callers.md", "From a program", language="python"):
            exec(block, names)  # noqa: S102 - what the page says is what is tried
        for _ in range(8):
            call = next(names["stubs"]).RenderTemplate
            assert fails(call, RenderTemplateRequest(id="nobody"), timeout=10).reason == "TEMPLATE_NOT_FOUND"
        eventually(lambda: len(service.calls()) == 8, within=10)
        assert Counter(Counter(call["peer"] for call in service.calls()).values()) == {2: 4}
        for channel in [names["channel"], *names["channels"]]:
            channel.close()
