"""What the benchmark makes of its measurements, and what it reads of the machine."""

import json
import os
import sys
from pathlib import Path

import pytest

from bench import figures, machine, revisions, tools
from bench.figures import Bound, Measure, Series, Shape, Spread, Verdict
from bench.programs import ProgramError
from bench.targets import BOUNDS, targets
from service.interceptors.consistency import STRONG

SHAPE = Shape(8, 1)


def measure(round: int, target: str, rps: float, p99_ms: float = 1) -> Measure:
    return Measure(round, target, "Get", SHAPE, 100, rps, 1, p99_ms, 10, 10)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert figures.percentile(values, 50) == 50
    assert figures.percentile(values, 99) == 99
    assert figures.percentile([7], 99) == 7
    assert figures.percentile([1, 2, 3], 50) == 2
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 50)


def test_a_spread_is_the_median_with_its_extremes() -> None:
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)
    assert Spread.of([1, 2, 3, 4]) == Spread(2.5, 1, 4)
    assert Spread(1234.5, 1, 2).text(0) == "1,234 (1 to 2)"
    assert Spread.of([3]).text(2) == "3.00"


def test_every_round_has_everything_and_starts_elsewhere() -> None:
    orders = [figures.rotated("abcdefg", round, 5) for round in range(5)]
    assert all(sorted(order) == list("abcdefg") for order in orders)
    assert len({order[0] for order in orders}) == 5
    assert figures.rotated([], 3, 5) == []


def test_more_rounds_than_targets_still_rotate() -> None:
    assert [figures.rotated("ab", round, 5)[0] for round in range(4)] == ["a", "b", "a", "b"]


def test_a_ratio_is_made_within_each_round() -> None:
    # Both are twice as fast in the second round, so the ratio of medians over all rounds would look noisy.
    over = [measure(0, "service", 50), measure(1, "service", 120)]
    under = [measure(1, "echo", 200), measure(0, "echo", 100)]
    assert figures.ratio(over, under, "rps") == Spread(0.55, 0.5, 0.6)
    assert figures.ratio(over, [], "rps") is None
    assert figures.ratio([measure(2, "service", 50)], under, "rps") is None


def test_a_ratio_can_be_of_latencies() -> None:
    assert figures.ratio([measure(0, "service", 1, 3)], [measure(0, "echo", 1, 2)], "p99_ms") == Spread(1.5, 1.5, 1.5)


def test_a_bound_whose_sides_were_not_both_measured_has_no_ratio() -> None:
    bound = Bound("service / echo", ("service", "Get"), ("echo", "Get"), 0.5, 0.7)
    series = figures.by_series([measure(1, "service", 3), measure(0, "service", 1), measure(0, "echo", 2)])
    assert [found.round for found in series[Series("service", "Get", SHAPE)]] == [0, 1]
    assert figures.ratio_of(bound, SHAPE, series) == Spread(0.5, 0.5, 0.5)
    assert figures.ratio_of(bound, Shape(1, 32), series) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.8, Verdict.MET_TARGET),
        (0.7, Verdict.MET_TARGET),
        (0.69, Verdict.MET_FLOOR),
        (0.5, Verdict.MET_FLOOR),
        (0.49, Verdict.MISSED),
        (None, Verdict.NOT_MEASURED),
    ],
)
def test_what_lies_on_a_bound_meets_it(value: float | None, expected: Verdict) -> None:
    assert figures.verdict(value, floor=0.5, target=0.7) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.1, Verdict.MET_TARGET), (1.5, Verdict.MET_FLOOR), (1.6, Verdict.MISSED), (-3.0, Verdict.MET_TARGET)],
)
def test_less_is_better_where_a_bound_says_so(value: float, expected: Verdict) -> None:
    assert figures.verdict(value, floor=1.5, target=1.1, lower_is_better=True) is expected


def test_an_unquiet_run_judges_nothing() -> None:
    assert figures.verdict(0.9, floor=0.5, target=0.7, is_conclusive=False) is Verdict.NO_CONCLUSION
    assert figures.verdict(None, floor=0.5, target=0.7, is_conclusive=False) is Verdict.NOT_MEASURED


def test_twins_may_be_fifteen_percent_apart() -> None:
    assert figures.twins_agree(Spread(0.86, 0.5, 2))
    assert figures.twins_agree(Spread(1.14, 1, 2))
    assert not figures.twins_agree(Spread(1.16, 1, 2))
    assert not figures.twins_agree(Spread(0.84, 0.5, 1))
    assert not figures.twins_agree(None)


@pytest.mark.parametrize(
    ("twin", "many", "expected"),
    [
        ([1.0, 1.1, 0.9], [1.1, 1.2, 1.0], "met target"),
        ([1.0, 1.1, 0.9], [1.2, 1.2, 1.0], "met floor"),
        ([1.0, 1.1, 0.9], [1.6, 1.2, 1.6], "missed"),
        ([1.2, 1.3, 1.2], [1.0, 1.0, 1.0], "no conclusion"),
    ],
)
def test_a_read_of_a_revision_may_be_as_slow_as_the_twin_in_its_worst_round(
    twin: list[float], many: list[float], expected: str
) -> None:
    reads = {revisions.PLAIN: [1.0, 1.0, 1.0], revisions.TWIN: twin, revisions.MANY: many}
    result = revisions.Result(
        {},
        revisions.Options(100, rounds=3, calls=1, long_edits=1, is_quick=False),
        {revisions.Kind("Get", STRONG, read): p50_ms for read, p50_ms in reads.items()},
        {},
    )
    assert [row[-1] for row in revisions.reads(result)] == ["", "", f"{expected} (lower is better)"]


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_every_bound_is_about_what_the_table_of_targets_measures(cores: int) -> None:
    measured = {
        (target.name, work, shape) for target in targets(cores) for work in target.works for shape in target.shapes
    }
    for bound in BOUNDS:
        for target, work in (bound.over, bound.under):
            shapes = bound.shapes or (Shape(8, 1), Shape(1, 32))
            assert {(target, work, shape) for shape in shapes} <= measured, bound.title


def test_targets_have_names_of_their_own() -> None:
    names = [target.name for target in targets(2)]
    assert len(set(names)) == len(names)


def test_nothing_that_the_benchmark_did_not_start_is_pinned_or_counted() -> None:
    for pid in (-1, 0, 1):
        with pytest.raises(ValueError, match="no program that was started here"):
            machine.pin(pid, [0])
        with pytest.raises(ValueError, match="no program that was started here"):
            machine.processor_seconds(pid)


def test_the_processor_time_and_the_memory_of_a_process_are_read() -> None:
    assert machine.processor_seconds(os.getpid()) > 0
    [this, *_] = machine.memory(os.getpid())
    assert this.rss_mb >= this.pss_mb > 1


SCHEMAS = ['{"z":1.0,  "a":{}}', r'{"properties":{"inputSchema":{"title":"\u00e9 \"inputSchema\": {}"}}}', "true"]
SPEAKS = """#!{python}
import json, sys
schemas = json.loads({schemas!r})
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    print(json.dumps({{"jsonrpc": "2.0", "method": "notifications/message"}}))
    at = int(request["params"].get("cursor", 0))
    result = '{{"tools": [{{"name": "t%d", "inputSchema": %s}}]' % (at, schemas[at])
    result += ', "nextCursor": "%d"}}' % (at + 1) if at + 1 < len(schemas) else "}}"
    print('{{"jsonrpc": "2.0", "id": %d, "result": %s}}' % (request["id"], result), flush=True)
"""
"""An MCP server with a page for each tool."""


def server(folder: Path, text: str) -> tools.Server:
    program = folder / "node_modules" / ".bin" / "server"
    program.parent.mkdir(parents=True)
    program.write_text(text)
    program.chmod(0o755)
    return tools.Server("a", "a-server@1.0.0", "server")


def test_schemas_are_found_with_their_bytes() -> None:
    line = ", ".join(f'{{"description": "\\"inputSchema\\": 1", "inputSchema": {schema}}}' for schema in SCHEMAS)
    assert tools.schemas_in(f"[{line}]\n") == SCHEMAS
    assert tools.schemas_in("[]") == []


def test_a_server_is_asked_for_every_page_of_its_tools(tmp_path: Path) -> None:
    of = server(tmp_path, SPEAKS.format(python=sys.executable, schemas=json.dumps(SCHEMAS)))
    assert tools.tools_of(of, tmp_path) == [
        tools.Listed(f"t{number}", "", schema) for number, schema in enumerate(SCHEMAS)
    ]


@pytest.mark.parametrize("text", ["exit 1", "echo no JSON", """echo '{"id": 1, "error": {}}'"""])
def test_a_server_that_lists_nothing_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProgramError, match=r"a-server@1\.0\.0 did not list its tools"):
        tools.tools_of(server(tmp_path, f"#!/bin/sh\nread request; {text}\n"), tmp_path)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("/ must require a_name", "has an optional property"),
        ("/properties/a must have additionalProperties false", "must have additionalProperties false"),
        ("/properties/a has oneOf, which strict mode does not take there", "has oneOf"),
        ("/ is no object", "is no object"),
    ],
)
def test_reasons_are_counted_by_what_they_are_about(reason: str, kind: str) -> None:
    assert tools.kind_of(reason) == kind
