"""Files, on their way to OpenAI."""

import hashlib
import os
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service import errors
from service.deadline import time_limit
from service.openai_files import KEPT_SECONDS, Files, content_part
from service.openai_gateway import Gateway, Refused
from tests.openai_stand_in import KEY, Fault, StandIn

MIB = 2**20


@pytest.fixture(scope="module")
def openai() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def stand_in(openai: StandIn) -> StandIn:
    openai.reset()
    return openai


@pytest.fixture(scope="module")
def gateway(openai: StandIn) -> Iterator[Gateway]:
    gateway = Gateway(SecretStr(KEY), openai.url)
    yield gateway
    gateway.stop()


@pytest.fixture
def files(gateway: Gateway) -> Files:
    return Files(gateway)


@pytest.mark.parametrize(
    "filename", ["a.pdf", "no end", 'quotes".csv', "back\\slash", "a\r\nb.png", "ß 💾 ع.txt", "a;b=c.md", "x" * 255]
)
def test_a_file_arrives_as_it_was_sent(filename: str, files: Files, stand_in: StandIn) -> None:
    content = os.urandom(100_000) + b"\r\n--" + os.urandom(100_000)
    chunks = (content[at : at + 33_333] for at in range(0, len(content), 33_333))
    id = files.upload(filename, (piece for chunk in chunks for piece in (b"", chunk)))
    (file,) = stand_in.files
    assert (file.id, file.filename, file.bytes) == (id, filename, len(content))
    assert file.digest == hashlib.sha256(content).hexdigest()
    assert (file.purpose, file.expires_at) == ("user_data", file.created_at + KEPT_SECONDS)
    files.delete(id)
    files.delete(id)
    assert not list(stand_in.files)


def test_50_mb_pass_through_a_few(files: Files, stand_in: StandIn) -> None:
    files.upload("warm.txt", iter([b"The SDK is imported."]))
    tracemalloc.start()
    try:
        files.upload("large.bin", (bytes(MIB) for _ in range(50)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [file.bytes for file in stand_in.files][-1] == 50 * MIB
    assert peak < 8 * MIB


FAILURES: dict[Fault, tuple[str, float | None]] = {
    Fault.RATE_LIMITED: ("OPENAI_RATE_LIMITED", 7),
    Fault.SERVER_ERROR: ("OPENAI_UNAVAILABLE", 1),
    Fault.SILENT: ("OPENAI_UNAVAILABLE", 1),
    Fault.CUT: ("OPENAI_UNAVAILABLE", 1),
    Fault.BROKEN: ("OPENAI_UNAVAILABLE", 1),
    Fault.LOST: ("OPENAI_UNAVAILABLE", 1),
    Fault.BAD_GATEWAY: ("OPENAI_UNAVAILABLE", 1),
    Fault.TRUNCATED: ("OPENAI_UNAVAILABLE", 1),
    Fault.REDIRECT: ("OPENAI_UNAVAILABLE", 1),
    Fault.UNAUTHORIZED: ("OPENAI_REFUSED", None),
    Fault.TOO_OLD: ("OPENAI_REFUSED", None),
}


@pytest.mark.parametrize("fault", FAILURES)
def test_an_upload_that_fails_says_why_and_is_not_sent_again(fault: Fault, gateway: Gateway, stand_in: StandIn) -> None:
    files = Files(gateway, silent_seconds=0.3 if fault is Fault.SILENT else 30)
    with stand_in.failing(fault), pytest.raises(errors.Error) as failure:
        files.upload("a.bin", (bytes(MIB) for _ in range(4)))
    assert (failure.value.reason, failure.value.retry_seconds) == FAILURES[fault]
    assert stand_in.calls == {"/v1/files": 1}


def test_an_empty_file_is_refused_in_openai_s_words(files: Files, stand_in: StandIn) -> None:
    with pytest.raises(Refused) as failure:
        files.upload("a.bin", iter([b""]))
    assert failure.value.said == "File is empty."
    assert not list(stand_in.files)


def test_what_ends_the_chunks_ends_the_upload(files: Files, stand_in: StandIn) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(MIB)
        raise errors.field_invalid(("chunk", "must be smaller"))

    with pytest.raises(errors.InvalidArgument):
        files.upload("a.bin", chunks())
    files.upload("b.bin", iter([b"another"]))
    assert [file.filename for file in stand_in.files] == ["b.bin"]


def test_an_upload_ends_with_its_caller_s_time(files: Files, stand_in: StandIn) -> None:
    with (
        stand_in.failing(Fault.SILENT),
        time_limit(0.4),
        pytest.raises(errors.DeadlineExceeded),
    ):
        files.upload("a.bin", iter([b"content"]))


def test_a_caller_who_stops_sending_is_waited_for_as_long_as_it_may_take(files: Files, stand_in: StandIn) -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            yield b"x"
            time.sleep(0.05)

    with time_limit(0.4), pytest.raises(errors.DeadlineExceeded):
        files.upload("a.bin", chunks())
    assert not list(stand_in.files)


@pytest.mark.parametrize(
    ("filename", "type"),
    [("a.pdf", "input_file"), ("a.PNG", "input_image"), ("a.png.csv", "input_file"), ("jpeg", "input_file")],
)
def test_images_are_given_as_images(filename: str, type: str) -> None:
    part = content_part("file-1", filename)
    assert (part["type"], part["file_id"]) == (type, "file-1")
