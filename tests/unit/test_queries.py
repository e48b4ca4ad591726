"""The words of a query, as PostgreSQL wants them."""

import pytest

from service.operations.templates import _prefixes


@pytest.mark.parametrize(
    ("query", "prefixes"),
    [
        ("invoice", "'invoice':*"),
        ("  invoice \t\n total ", "'invoice':* & 'total':*"),
        ("Invoice TOTAL", "'Invoice':* & 'TOTAL':*"),
        ("a & b", "'a':* & 'b':*"),
        ("a|!b:*<->(c)", "'a':* & 'b':* & 'c':*"),
        ("o'clock", "'o':* & 'clock':*"),
        ("back\\slash", "'back':* & 'slash':*"),
        ("\\'", ""),
        ("%s {}", "'s':*"),
        ("été 日本語", "'été':* & '日本語':*"),
        ("", ""),
        (" ", ""),
    ],
)
def test_every_word_is_a_prefix_and_punctuation_parts_words(query: str, prefixes: str) -> None:
    assert _prefixes(query) == prefixes
