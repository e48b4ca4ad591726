"""What a search finds, by what people write: in which language, in which form of Unicode, and with what in between."""

import random
import sys
import unicodedata

import pytest
from grpc import StatusCode

from omniflo.templates.v1.template_service_pb2 import ListTemplatesRequest
from service.database.transactions import read
from service.operations.template_search import MAX_WORDS, words_of
from tests.conftest import Api, Database, fails

ROWS: dict[str, tuple[str, str, bool]] = {
    "a word in any case": ("Monthly Sales Report", "REPORT", True),
    "the beginning of a word": ("Monthly Sales Report", "rep", True),
    "the middle of a word": ("Monthly Sales Report", "port", False),
    "the hump of a camel": ("customerName", "name", False),
    "words in another order": ("Monthly Sales Report", "report monthly", True),
    # Forms of Unicode
    "composed, in decomposed text": ("Cafe\u0301 in Zu\u0308rich", "caf\u00e9 z\u00fcri", True),
    "decomposed, in composed text": ("Caf\u00e9 in Z\u00fcrich", "cafe\u0301 zu\u0308ri", True),
    "decomposed Vietnamese": ("Hóa đơn tiền điện", unicodedata.normalize("NFD", "tiền điện"), True),
    "decomposed Korean": (unicodedata.normalize("NFD", "월간보고서"), "보고서", True),
    "decomposed Japanese": (unicodedata.normalize("NFD", "ガイドブック"), "ドブ", True),
    "wide letters": ("ＡＰＩ ガイド", "api", True),
    "wide digits": ("２０２６年度の予算", "2026", True),
    "narrow kana": ("ｶｽﾀﾏｰｻﾎﾟｰﾄ", "サポート", True),
    "a ligature": ("Oﬃce supplies", "office", True),
    "a number that stands high": ("Price per m²", "m2", True),
    "a space that does not break": ("Data\u00a0export", "data export", True),
    "an accent that is not there": ("Résumé", "resume", False),
    # What is not seen
    "a zero-width space in the text": ("Data\u200bexport", "dataexport", True),
    "a zero-width space in the query": ("Data export", "ex\u200bport", True),
    "zero-width spaces around the query": ("Data export", "\u200bdata\u200b \ufeffexport", True),
    "zero-width spaces in a run": ("ใบ\u200bแจ้ง\u200bหนี้", "แจ้งหนี้", True),
    "a zero-width space before an accent": ("Cafe\u200b\u0301", "café", True),
    "a soft hyphen": ("Rechnungs\u00adprüfung", "rechnungsprüfung", True),
    "a Persian word that is not joined": ("می\u200cخواهم", "میخواهم", True),
    "marks of direction": ("\u202bחשבונית\u202c", "חשבונית", True),
    # Written without spaces
    "Chinese inside a run": ("月度销售报告模板", "销售", True),
    "Chinese at the end of a run": ("月度销售报告模板", "报告模板", True),
    "one Chinese character": ("月度销售报告模板", "报", True),
    "the last Chinese character": ("月度销售报告模板", "板", True),
    "Chinese in another order": ("月度销售报告模板", "告报", False),
    "Chinese as it was written before": ("月度銷售報告", "报告", False),
    "Chinese with its punctuation": ("你好，世界。", "世界", True),
    "Chinese over punctuation": ("你好，世界。", "好世", False),
    "a Chinese character beyond 16 bits": ("说𠮷野家的话", "𠮷野", True),
    "Japanese inside a run": ("請求書をまとめる", "まとめ", True),
    "Japanese in two words": ("顧客レポートを作成する", "作成 レポート", True),
    "Japanese beside Latin letters": ("PDFを要約する", "要約", True),
    "Latin letters beside Japanese": ("顧客PDFを要約する", "pdfを", True),
    "a pair of characters, but not together": ("東京と京都の天気", "東京都", False),
    "a pair of words, but not together": ("東京 京都", "東京都", False),
    "a name with a dot": ("ジョン・スミス", "ジョン スミス", True),
    "the other kana": ("レポート", "れぽーと", False),
    "Korean inside a word": ("월간매출보고서를 작성합니다", "보고서", True),
    "Korean over a space": ("월간 보고서", "간보", False),
    "Thai inside a run": ("แม่แบบรายงานประจำเดือน", "รายงาน", True),
    "Thai after a vowel above": ("แม่แบบรายงานประจำเดือน", "เดือน", True),
    "Thai letters, but not together": ("การขายและเงินเดือน", "การเงิน", False),
    "Lao": ("ລາຍງານປະຈໍາເດືອນ", "ເດືອນ", True),
    "Khmer": ("របាយការណ៍ប្រចាំខែ", "ប្រចាំ", True),
    "Burmese": ("လစဉ်အစီရင်ခံစာ", "အစီရင်", True),
    "emoji": ("Launch 🚀 list", "🚀", True),
    "emoji beside a word": ("Launch🚀", "launch", True),
    "emoji of another color": ("👍🏽 Review", "👍", True),
    "emoji in another variant": ("Love ❤️", "❤", True),
    "emoji of several": ("👩\u200d💻 Onboarding", "💻", True),
    # Other scripts
    "Arabic": ("تقرير المبيعات الشهري", "المبيعات", True),
    "Arabic with a comma": ("تقرير،ملخص", "ملخص", True),
    "Arabic in forms of presentation": ("ﺗﻘﺮﻳﺮ", "تقرير", True),
    "Arabic without its vowels": ("مُحَمَّد", "محمد", False),
    "Hebrew": ("סיכום פגישה", "פגישה", True),
    "Hebrew with a mark of its own": ("דו״ח חודשי", 'דו"ח', True),
    "Hindi": ("मासिक बिक्री रिपोर्ट।", "बिक्री रिपोर्ट", True),
    "Greek at the end of a word": ("ΛΌΓΟΣ", "λόγος", True),
    "Russian": ("Отчёт о продажах", "ОТЧЁТ", True),
    "German in capitals": ("Straßenverzeichnis", "STRASSEN", True),
    "German in small letters": ("STRASSE", "straße", True),
    "a German umlaut": ("Überweisung", "über", True),
    "a German umlaut that is not there": ("Überweisung", "uberweisung", False),
    # Punctuation
    "a hyphen": ("A step-by-step guide", "step-by", True),
    "a space for a hyphen": ("A step-by-step guide", "by step", True),
    "nothing for a hyphen": ("A step-by-step guide", "stepbystep", False),
    "a long dash": ("Plan—review…", "review", True),
    "quotes that bend": ("“Report” by O’Brien", "o'brien report", True),
    "quotes that point": ("«Отчёт»", "отчёт", True),
    "Spanish marks": ("¿Qué tal?", "qué", True),
    "an e-mail address": ("Mail to anna.lee@example.com", "anna.lee@example.com", True),
    "the host of an e-mail address": ("Mail to anna.lee@example.com", "@example", True),
    "a URL": ("See https://example.com/docs?page=2", "https://example.com/docs", True),
    "a part of a URL": ("See https://example.com/docs?page=2", "docs", True),
    "a tag": ("Triage #urgent tickets", "#urgent", True),
    "a word for a tag": ("Triage #urgent tickets", "urgent", True),
    "a placeholder": ("Dear {{customer_name}}", "{{customer_name}}", True),
    "a part between underscores": ("Dear {{customer_name}}", "name", True),
    "code": ("foo(bar)->baz[0]", "bar->baz", True),
    "a version": ("Prompt for gpt-5.5", "gpt-5.5", True),
    "the beginning of a number": ("Order 123456", "1234", True),
    "the end of a number": ("Order 123456", "3456", False),
    "a number with a comma": ("1,000 rows", "1,000", True),
    "a number without its comma": ("1,000 rows", "1000", False),
}
"""A title, a query, and whether it finds it."""


def finds(api: Api, query: str) -> bool:
    return bool(api.templates.ListTemplates(ListTemplatesRequest(query=query)).templates)


@pytest.mark.parametrize(("title", "query", "found"), ROWS.values(), ids=ROWS)
def test_a_search_finds_what_people_expect(api: Api, title: str, query: str, found: bool) -> None:
    template = api.template(title=title)
    assert template.title == title
    assert finds(api, query) == found


def test_a_run_of_any_length_is_found_and_every_part_of_it(api: Api) -> None:
    run = "".join(chr(0x4E00 + number) for number in range(256))
    api.template(title=run, description=run[::-1])
    assert finds(api, run)
    assert finds(api, run[::-1])
    assert [start for start in range(0, 255, 15) if not finds(api, run[start : start + 40])] == []
    assert not finds(api, run[:200] + run[201:])


def test_a_word_longer_than_any_query_is_found_by_its_beginning(api: Api) -> None:
    api.template(description="é" * 2000)
    assert finds(api, "é" * 256)
    assert not finds(api, "é" * 255 + "e")


def test_whatever_the_characters_a_text_is_found_by_itself(database: Database, api: Api) -> None:
    generator = random.Random(1)
    every = [
        character for character in map(chr, range(1, sys.maxunicode + 1)) if unicodedata.category(character) != "Cs"
    ]
    assigned = [character for character in every if unicodedata.category(character) not in {"Cn", "Co"}]
    template = api.template()
    lost = []
    for _ in range(40):
        title = "".join(generator.choices(assigned, k=12))
        database.query("update templates set title = %s where id = %s", (title, template.id))
        seen = database.query("select words <> '' from templates")[0][0]
        forms = [unicodedata.normalize(form, title) for form in ("NFC", "NFD", "NFKC", "NFKD")]
        lost += [(title, form) for form in (title, "\u200b".join(title), *forms) if finds(api, form) != seen]
    assert lost == []


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("invoice", "'invoice':*"),
        ("  invoice \t\n total ", "'invoice':* & 'total':*"),
        ("Invoice TOTAL", "'invoice':* & 'total':*"),
        ("a & b", "'a' & 'b':*"),
        ("a—b…c", "'a' & 'b' & 'c':*"),
        ("a|!b:*<->(c)", "'a' & 'b' & 'c':*"),
        ("o'clock", "'o' & 'clock':*"),
        ("back\\slash", "'back':* & 'slash':*"),
        ("\\'", ""),
        ("%s {}", "'s':*"),
        ("report Report", "'report':*"),
        ("été 日本語", "'été':* & ('日本' <-> '本語')"),
        ("日本PDF 日本", "'pdf':* & ('日本')"),
        ("本 a", "'a':* & '本':*"),
        ("", ""),
        (" ", ""),
        ("\u200b", ""),
    ],
)
def test_every_word_is_a_prefix_but_a_letter_and_every_run_a_phrase(url: str, query: str, wanted: str) -> None:
    del url
    assert read(words_of)(query) == wanted


def test_a_query_has_so_many_different_words_and_runs_and_no_more(api: Api) -> None:
    words, runs = [f"w{number}" for number in range(MAX_WORDS)], list("一二三四五六七八九")
    api.template(title=" ".join(words + runs), description="日本" * 100)
    for some in (words * 2, words[:7] + runs, [*words[:15], "日本" * 90]):
        assert finds(api, " ".join(some))
    for many in (
        " ".join([*words, "more"]),
        " ".join([*words, "多"]),
        "".join(f"{run}{number}" for number, run in enumerate(runs)),
    ):
        failure = fails(finds, api, many)
        assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert list(failure.violations) == ["query"]
