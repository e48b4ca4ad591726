"""The stand-in for OpenAI, asked by OpenAI's own SDK: what it lists, and what it refuses of files and runs."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.openai_stand_in import KEY, StandIn


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    stand_in = StandIn()
    with openai.OpenAI(api_key=KEY, base_url=stand_in.url, max_retries=0) as client:
        yield client
    stand_in.close()


def part(**members: Any) -> dict[str, Any]:
    return {"model": "gpt-5.5", "input": [{"role": "user", "content": [members]}]}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (part(type="input_file", file_id="file-unknown"), 404),
        (part(type="input_file", file_id="PDF", size=1), 400),
        (part(type="input_image", file_id="PDF", detail="auto"), 400),
        (part(type="input_file", file_id="PNG"), 400),
        (part(type="input_text", text=1), 400),
        ({"model": "gpt-5.5", "input": "a", "background": True, "store": False}, 400),
        ({"model": "gpt-unknown", "input": "a"}, 404),
    ],
)
def test_runs_that_openai_would_refuse_are_refused(request_: Any, status: int, client: openai.OpenAI) -> None:
    names = {"PDF": "a.pdf", "PNG": "a.png"}
    for message in request_["input"] if isinstance(request_["input"], list) else []:
        (content,) = message["content"]
        if name := names.get(content.get("file_id")):
            content["file_id"] = client.files.create(file=(name, b"content"), purpose="user_data").id
    with pytest.raises(openai.APIStatusError) as failure:
        client.responses.create(**request_)
    assert failure.value.status_code == status


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "fun"},
        {"expires_after": {"anchor": "created_at", "seconds": 3599}},
        {"expires_after": {"anchor": "now", "seconds": 3600}},
        {"extra_body": {"name": "a"}},
        {"file": ("a.pdf", b"")},
    ],
)
def test_files_that_openai_would_refuse_are_refused(change: Any, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.files.create(**{"file": ("a.pdf", b"content"), "purpose": "user_data", **change})


def test_files_are_listed_page_by_page(client: openai.OpenAI) -> None:
    ids = [client.files.create(file=(f"{number}.pdf", b"content"), purpose="vision").id for number in range(5)]
    assert [file.id for file in client.files.list(purpose="vision", limit=2, order="asc")] == ids
    assert [file.id for file in client.files.list(purpose="vision", limit=2)] == ids[::-1]
    assert client.files.retrieve(ids[0]).filename == "0.pdf"
    assert client.files.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(ids[0])


def test_a_response_in_the_background_can_be_asked_for_and_one_in_the_foreground_cannot_be_cancelled(
    client: openai.OpenAI,
) -> None:
    begun = client.responses.create(model="gpt-5.5", input="a", background=True)
    assert client.responses.retrieve(begun.id).output_text == "gpt-5.5 was told:  It was asked: a"
    other = client.responses.create(model="gpt-5.5", input="a")
    assert other.id != begun.id
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(other.id)
    with pytest.raises(openai.BadRequestError):
        list(client.responses.retrieve(other.id, stream=True))
