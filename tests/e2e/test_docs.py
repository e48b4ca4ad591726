"""The blocks of the documentation, pasted one after the other into one shell, on a running service."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.serving import serving
from tests.openai_stand_in import KEY, PORT, StandIn


def blocks(page: str, *sections: str) -> list[str]:
    """Return the blocks for a shell in these sections of a page."""
    text = (ROOT / page).read_text()
    found = []
    for section in sections:
        body = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        assert body, f"{page} has no section {section}"
        found += re.findall(r"```sh\n(.*?)```", body, re.DOTALL)
    return found


def test_the_blocks_for_callers_can_be_pasted(
    new_database: Callable[[], str], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", stand_in.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first, *others = blocks("README.md", "First calls")
    sections = ("From a template to a response", "Change one field", "Models and their end")
    pasted = [*others, *blocks("docs/callers.md", *sections)]
    assert len(pasted) >= 9
    if shutil.which("grpcurl") is None:
        pasted = [block for block in pasted if not block.startswith("grpcurl ")]
    with serving(new_database(), tmp_path / "log", "--seed") as service:
        script = "\n".join(["set -euo pipefail", first, *(f"{block}\necho '-- next'" for block in pasted)])
        done = subprocess.run(
            ["/bin/bash", "-c", script.replace(f"http://127.0.0.1:{PORT}/v1", stand_in.url)],
            cwd=ROOT,
            env=os.environ | {"OMNIFLO_ADDRESS": service.address},
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
    assert '"reasoningEffort": "REASONING_EFFORT_LOW"' in done.stdout
    assert ('"REASONING_EFFORT_HIGH"' in done.stdout) is (shutil.which("grpcurl") is not None)
    assert "gpt-4o-mini" in done.stdout
