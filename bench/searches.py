"""What the titles of the benchmark have to be searched for, in many scripts and forms."""

from typing import NamedTuple

from bench.content import RARE


class _Kind(NamedTuple):
    """How a title has something, rare and common, and how people ask for it."""

    rare: str
    ask_rare: str
    common: str
    ask_common: str


_WORD = "a word"
_KINDS = {
    # Every title that has one of the others has this one.
    _WORD: _Kind("", "needle", "", "common"),
    "Chinese in a run": _Kind("月度绣花针报告", "绣花针", "月度销售额报告", "销售额"),
    "Chinese, one character": _Kind("", "绣", "", "额"),
    "Japanese in a run": _Kind("顧客縫い針作成", "縫い針", "顧客レポート作成", "レポート"),
    "Korean in a run": _Kind("월간바늘귀를", "바늘귀", "월간보고서를", "보고서"),
    "Thai in a run": _Kind("แบบเข็มหมุดประจำปี", "เข็มหมุด", "แบบรายงานประจำปี", "รายงาน"),
    "Arabic": _Kind("إبرة", "إبرة", "فاتورة", "فاتورة"),
    "emoji": _Kind("🪡", "🪡", "🧾", "🧾"),
    "decomposed": _Kind("aiguille\u0301e", "aiguill\u00e9e", "factur\u00e9e", "facture\u0301e"),
    "with a zero-width space": _Kind("na\u200bdel", "nadel", "rechnung", "rech\u200bnung"),
    "in wide letters": _Kind(
        "\uff29\uff27\uff2c\uff21", "igla", "faktura", "\uff26\uff21\uff2b\uff34\uff35\uff32\uff21"
    ),
    "e-mail address": _Kind("ann@pin.example", "ann@pin.example", "bob@bill.example", "bob@bill.example"),
    "tag": _Kind("#pinned-once", "#pinned-once", "#billed-twice", "#billed-twice"),
}

RARE_TEXTS = "".join(f" {kind.rare}" for kind in _KINDS.values())
COMMON_TEXTS = "".join(f" {kind.common}" for kind in _KINDS.values())

_OF_RARE, _OF_COMMON = f"{RARE} titles", "1 in 10 titles"


def _name(kind: str, titles: str) -> str:
    return f"list: query, {kind}, in {titles}"


QUERIES = {_name(name, _OF_RARE): kind.ask_rare for name, kind in _KINDS.items()} | {
    _name(name, _OF_COMMON): kind.ask_common for name, kind in _KINDS.items()
}
"""The query of each search, by its name."""

ORDINARY = {_name(name, titles): _name(_WORD, titles) for titles in (_OF_RARE, _OF_COMMON) for name in _KINDS}
"""The search for an ordinary word that as many titles have, by the name of each search."""
