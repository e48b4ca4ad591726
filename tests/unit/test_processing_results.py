"""What becomes of an answer that should fit a schema."""

import json
import subprocess
import threading
import time

import pytest

from service.operations import processing_results

SCHEMA = '{"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}'


@pytest.mark.parametrize(
    ("text", "response_format", "wanted"),
    [
        ("not JSON", SCHEMA, "the answer is not JSON"),
        ('{"total": NaN}', SCHEMA, "the answer is not JSON"),
        ("[" * 100_000, SCHEMA, "the answer is not JSON"),
        ('{"total": "secret"}', SCHEMA, "the answer does not fit the response_format: /total breaks /properties/"),
        ("{}", SCHEMA, "the answer does not fit the response_format: / breaks /required"),
    ],
)
def test_what_does_not_fit_says_where_and_not_what(text: str, response_format: str, wanted: str) -> None:
    found = processing_results.of(text, response_format)
    assert processing_results.compared(text, response_format) == found
    assert found.text == ""
    assert found.problem.startswith(wanted)
    assert "secret" not in found.problem


def test_what_fits_is_returned_as_it_is() -> None:
    assert processing_results.compared('{"total": 1}', SCHEMA) == processing_results.Results('{"total": 1}')
    assert processing_results.of('{"total": 1}', SCHEMA) == processing_results.Results('{"total": 1}')
    assert processing_results.of("Total: 1 €", None) == processing_results.Results('{"text": "Total: 1 €"}')


def nested(depth: int) -> str:
    return '{"x": ' + "[" * depth + '"x"' + "]" * depth + "}"


def recursive(how: str) -> str:
    """Return a schema in which every array is looked at in two ways, which doubles the work with each level."""
    ways = [{"items": {"$ref": "#/$defs/n"}, "minItems": 0}, {"items": {"$ref": "#/$defs/n"}, "maxItems": 99}]
    if how == "anyOf":
        # No text is right: there is an error for each way to it.
        ways = [{"type": "array", **way} for way in ways]
    return json.dumps({"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {how: ways}}})


@pytest.mark.parametrize(("how", "depth"), [("allOf", 40), ("anyOf", 30)])
def test_a_comparison_that_would_take_years_or_all_memory_is_given_up_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, how: str, depth: int
) -> None:
    monkeypatch.setattr(processing_results, "SECONDS", 1)
    monkeypatch.setattr(processing_results, "MEMORY_BYTES", 300 * 1024 * 1024)
    ticks: list[float] = []
    stopped = threading.Event()

    def tick() -> None:
        while not stopped.wait(0.05):
            ticks.append(time.monotonic())

    ticking = threading.Thread(target=tick)
    ticking.start()
    found = processing_results.of(nested(depth), recursive(how))
    stopped.set()
    ticking.join()
    assert found.problem == "the answer cannot be compared with the response_format in the time and memory there is"
    assert len(ticks) >= 3


def test_a_comparison_that_fails_by_a_fault_of_ours_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing_results, "SECONDS", "no number")
    with pytest.raises(subprocess.CalledProcessError):
        processing_results.of("{}", SCHEMA)
