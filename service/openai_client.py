"""The HTTP client of OpenAI's SDK: each request is a span, until its response has ended, and its outcome is counted.

What comes is bounded, for it may come from a server that is broken or means harm.
"""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, cast

import httpcore2
import httpx2
import openai

from service import openai_wires, traces
from service.happenings import happened

_PARTS = frozenset({"assistants", "cancel", "files", "models", "responses"})
"""The parts of paths that are named; all else is an id, or before the first of them."""


class Client(openai.DefaultHttpxClient):
    """Sends requests as its parent does, and tells what became of each when it has the headers of the response."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for transport in (self._transport, *self._mounts.values()):
            if transport is not None:
                # All that is sent and received passes there. The client has no option for it, and its timeouts are for
                # single steps, of which a server can have it do as many as it likes.
                pool = cast("Any", transport)._pool  # noqa: SLF001 - as above
                pool._network_backend = _Network(pool._network_backend)  # noqa: SLF001 - as above

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        end = traces.request(f"{request.method} {_path(request)}", request.headers)
        outcome = "unreachable"
        # A few bytes can be packed that unpack to gigabytes.
        request.headers["Accept-Encoding"] = "identity"
        try:
            response = super().send(request, **{**options, "stream": True})
            try:
                _require_unpacked(response)
                if not options.get("stream"):
                    response.read()
            except BaseException:
                response.close()
                raise
            outcome = _outcome(response.status_code)
        finally:
            happened("asked_openai", outcome)
            if outcome == "unreachable":
                end(outcome)
        # What is streamed goes on for as long as somebody reads it.
        if options.get("stream") and isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Told(response.stream, end, outcome)
        else:
            end(outcome)
            if (wire := openai_wires.of_thread()) is not None:
                wire.leave()
        return response


class _Told(httpx2.SyncByteStream):
    """What is streamed, whose end is told."""

    def __init__(self, stream: httpx2.SyncByteStream, end: Callable[[str], None], outcome: str) -> None:
        self._stream = stream
        self._end = end
        self._outcome = outcome

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._stream:
                # An event ends. One end that is cut in two is missed, which matters to none but the largest events.
                if (wire := openai_wires.of_thread()) is not None and (b"\n\n" in piece or b"\r\n\r\n" in piece):
                    wire.allow()
                yield piece
        except httpx2.HTTPError:
            self._end("cut")
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._end(self._outcome)


class _Network(httpcore2.NetworkBackend):
    """Makes connections that keep to the wire of the thread that uses them."""

    def __init__(self, network: httpcore2.NetworkBackend) -> None:
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Connection(self._network.connect_tcp(host, port, timeout, local_address, socket_options))


class _Connection(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        wire = self._wire()
        data = self._stream.read(max_bytes, timeout)
        if wire is not None and not wire.count(len(data)):
            raise httpcore2.RemoteProtocolError("the response is too large")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._wire()
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **options: Any) -> httpcore2.NetworkStream:
        self._wire()
        return _Connection(self._stream.start_tls(*args, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _wire(self) -> openai_wires.Wire | None:
        wire = openai_wires.of_thread()
        if wire is not None and not wire.use(self._stream.get_extra_info("socket")):
            raise httpcore2.ReadError("nobody waits for it")
        return wire


def _require_unpacked(response: httpx2.Response) -> None:
    encodings = response.headers.get_list("content-encoding", split_commas=True)
    if any(encoding.strip().lower() not in {"", "identity"} for encoding in encodings):
        raise httpx2.DecodingError("the response is encoded, and was to be identity")


def _path(request: httpx2.Request) -> str:
    """Return the path without ids, such as `/responses/{id}/cancel`."""
    parts: list[str] = []
    for part in request.url.path.split("/"):
        if part in _PARTS:
            parts.append(part)
        elif parts and parts[-1] != "{id}":
            parts.append("{id}")
    return "/" + "/".join(parts)


def _outcome(status: int) -> str:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return "ok"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limited"
    return "refused" if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
