"""Connections, whose waits for the server never outlast the deadline of the call."""

import codecs
import functools
import select
import threading
import time
from socket import socket
from typing import Any
from weakref import WeakSet

import orjson
import psycopg2
from psycopg2 import extensions, extras

from service import deadline, errors
from service.database import urls

CONNECT_SECONDS = 5.0
HOST_SECONDS = 1.0
"""How long each of several hosts may take to let us in. libpq would wait for the first of them as long as for all."""
LOOK_SECONDS = 0.25
"""How often who waits for one of several hosts looks whether another one has taken over."""
GRACE_SECONDS = 0.1
"""How long after the deadline the connection is cut. The server's own timeouts fire first and keep the connection; this
cuts it when they did not."""

OPTIONS: dict[str, Any] = {
    "application_name": "omniflo-templates",
    "client_encoding": "UTF8",
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class _OfSeveral(extensions.connection):
    """A connection to one of the hosts of a URL."""

    host: tuple[str, int] | None = None
    """The URL, and which of its hosts it is; None until that has let us in."""

    @property
    def is_left(self) -> bool:
        """Whether another of the hosts has let this process in since: this one is away, or no longer the primary."""
        return self.host is not None and _last.get(self.host[0]) != self.host[1]


class _Attempt(threading.local):
    seconds = CONNECT_SECONDS


_attempt = _Attempt()
_last: dict[str, int] = {}
"""Which of the hosts of a URL has let this process in last."""

_FOREVER = float("inf")
_known: WeakSet[Any] = WeakSet()
_known_lock = threading.Lock()


_CODEC = "omniflo_utf8"


def configure_driver() -> None:
    """Make psycopg2 wait with `_wait` in this process, and decode texts and JSON in C.

    It would call a function in Python for the name and the value of each column. For a template, those calls take a
    fourth of the time of its query.
    """
    extensions.set_wait_callback(_wait)
    _read_fast()


@functools.cache
def _read_fast() -> None:
    codecs.register(_codec)
    extensions.encodings["UTF8"] = _CODEC
    extras.register_default_json(globally=True, loads=orjson.loads)
    extras.register_default_jsonb(globally=True, loads=orjson.loads)


def _codec(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(codecs.utf_8_encode, codecs.utf_8_decode) if name == _CODEC else None


def _wait(connection: Any) -> None:
    """Wait for the server, but never past the deadline of the call.

    psycopg2 calls this wherever libpq would block, also while it connects. An exception makes psycopg2 close the
    connection, so a database that hangs costs a call its deadline and nothing more.
    """
    give_up = time.monotonic() + _attempt.seconds if connection.status == extensions.STATUS_SETUP else None
    is_of_several = isinstance(connection, _OfSeveral)
    while (state := connection.poll()) != extensions.POLL_OK:
        of_call = deadline.remaining()
        left = of_call + GRACE_SECONDS if give_up is None else min(of_call + GRACE_SECONDS, give_up - time.monotonic())
        if left <= 0:
            if of_call <= 0:
                raise errors.deadline_exceeded()
            raise psycopg2.OperationalError(f"connection to server at {connection.info.host!r} timed out")
        if is_of_several:
            if connection.is_left:
                raise psycopg2.OperationalError("another host has taken over")
            left = min(left, LOOK_SECONDS)
        # A new one each time: libpq opens another socket when it tries another address of the host.
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poller.poll(None if left == _FOREVER else int(left * 1000) + 1)


def opened(url: str, **options: Any) -> Any:
    """Return a connection to the host of a URL, or to the first of several that takes it, and fits the URL.

    They are asked in order, from the one on that was the last to do so: the others are away, or read-only. What waits
    for another host than the one that is found is cut.
    """
    hosts = urls.hosts(url)
    if len(hosts) == 1:
        return psycopg2.connect(url, **options)
    first = _last.get(url, 0)
    refused: list[str] = []
    for number in (*range(first, len(hosts)), *range(first)):
        # What waits for all of them may have less time than they do.
        _attempt.seconds = min(HOST_SECONDS, deadline.remaining() / (len(hosts) - len(refused)))
        try:
            connection = psycopg2.connect(hosts[number], connection_factory=_OfSeveral, **options)
        except psycopg2.OperationalError as error:
            refused.append(str(error).strip())
        else:
            _last[url] = number
            connection.host = (url, number)
            return connection
        finally:
            _attempt.seconds = CONNECT_SECONDS
    raise psycopg2.OperationalError("\n".join(refused))


def connect(url: str, name: str = OPTIONS["application_name"]) -> Any:
    """Return a connection in autocommit that belongs to no operation; waits for it are bounded as for all."""
    configure_driver()
    connection = opened(url, **OPTIONS | {"application_name": name})
    connection.autocommit = True
    note(connection)
    return connection


def note(connection: Any) -> None:
    """Count a connection from here on, until it is closed or nobody has it any more."""
    with _known_lock:
        _known.add(connection)


def open_now() -> int:
    """Return how many connections this process has open, as far as it knows."""
    with _known_lock:
        return sum(not connection.closed for connection in _known)


def readable(connection: Any, other: socket, seconds: float) -> None:
    """Wait for something to come on a connection that has nothing to do, or on a socket."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    poller.register(other, select.POLLIN)
    poller.poll(max(0, int(seconds * 1000)) + 1)
