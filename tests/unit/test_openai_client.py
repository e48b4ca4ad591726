"""What a server in OpenAI's place can do to this process: all of it is bounded, and ends when nobody waits for it."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import openai
import pytest
from pydantic import SecretStr

from service import errors
from service.deadline import time_limit
from service.openai_assistants import Assistants
from service.openai_client import _Told
from service.openai_files import Files
from service.openai_gateway import MOST_LIST_BYTES, Gateway, OutcomeUnknownError
from service.openai_runs import Pace, Runs
from service.openai_streams import read
from service.openai_wires import MOST_BYTES

SECONDS = 2.0
"""How soon a thread is to be free after its caller went on."""
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = CHUNKED.replace(b"application/json", b"text/event-stream")
MODELS = b'{"object": "list", "data": []}'


def whole(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def large(spaces: int) -> bytes:
    return whole(MODELS.replace(b"[", b"[" + b" " * spaces))


def chunk(data: bytes, count: int = 1) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) * count


class Raw:
    """Answers each request with some bytes, and then with others for as long as they are taken."""

    def __init__(self, first: bytes, again: bytes = b"", pause: float = 0.0) -> None:
        self.first, self.again, self.pause = first, again, pause
        self.before: list[bytes] = []
        """Whole answers, to the first requests."""
        self.requests: list[bytes] = []
        self.connections = 0
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while data := connection.recv(65_536):
                self.requests.append(data)
                if self.before:
                    connection.sendall(self.before.pop(0))
                    continue
                connection.sendall(self.first)
                while self.again and not self._over.wait(self.pause):
                    connection.sendall(self.again)


@contextmanager
def serving(raw: Raw) -> Iterator[Gateway]:
    """Yield a gateway whose threads are to be free soon after the block."""
    before = set(threading.enumerate())
    gateway = Gateway(SecretStr("key"), raw.url)
    try:
        yield gateway
        # `stop` would close their connections.
        gateway._threads.shutdown(wait=False)
        end = time.monotonic() + SECONDS
        while busy := {one for one in threading.enumerate() if one.name.startswith("openai")} - before:
            assert time.monotonic() < end, busy
            time.sleep(0.01)
    finally:
        gateway.stop()
        raw.close()


FLOODS: dict[str, Callable[[], Raw]] = {
    "a body without end": lambda: Raw(CHUNKED, chunk(b" " * 65_536, 16)),
    "a body of single bytes": lambda: Raw(CHUNKED, chunk(b" ", 10_000)),
    "a body that comes slowly": lambda: Raw(CHUNKED, chunk(b" "), pause=0.05),
    "headers that are never the last": lambda: Raw(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000),
    "the same, slowly": lambda: Raw(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.05),
    "nothing": lambda: Raw(b""),
}


@pytest.mark.parametrize("is_first", [True, False], ids=["a new connection", "one that was used before"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_question_ends_with_its_caller_s_time_whatever_comes(flood: str, is_first: bool) -> None:
    raw = FLOODS[flood]()
    with serving(raw) as gateway:
        if not is_first:
            raw.before.append(whole(MODELS))
            assert gateway.models() == []
        with time_limit(1.5), pytest.raises(errors.Unavailable):
            gateway.models()
        if not is_first:
            assert raw.connections == max(1, len(raw.requests) - 1)


def test_a_response_that_is_too_large_is_none_long_before_the_caller_s_time_is_over() -> None:
    raw = Raw(large(MOST_LIST_BYTES))
    with serving(raw) as gateway, time_limit(60):
        with pytest.raises(errors.Unavailable):
            gateway.models()
        raw.first = large(MOST_BYTES)
        with pytest.raises(errors.Unavailable):
            gateway.model("gpt-5")


def test_a_large_response_is_read_and_a_page_of_assistants_may_be_larger() -> None:
    raw = Raw(large(MOST_LIST_BYTES - 1_000))
    with serving(raw) as gateway:
        assert gateway.models() == []
        raw.first = large(MOST_BYTES - 1_000)
        Files(gateway).delete("file-1")
        raw.first = large(2 * MOST_BYTES)
        assert list(Assistants(gateway).newest()) == []


@pytest.mark.parametrize("encoding", [b"gzip", b"identity, GZIP", b"deflate", b"br", b"zstd", b"unheard-of"])
def test_a_response_that_is_packed_is_refused(encoding: bytes) -> None:
    raw = Raw(whole(gzip.compress(MODELS), b"Content-Encoding: " + encoding))
    with serving(raw) as gateway:
        with time_limit(10), pytest.raises(errors.Unavailable):
            gateway.models()
        with pytest.raises(OutcomeUnknownError):
            next(Runs(gateway).start("{}", [], threading.Event()))
    assert b"\r\nAccept-Encoding: identity\r\n" in raw.requests[0]


def test_a_response_that_is_too_deep_is_invalid() -> None:
    with serving(Raw(whole(b"[" * 100_000))) as gateway:
        with pytest.raises(errors.Unavailable):
            gateway.models()
        with pytest.raises(OutcomeUnknownError):
            Assistants(gateway).create("{}")


@pytest.mark.parametrize("headers", [[], [b"Content-Encoding: identity"], [b"Content-Encoding:"]])
def test_a_response_that_is_not_packed_is_read(headers: list[bytes]) -> None:
    with serving(Raw(whole(MODELS, *headers))) as gateway:
        assert gateway.models() == []


@pytest.mark.parametrize("flood", FLOODS)
def test_an_upload_that_is_given_up_ends(flood: str) -> None:
    with serving(FLOODS[flood]()) as gateway, time_limit(1), pytest.raises(errors.Error):
        Files(gateway, silent_seconds=0.5).upload("a.bin", iter([b"content"]))


@pytest.mark.parametrize("flood", FLOODS)
def test_an_assistant_of_which_nothing_is_heard_in_time_is_given_up(flood: str) -> None:
    with serving(FLOODS[flood]()) as gateway, time_limit(1), pytest.raises(OutcomeUnknownError):
        Assistants(gateway).create("{}")


STREAMS: dict[str, Callable[[], Raw]] = {
    **FLOODS,
    "an event without end": lambda: Raw(EVENTS, chunk(b"data: " + b"x" * 65_536, 16)),
    "comments": lambda: Raw(EVENTS, chunk(b": still here\n\n", 1_000)),
    "no event": lambda: Raw(EVENTS),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_run_of_which_nothing_is_heard_is_given_up(stream: str) -> None:
    pace = Pace(silent=0.5, stop=0.1, poll=0.01)
    with serving(STREAMS[stream]()) as gateway, pytest.raises(OutcomeUnknownError):
        next(Runs(gateway, pace).start("{}", [], threading.Event()))


def test_one_event_is_bounded_and_all_of_them_together_are_not() -> None:
    def told(text: bytes) -> list[Any]:
        raw = Raw(EVENTS + chunk(b'data: {"delta": "' + text + b'"}\n\n') * 4 + chunk(b"data: [DONE]\n\n"))
        with serving(raw) as gateway:
            return list(read(gateway, _stream, threading.Event(), 60))

    assert len(told(b"x" * (MOST_BYTES // 2))) == 4
    with pytest.raises(OutcomeUnknownError):
        told(b"x" * MOST_BYTES)


def _stream(client: Any) -> Any:
    return client.get("/responses/resp_1", cast_to=object, stream=True, stream_cls=openai.Stream[object])


def test_a_connection_that_another_question_has_got_is_left_alone() -> None:
    raw = Raw(whole(MODELS))
    with serving(raw) as gateway:
        answered, going_on = threading.Event(), threading.Event()

        def dawdle(client: Any) -> None:
            client.models.list()
            answered.set()
            going_on.wait(30)

        asked = gateway._begin(lambda: dawdle(gateway._open()[0]), MOST_BYTES)
        assert answered.wait(30)
        asked.give_up()
        assert gateway.models() == []
        going_on.set()
    assert raw.connections == 1


def test_the_span_of_a_stream_ends_although_its_connection_cannot_be_closed() -> None:
    class Stuck(httpx2.SyncByteStream):
        def close(self) -> None:
            raise httpx2.CloseError("stuck")

    ends: list[str] = []
    with pytest.raises(httpx2.CloseError):
        _Told(Stuck(), ends.append, "ok").close()
    assert ends == ["ok"]
