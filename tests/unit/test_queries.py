"""The words of a query, as PostgreSQL wants them."""

import pytest

from service.errors import InvalidArgument
from service.operations.template_search import MAX_WORDS, words_of


@pytest.mark.parametrize(
    ("query", "prefixes"),
    [
        ("invoice", "'invoice':*"),
        ("  invoice \t\n total ", "'invoice':* & 'total':*"),
        ("Invoice TOTAL", "'Invoice':* & 'TOTAL':*"),
        ("a & b", "'a' & 'b':*"),
        ("a|!b:*<->(c)", "'a' & 'b' & 'c':*"),
        ("o'clock", "'o' & 'clock':*"),
        ("back\\slash", "'back':* & 'slash':*"),
        ("\\'", ""),
        ("%s {}", "'s':*"),
        ("report report", "'report':*"),
        ("я 漢", "'я' & '漢':*"),
        ("été 日本語", "'été':* & '日本語':*"),
        ("", ""),
        (" ", ""),
    ],
)
def test_every_word_is_a_prefix_but_a_letter_and_punctuation_parts_words(query: str, prefixes: str) -> None:
    assert words_of(query) == prefixes


def test_a_query_has_so_many_different_words_and_no_more() -> None:
    words = [f"w{number}" for number in range(MAX_WORDS)]
    assert words_of(" ".join(words * 2)).count("&") == MAX_WORDS - 1
    with pytest.raises(InvalidArgument) as caught:
        words_of(" ".join([*words, "more"]))
    assert [field for field, _ in caught.value.violations] == ["query"]
