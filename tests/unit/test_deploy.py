"""What is in deploy/ names what there is: settings, methods, releases, packages, and the paragraphs of the runbook."""

import json
import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest

from service.config import Settings, variable
from service.server import processes
from tests.conftest import ROOT
from tests.contract.methods import METHODS, UPLOADS

DEPLOY = ROOT / "deploy"
TEXTS = {path: path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".binpb"}


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_every_variable_is_a_setting() -> None:
    settings = {variable(name) for name in Settings.model_fields}
    named = {name for text in TEXTS.values() for name in re.findall(r"\b(?:OMNIFLO|OPENAI)_[A-Z_]+\b", text)}
    assert len(named) > 10
    assert named <= settings


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yaml").read_text())
    paragraphs = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert len(alerts) > 10
    assert alerts == paragraphs


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is absent, which Debian's prometheus has")
def test_each_alert_comes_of_a_sick_service_and_none_of_a_healthy_one() -> None:
    tests = DEPLOY / "prometheus" / "alerts_test.yaml"
    done = subprocess.run(["promtool", "test", "rules", tests], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S607 - whichever there is
    assert done.returncode == 0, done.stdout


def test_alerts_are_tested_both_ways() -> None:
    alerts = re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yaml").read_text())
    tested = re.findall(r"alertname: (\w+)", (DEPLOY / "prometheus" / "alerts_test.yaml").read_text())
    assert tested == alerts * 2


@pytest.mark.parametrize("name", ["kubernetes/server.yaml", "kubernetes/worker.yaml", "compose.yaml"])
def test_whoever_is_told_to_end_has_the_time_for_it(name: str) -> None:
    text = (DEPLOY / name).read_text()
    graces = re.findall(r"(?:terminationGracePeriodSeconds|stop_grace_period): (\d+)", text)
    delays = re.findall(r'OMNIFLO_DRAIN_DELAY_SECONDS, value: "(\d+)"', text)
    assert "OMNIFLO_DRAIN_SECONDS:" not in text
    for grace in map(int, graces):
        assert grace >= sum(map(int, delays)) + Settings().drain_seconds + processes.KILL_SECONDS
    assert len(graces) == text.count("[serve]") + text.count("[work]")


def test_every_method_that_is_drawn_or_watched_exists() -> None:
    names = {method.name for method in [*METHODS, *UPLOADS]}
    patterns = {
        pattern for text in TEXTS.values() for pattern in re.findall(r'grpc_method(?:=|!=|=~|!~)\\?"([^"\\]+)', text)
    }
    assert len(patterns) > 5
    for pattern in patterns:
        # Each of the alternatives, which are at the top.
        for alternative in re.split(r"\|(?![^(]*\))", pattern):
            assert any(re.fullmatch(alternative, name) for name in names), alternative


def test_dashboards_ask_what_can_be_chosen() -> None:
    boards = [json.loads(path.read_text()) for path in (DEPLOY / "grafana").glob("*.json")]
    assert len({board["uid"] for board in boards}) == len(boards) == 3

    def strings(value: Any) -> list[str]:
        if isinstance(value, dict | list):
            return [text for part in (value.values() if isinstance(value, dict) else value) for text in strings(part)]
        return [value] if isinstance(value, str) else []

    for board in boards:
        chosen = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval", "__all"}
        assert {name for text in strings(board) for name in re.findall(r"\$\{?(\w+)", text)} <= chosen


def test_the_image_has_the_packages_that_were_tested() -> None:
    image, tested = locked("deploy/requirements.lock"), locked("requirements-dev.lock")
    assert len(image) > 40
    assert {name: tested.get(name) for name in image} == image
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for requirement in (name for extra in sorted(extras.keys() - {"embedded"}) for name in extras[extra]):
        assert re.split(r"[\[<>=~ ]", requirement)[0] in image, requirement


def test_the_release_is_that_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'newTag: "{version}"' in (DEPLOY / "kubernetes" / "kustomization.yaml").read_text()
    assert f"image: omniflo-templates:{version}\n" in (DEPLOY / "compose.yaml").read_text()
