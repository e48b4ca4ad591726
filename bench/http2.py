"""A load generator of ours, for where h2load is not: one gRPC request over and over, in as few bytes as HTTP/2 allows.

It knows just enough of RFC 9113 to count answers: it decodes no headers, so an answer is one whose body has the size
that is expected.
"""

import selectors
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from bench.figures import Shape

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_PADDED = 8
_INITIAL_WINDOW_SIZE = 4
_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_HEADER = 9
PREFIX = 5
"""The octets that gRPC puts before a message."""
_TIMEOUT = 5.0


class LoadError(Exception):
    """A server did not give the answers that it should."""


class NoAnswerError(LoadError):
    """No call ended in time."""


class Call(NamedTuple):
    """What is sent over and over, and how large a good answer's message is."""

    path: str
    request: bytes
    answer_size: int


class Answers(NamedTuple):
    seconds: float
    latencies: list[float]
    """Of the answers that are as expected, in seconds."""
    failures: int


def load(port: int, call: Call, shape: Shape, seconds: float) -> Answers:
    """Keep the calls of the shape in flight for so long."""
    selector = selectors.DefaultSelector()
    connections = [_Connection(port, call) for _ in range(shape.connections)]
    latencies: list[float] = []
    failures = 0
    try:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        start = now = time.perf_counter()
        for connection in connections:
            connection.call(shape.streams)
        while now - start < seconds:
            ready = selector.select(_TIMEOUT)
            if not ready:
                raise LoadError(f"no answer for {_TIMEOUT} s")
            for key, _ in ready:
                ended = list(key.data.receive())
                now = time.perf_counter()
                key.data.call(len(ended))
                latencies += [latency for latency, is_good in ended if is_good]
                failures += sum(not is_good for _, is_good in ended)
    finally:
        selector.close()
        for connection in connections:
            connection.socket.close()
    return Answers(now - start, latencies, failures)


class _Connection:
    def __init__(self, port: int, call: Call) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = _headers(f"127.0.0.1:{port}", call.path)
        self._body = prefixed(call.request)
        self._body_size = PREFIX + call.answer_size
        self._next_stream = 1
        self._started: dict[int, float] = {}
        self._sizes: dict[int, int] = {}
        self._unread = b""
        self._consumed = 0
        settings = _INITIAL_WINDOW_SIZE.to_bytes(2) + _WINDOW.to_bytes(4)
        window = (_WINDOW - _DEFAULT_WINDOW).to_bytes(4)
        self.socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, window),
        )

    def call(self, times: int) -> None:
        """Send the request so many times, each on a stream of its own."""
        octets = bytearray()
        for _ in range(times):
            octets += _frame(_HEADERS, _END_HEADERS, self._next_stream, self._headers)
            octets += _frame(_DATA, _END_STREAM, self._next_stream, self._body)
            self._started[self._next_stream] = time.perf_counter()
            self._next_stream += 2
        if octets:
            self.socket.sendall(octets)

    def receive(self) -> Iterator[tuple[float, bool]]:
        """Read what has come, and answer for each call that ended how long it took and whether its answer is good."""
        received = self.socket.recv(1 << 18)
        if not received:
            raise LoadError("the server closed the connection")
        octets = self._unread + received
        position = 0
        while len(octets) - position >= _HEADER:
            size = int.from_bytes(octets[position : position + 3])
            end = position + _HEADER + size
            if end > len(octets):
                break
            kind, flags = octets[position + 3], octets[position + 4]
            stream = int.from_bytes(octets[position + 5 : position + _HEADER])
            if self._take(kind, flags, stream, octets[position + _HEADER : end]):
                took = time.perf_counter() - self._started.pop(stream)
                yield took, self._sizes.pop(stream, 0) == self._body_size
            position = end
        self._unread = octets[position:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bool:
        """Do what a frame asks for, and answer whether it ends a call."""
        if kind == _DATA:
            self._sizes[stream] = self._sizes.get(stream, 0) + _data_size(flags, payload)
            self._consumed += len(payload)
            if self._consumed > _WINDOW // 2:
                self.socket.sendall(_frame(_WINDOW_UPDATE, 0, 0, self._consumed.to_bytes(4)))
                self._consumed = 0
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY:
            raise LoadError("the server sent the connection away")
        return kind == _RESET or (kind in {_DATA, _HEADERS} and bool(flags & _END_STREAM))


def prefixed(message: bytes) -> bytes:
    """Answer the message as gRPC sends it: uncompressed, behind its size."""
    return b"\0" + len(message).to_bytes(4) + message


def _data_size(flags: int, payload: bytes) -> int:
    return len(payload) - 1 - payload[0] if flags & _PADDED else len(payload)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _headers(authority: str, path: str) -> bytes:
    """Encode the headers of a call with HPACK: names and values as they are, none to be remembered."""
    # :method POST and :scheme http have places of their own in the static table.
    encoded = bytes([0x83, 0x86])
    for name, value in (
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ):
        encoded += b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))
    return encoded
