"""What is said to be wrong with a database, of which a test can hardly make all."""

from typing import Any

import pytest

from service.commands import report
from service.database.vitals import Index, Slot, Statement, Table, Transaction, Vitals
from service.operations.diagnosis import findings, hit_ratio
from service.operations.statistics import Times

FIGURES = {"connections": 5, "transaction_age": 1000, "bytes": 2**20, "hits": 10, "reads": 1}
SETTINGS = {"max_connections": "100", "shared_buffers": "131072 x 8kB", "fsync": "on"}
WELL = Vitals("omniflo", FIGURES, None, [], [], None, 0, None, SETTINGS, None)
EXPECTED = {"users_by_name": "create index users_by_name on users (name)"}
INDEX = Index("users_by_name", "users", 2**20, 5, is_valid=True, is_unique=False, is_partitioned=False)


def said(vitals: Vitals, **options: Any) -> str:
    """Return the only finding, and what to do about it."""
    given: dict[str, Any] = {"expected": {}, "hour": [], "day": [], "yesterday": None, **options}
    (found,) = findings(vitals, **given)
    return f"{found.what} -> {found.do}"


def test_nothing_is_wrong_with_what_is_well() -> None:
    assert findings(WELL._replace(indexes=[INDEX]), EXPECTED, [], [], None) == []


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit", "autovacuum", "track_counts"])
def test_a_setting_that_is_off_is_named(name: str) -> None:
    found = said(WELL._replace(settings={**SETTINGS, name: "off"}))
    assert found.startswith(f"{name} is off: ")
    assert f"alter system set {name} = on" in found


@pytest.mark.parametrize(
    ("figure", "value", "wanted"),
    [
        ("connections", 95, "95 of 100 connections"),
        ("transaction_age", 1_500_000_000, "1,500,000,000 transactions old"),
        ("reads", 200_000, "of the pages were in PostgreSQL's cache of 1,024 MB"),
    ],
)
def test_a_figure_that_is_too_high_is_told(figure: str, value: int, wanted: str) -> None:
    assert wanted in said(WELL._replace(figures={**FIGURES, figure: value}))


def test_a_large_database_with_the_default_buffers_is_told() -> None:
    vitals = WELL._replace(figures={**FIGURES, "bytes": 2**31}, settings={**SETTINGS, "shared_buffers": "16384 x 8kB"})
    assert "shared_buffers is 128 MB, and the database has 2.0 GB" in said(vitals)


def test_statistics_that_were_reset_since_are_counted_from_then() -> None:
    assert hit_ratio({"hits": 300_000, "reads": 100_000}, {"hits": 900_000, "reads": 0}) == 0.75
    assert hit_ratio({"hits": 10, "reads": 1}, None) is None


@pytest.mark.parametrize("is_active", [True, False])
def test_a_slot_that_holds_much_of_the_log_is_named(is_active: bool) -> None:
    found = said(WELL._replace(slot=Slot("standby", is_active, 2**31)))
    assert "the replication slot standby holds 2,048 MB" in found
    assert ("nobody reads it" in found) is not is_active


def test_a_transaction_that_is_open_for_long_is_named_with_its_process() -> None:
    found = said(WELL._replace(transaction=Transaction(17, "omniflo", "", "idle in transaction", 4000.0)))
    assert "omniflo (unnamed, idle in transaction) has been open for 4,000 s" in found
    assert "pg_terminate_backend(17)" in found


def test_indexes_that_are_missing_or_invalid_are_named() -> None:
    assert "create index concurrently users_by_name" in said(WELL, expected=EXPECTED)
    table = Table("users", True, 0, 0, 0)
    assert said(WELL._replace(tables=[table]), expected=EXPECTED).endswith(EXPECTED["users_by_name"])
    assert "reindex index concurrently users_by_name" in said(WELL._replace(indexes=[INDEX._replace(is_valid=False)]))


def test_a_table_of_dead_rows_is_named() -> None:
    assert "users has 5,000 dead rows beside 10" in said(WELL._replace(tables=[Table("users", False, 0, 10, 5000)]))


def test_statements_that_are_slow_or_slower_than_usual_are_named() -> None:
    slow, slower, few = Times("a", 100, 200.0, 3.0), Times("b", 100, 30.0, 1.0), Times("c", 1, 90.0, 90.0)
    assert "statements of a took 2,000 ms" in said(WELL, hour=[slow, few])
    assert "300 ms on average within the last hour, and 10 ms" in said(
        WELL, hour=[slower], day=[Times("b", 1000, 10.0, 1.0)]
    )


def test_the_slowest_statements_are_listed_where_the_server_knows_them() -> None:
    lines = "\n".join(report._server_statements(WELL._replace(statements=[Statement("select $1", 1000, 1.5, 1500.0)])))
    assert "select $1" in lines
    assert "1,000" in lines
    assert "pg_stat_statements is not installed" in "\n".join(report._server_statements(WELL))
