"""What becomes of an answer that should fit a schema."""

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
    assert found.text == ""
    assert found.problem.startswith(wanted)
    assert "secret" not in found.problem


def test_what_fits_is_returned_as_it_is() -> None:
    assert processing_results.of('{"total": 1}', SCHEMA) == processing_results.Results('{"total": 1}')
    assert processing_results.of("Total: 1 €", None) == processing_results.Results('{"text": "Total: 1 €"}')
