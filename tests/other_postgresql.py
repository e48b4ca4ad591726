"""A plugin of pytest's: the tests run on the PostgreSQL whose programs are in the folder TEST_POSTGRESQL."""

import os
from pathlib import Path

import pytest

from service.database import embedded


def pytest_configure() -> None:
    folder = Path(os.environ["TEST_POSTGRESQL"])
    if not (folder / "postgres").exists():
        raise pytest.UsageError(f"TEST_POSTGRESQL: there is no postgres in {folder}")
    embedded.other_programs = folder


def pytest_report_header() -> str:
    return f"PostgreSQL: {embedded.other_programs}"
