"""TemplateService, through its stub: finding templates, by filters and by words."""

from typing import Any

import pytest
from grpc import StatusCode

from omniflo.templates.v1.template_pb2 import Template, TemplateView
from omniflo.templates.v1.template_service_pb2 import ListTemplatesRequest, UpdateTemplateRequest
from service.operations import template_search
from tests.conftest import Api, fails
from tests.contract.walks import walk

pytestmark = pytest.mark.modes


def found(api: Api, request: ListTemplatesRequest) -> list[str]:
    return [template.id for template in api.templates.ListTemplates(request).templates]


def matches(api: Api, query: str) -> list[str]:
    """Answer the titles of the templates that the query finds, in alphabetical order."""
    answer = api.templates.ListTemplates(ListTemplatesRequest(query=query))
    return sorted(template.title for template in answer.templates)


def titled(api: Api, *titles: str, description: str = "") -> None:
    first = api.template(title=titles[0], description=description)
    for title in titles[1:]:
        api.template(
            title=title,
            description=description,
            user_id=first.user_id,
            template_type=first.template_type,
            model=first.model,
        )


def test_the_newest_come_first_whatever_changed_since(api: Api) -> None:
    ids = [api.template().id for _ in range(4)]
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=ids[1], title="Another title")))
    assert found(api, ListTemplatesRequest()) == ids[::-1]


def test_each_filter_finds_what_it_names_and_all_are_joined(api: Api) -> None:
    first = api.template(is_default=True)
    same_type = api.template(template_type=first.template_type)
    same_model = api.template(model=first.model)
    same_user = api.template(user_id=first.user_id, is_default=True)
    assert found(api, ListTemplatesRequest(template_type=first.template_type)) == [same_type.id, first.id]
    assert found(api, ListTemplatesRequest(model=first.model)) == [same_model.id, first.id]
    assert found(api, ListTemplatesRequest(user_id=first.user_id)) == [same_user.id, first.id]
    assert found(api, ListTemplatesRequest(is_default=True)) == [same_user.id, first.id]
    assert found(api, ListTemplatesRequest(is_default=False)) == [same_model.id, same_type.id]
    both = ListTemplatesRequest(template_type=first.template_type, is_default=False)
    assert found(api, both) == [same_type.id]
    both.user_id = first.user_id
    assert found(api, both) == []


@pytest.mark.parametrize(
    "request_",
    [
        ListTemplatesRequest(template_type="none"),
        ListTemplatesRequest(model="none"),
        ListTemplatesRequest(user_id="none"),
        ListTemplatesRequest(query="none"),
    ],
    ids=["template_type", "model", "user_id", "query"],
)
def test_a_filter_that_matches_nothing_gives_an_empty_page(api: Api, request_: ListTemplatesRequest) -> None:
    api.template()
    answer = api.templates.ListTemplates(request_)
    assert not answer.templates
    assert not answer.next_page_token


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("export", ["Data export", "exporter"]),
        ("EXPORT", ["Data export", "exporter"]),
        ("exp", ["Data export", "exporter"]),
        ("xport", []),
        ("data", ["Data", "Data export", "data-import"]),
        ("data export", ["Data export"]),
        ("export data", ["Data export"]),
        ("exp da", ["Data export"]),
        ("  data \t export\n", ["Data export"]),
        ("data none", []),
        ("data data", ["Data", "Data export", "data-import"]),
        ("data-import", ["data-import"]),
        ("data-imp", ["data-import"]),
        ("import", ["data-import"]),
        ("", ["Data", "Data export", "data-import", "exporter"]),
        ("   ", ["Data", "Data export", "data-import", "exporter"]),
    ],
)
def test_a_query_finds_every_word_as_a_prefix_in_any_case(api: Api, query: str, titles: list[str]) -> None:
    titled(api, "Data export", "Data", "exporter", "data-import")
    assert matches(api, query) == titles


@pytest.mark.parametrize("most", [5, 4], ids=["found", "walked"])
def test_pages_of_a_search_are_the_same_whichever_way_they_are_found(
    api: Api, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(template_search, "MAX_RARE", most)
    made = [api.template(title=f"The report {number}", tags=["kind", "of/one"]) for number in range(5)]
    api.template(title="Something else", tags=["kinder"])
    for filters in ({"query": "report"}, {"tags": ["kind"]}, {"tags": ["of/"]}, {"query": "the", "tags": ["kind"]}):
        pages = walk(api.templates.ListTemplates, ListTemplatesRequest(page_size=2, **filters))
        assert [template for page in pages for template in page.templates] == made[::-1]


def test_a_query_finds_a_word_in_angle_brackets(api: Api) -> None:
    titled(api, "Reply to <customer>", "Reply")
    assert matches(api, "customer") == ["Reply to <customer>"]


def test_a_query_looks_at_titles_and_descriptions_together_and_nowhere_else(api: Api) -> None:
    titled(api, "Invoices", description="Reads what was scanned.")
    api.template(title="Other", instructions="Invoices that were scanned.")
    assert matches(api, "invoices") == ["Invoices"]
    assert matches(api, "scanned") == ["Invoices"]
    assert matches(api, "scan inv") == ["Invoices"]


def test_a_query_finds_a_template_as_it_is_now(api: Api) -> None:
    template = api.template(title="Before")
    api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id, title="After")))
    assert matches(api, "before") == []
    assert matches(api, "after") == ["After"]


@pytest.mark.parametrize("word", ["the", "and", "running", "of", "a", "not"])
def test_no_word_is_left_out_or_cut_to_its_stem(api: Api, word: str) -> None:
    titled(api, f"x {word} y", "x y")
    assert matches(api, word) == [f"x {word} y"]
    assert matches(api, "run") == (["x running y"] if word == "running" else [])


WORDS = """
    Überschrift Straße naïve Émile résumé Ångström Ωμέγα Привет 日本語テスト 한국어
    data-export step-by-step gpt-5.5 v1.2.3 3.14 1,000 50% C++ C# snake_case camelCase 1e5 +49 -7 10:30 2027-03-31 e.g.
    O'Brien don't "quoted" (brackets) [brackets] {{customer}} <customer> a&b a|b a/b read/write back\\slash #tag @name
    user@example.com example.com https://example.com/path?q=1 /usr/local C:\\dir a:* !important x=y $HOME
"""


@pytest.mark.once
@pytest.mark.parametrize("word", WORDS.split())
def test_every_beginning_of_a_word_finds_it(api: Api, word: str) -> None:
    title = f"one {word} two"
    titled(api, title, "else")
    beginnings = [word[:end] for end in range(1, len(word) + 1)]
    # One without a letter or a digit is no word yet.
    beginnings = [beginning for beginning in beginnings if any(map(str.isalnum, beginning))]
    assert [beginning for beginning in beginnings if title not in matches(api, beginning)] == []
    assert matches(api, f"tw {word} on") == [title]


@pytest.mark.parametrize(
    ("title", "query"),
    [("Überschrift", "üBER"), ("über uns", "ÜBER"), ("ПРИВЕТ", "привет"), ("éclair", "ÉCLAIR"), ("Ωμέγα", "ωμέγα")],
)
def test_case_does_not_matter_beyond_ascii(api: Api, title: str, query: str) -> None:
    titled(api, title)
    assert matches(api, query) == [title]


@pytest.mark.parametrize(
    "query",
    ["!report", "report !", "report &", "& report", "' | report", "report:*", "\\ report", "(report", "-report"],
)
def test_no_character_beside_a_word_is_an_operator(api: Api, query: str) -> None:
    titled(api, "The report", "other")
    assert matches(api, query) == ["The report"]


@pytest.mark.parametrize("query", ["report | other", "report|other", "report <-> other", "report:A", "report & !other"])
def test_every_word_is_wanted_whatever_stands_between_them(api: Api, query: str) -> None:
    titled(api, "The report", "other")
    assert matches(api, query) == []


NO_WORDS = r"""' '' " \ \' '\ & | ! <-> () :* ';-- {} ? *"""


@pytest.mark.parametrize("query", NO_WORDS.split())
@pytest.mark.parametrize("times", [1, 50])
def test_a_query_without_a_word_is_no_fault(api: Api, query: str, times: int) -> None:
    titled(api, "The report")
    for text in (query * times, " ".join([query] * times)):
        assert matches(api, text) in ([], ["The report"])


def test_a_query_has_256_characters_at_most(api: Api) -> None:
    failure = fails(matches, api, "a" * 257)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["query"]


def test_pages_end_before_3_mib_and_are_walked_to_the_end(api: Api) -> None:
    first = api.template(instructions="\N{ROCKET}" * 256_000)
    fields: dict[str, Any] = {
        "user_id": first.user_id,
        "template_type": first.template_type,
        "model": first.model,
        "title": "t",
    }
    sizes = [256_000, 256_000, 1, 256_000, 200_000, 1, 1]
    ids = [first.id, *(api.template(instructions="\N{ROCKET}" * size, **fields).id for size in sizes)][::-1]
    pages = list(walk(api.templates.ListTemplates, ListTemplatesRequest()))
    assert [template.id for page in pages for template in page.templates] == ids
    assert 2 <= len(pages) <= 3
    assert max(page.ByteSize() for page in pages) <= 3 * 1024 * 1024
    summaries = ListTemplatesRequest(view=TemplateView.TEMPLATE_VIEW_SUMMARY)
    answer = api.templates.ListTemplates(summaries)
    assert [template.id for template in answer.templates] == ids
    assert not answer.next_page_token
