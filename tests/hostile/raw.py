"""A client that does what no gRPC library does: it opens calls and sends nothing, sends half, or never reads."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

TIMEOUT = 5.0

GET = "/omniflo.templates.v1.TemplateService/GetTemplate"
UPDATE = "/omniflo.templates.v1.TemplateService/UpdateTemplate"
CHECK = "/grpc.health.v1.Health/Check"
WATCH_CHANGES = "/omniflo.templates.v1.ChangeService/WatchChanges"
WATCH = "/grpc.health.v1.Health/Watch"


class Raw:
    """One connection, without encryption unless a context for it is given."""

    def __init__(
        self,
        address: str,
        *,
        window: int | None = None,
        source: str | None = None,
        encryption: ssl.SSLContext | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._scheme = "http" if encryption is None else "https"
        self.socket = socket.create_connection((host, int(port)), TIMEOUT, source and (source, 0))
        if encryption is not None:
            self.socket = encryption.wrap_socket(self.socket, server_hostname="localhost")
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._h2.initiate_connection()
        if window is not None:
            self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self._flush()
        self.ended: set[int] = set()
        """The streams that the server has ended or reset."""
        self.refused = 0
        """How many of them it did not take at all, for want of room on the connection."""
        self.answered: set[int] = set()
        """The streams on which the server has sent something."""
        self.is_closed = False
        self._opened = 0

    def open(self, path: str, *metadata: tuple[str, str | bytes]) -> int:
        """Send the headers of a call, and no message."""
        stream = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", path),
            (":authority", self._address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *metadata,
        ]
        self._h2.send_headers(stream, headers)
        self._flush()
        self._opened += 1
        return stream

    def held(self) -> int:
        """Return how many streams it has open, as far as it has read."""
        return self._opened - len(self.ended)

    def send(self, stream: int, message: bytes, *, size: int | None = None) -> None:
        """Send a message, or as much as the window takes of one that claims to be of that size."""
        data = b"\0" + (len(message) if size is None else size).to_bytes(4) + message
        room = min(self._h2.local_flow_control_window(stream), len(data))
        for start in range(0, room, 16_384):
            self._h2.send_data(stream, data[start : min(start + 16_384, room)])
        if size is None:
            self._h2.end_stream(stream)
        self._flush()

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        if stream not in self.ended:
            self._h2.reset_stream(stream, ErrorCodes.CANCEL)
            self.ended.add(stream)
        self._flush()

    def read(self, seconds: float = 0.0) -> list[Event]:
        """Return what has come, after waiting for something for so long."""
        self.socket.settimeout(max(seconds, 0.001))
        events: list[Event] = []
        with contextlib.suppress(TimeoutError, ConnectionError):
            data = self.socket.recv(65_536)
            self.is_closed = not data
            events = self._h2.receive_data(data) if data else []
            self._flush()
        for event in events:
            if isinstance(event, StreamEnded | StreamReset) and event.stream_id is not None:
                self.ended.add(event.stream_id)
            if isinstance(event, StreamReset) and event.error_code == ErrorCodes.REFUSED_STREAM:
                self.refused += 1
            if isinstance(event, ResponseReceived) and event.stream_id is not None:
                self.answered.add(event.stream_id)
            self.is_closed = self.is_closed or isinstance(event, ConnectionTerminated)
        return events

    def wait_until_ended(self, stream: int, seconds: float) -> bool:
        """Return whether the server has ended the stream in time."""
        return self._wait_until_in(self.ended, stream, seconds)

    def wait_until_answered(self, stream: int, seconds: float) -> bool:
        """Return whether the server has sent something on the stream in time."""
        return self._wait_until_in(self.answered, stream, seconds)

    def _wait_until_in(self, streams: set[int], stream: int, seconds: float) -> bool:
        give_up = time.monotonic() + seconds
        while stream not in streams and not self.is_closed and time.monotonic() < give_up:
            self.read(0.1)
        return stream in streams or self.is_closed

    def close(self) -> None:
        self.socket.close()

    def _flush(self) -> None:
        self.socket.settimeout(TIMEOUT)
        try:
            self.socket.sendall(self._h2.data_to_send())
        except ConnectionError:
            self.is_closed = True


@contextlib.contextmanager
def connections(address: str, count: int, *, window: int | None = None) -> Iterator[list[Raw]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(Raw(address, window=window))
            stack.callback(opened[-1].close)
        yield opened
