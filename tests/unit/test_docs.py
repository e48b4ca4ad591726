"""The documentation names what there is: settings, methods, reasons, and files."""

import re
from pathlib import Path
from typing import get_args

import pytest

from service.config import Settings, variable
from service.errors import Cause, Reason
from service.jobs.tasks import TASKS
from tests.conftest import ROOT
from tests.contract.methods import METHODS, UPLOADS

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"]


def table(page: str, header: str) -> list[list[str]]:
    """Return the cells of the rows of the table that begins with the header."""
    rows = (ROOT / page).read_text().partition(header)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def names(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_every_setting_is_in_the_table_of_settings() -> None:
    rows = table("docs/operators.md", "| variable | default | meaning |")
    assert sorted(names([row[0] for row in rows])) == sorted(map(variable, Settings.model_fields))


def test_every_secret_is_named_with_its_file() -> None:
    page = (ROOT / "docs/operators.md").read_text()
    assert [name for name in Settings.secrets().values() if f"`{name}_FILE`" not in page] == []


def test_every_task_is_in_the_table_of_tasks() -> None:
    rows = table("docs/operators.md", "| task | runs, in UTC | what it does |")
    often = {3600: "hourly", 86_400: "daily"}
    else_ = {60: "every minute", 300: "every 5 minutes", 600: "every 10 minutes"}
    wanted = [
        (
            task.name,
            f"{often[every]} at {task.schedule}" if (every := task.schedule.every) in often else else_[every],
        )
        for task in TASKS
    ]
    assert [(row[0].strip("` "), row[1]) for row in rows] == wanted


def test_every_method_is_in_the_table_of_services() -> None:
    rows = table("docs/callers.md", "| service | methods |")
    named = [(row[0].strip("`"), name) for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    methods = [(method.descriptor.containing_service.name, method.name) for method in [*METHODS, *UPLOADS]]
    assert sorted(named) == sorted(methods), "on the left: what the table in docs/callers.md names"


def test_every_reason_is_in_the_table_of_errors() -> None:
    rows = table("docs/callers.md", "| code | reasons | what to do |")
    assert sorted(names([row[1] for row in rows])) == sorted(get_args(Reason))


def test_every_cause_is_in_the_table_of_causes() -> None:
    rows = table("docs/operators.md", "| cause | what is wrong |")
    assert sorted(names([row[0] for row in rows])) == sorted(get_args(Cause))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
