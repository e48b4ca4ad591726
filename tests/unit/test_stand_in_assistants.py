"""`/v1/assistants` of the stand-in for OpenAI, as the SDK speaks it."""

import warnings
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.openai_stand_in import KEY, Fault, StandIn


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def stand_in(running: StandIn) -> StandIn:
    running.reset()
    return running


@pytest.fixture
def assistants(stand_in: StandIn) -> Iterator[Any]:
    with warnings.catch_warnings(), openai.OpenAI(api_key=KEY, base_url=stand_in.url, max_retries=0) as client:
        warnings.simplefilter("ignore", DeprecationWarning)
        yield client.beta.assistants


def test_an_assistant_is_created_read_updated_and_deleted(assistants: Any, stand_in: StandIn) -> None:
    made = assistants.create(model="gpt-4.1", name="One", metadata={"a": "b"}, tools=[{"type": "code_interpreter"}])
    assert (made.object, made.name, made.temperature) == ("assistant", "One", 1.0)
    changed = assistants.update(made.id, instructions="Do it.", temperature=0.5)
    assert (changed.name, changed.instructions, changed.metadata) == ("One", "Do it.", {"a": "b"})
    assert assistants.retrieve(made.id) == changed
    assert assistants.delete(made.id).deleted
    for call in (assistants.retrieve, assistants.delete, assistants.update):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    assert stand_in.assistants.deleted == [made.id]


def test_lists_come_in_pages_and_late_if_they_are_told_to(assistants: Any, stand_in: StandIn) -> None:
    ids = [assistants.create(model="gpt-4.1").id for _ in range(5)]
    assert [each.id for each in assistants.list(limit=2, order="asc")] == ids
    assert [each.id for each in assistants.list(limit=2)] == ids[::-1]
    page = assistants.list(limit=2, order="asc", after=ids[2])
    assert ([each.id for each in page.data], page.has_more) == (ids[3:], False)
    with pytest.raises(openai.NotFoundError):
        assistants.list(after="asst_none")
    stand_in.assistants.late_seconds = 60.0
    stand_in.assistants.age(ids[0], 100)
    assert [each.id for each in assistants.list()] == ids[:1]


@pytest.mark.parametrize(
    "odd",
    [
        {"model": "gpt-none"},
        {"name": "x" * 257},
        {"metadata": {"a": "x" * 513}},
        {"temperature": 2.5},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]},
        {"extra_body": {"verbosity": "low"}},
        {"tool_resources": {"file_search": {"file_ids": ["f"]}}},
    ],
)
def test_what_the_api_does_not_have_is_refused(odd: dict[str, Any], assistants: Any, stand_in: StandIn) -> None:
    with pytest.raises(openai.BadRequestError):
        assistants.create(**{"model": "gpt-4.1", **odd})
    assert not list(stand_in.assistants)


def test_an_answer_may_be_lost_and_the_whole_api_gone(assistants: Any, stand_in: StandIn) -> None:
    with stand_in.failing(Fault.LOST), pytest.raises(openai.APIConnectionError):
        assistants.create(model="gpt-4.1")
    assert len(list(stand_in.assistants)) == 1
    with stand_in.failing(Fault.GONE, only="GET /v1/assistants"), pytest.raises(openai.APIStatusError) as gone:
        assistants.list()
    assert gone.value.status_code == 410
