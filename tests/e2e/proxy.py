"""A TCP proxy before the embedded PostgreSQL, which has only a unix socket; it can break connections at will."""

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""The message that asks PostgreSQL to commit."""
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""The message that says that it has."""

BY_THE_CLOCK = b"insert into statement_times"
"""What a service writes once a minute. No connection is broken in such a transaction: no call would notice."""

Cuts = Callable[[bytes, bool], bool]
"""Says whether to break a connection now, instead of passing on these bytes; True for those to the service."""


def nothing(data: bytes, to_service: bool) -> bool:
    """Break no connection."""
    del data, to_service
    return False


class AtCommit:
    """Breaks the next `count` connections that commit: when it is done but not answered yet, or before it is done."""

    def __init__(self, count: int, *, is_done: bool) -> None:
        self._left = count
        self._message, self._to_service = (COMMITTED, True) if is_done else (COMMIT, False)
        self._lock = threading.Lock()

    def __call__(self, data: bytes, to_service: bool) -> bool:
        if to_service != self._to_service or self._message not in data:
            return False
        with self._lock:
            self._left -= 1
            return self._left >= 0


class After:
    """Breaks one connection, when so many messages were passed on, either way."""

    def __init__(self, messages: int) -> None:
        self._left = messages
        self._lock = threading.Lock()

    def __call__(self, data: bytes, to_service: bool) -> bool:
        del data, to_service
        with self._lock:
            self._left -= 1
            return self._left == -1


class AtRandom:
    """Breaks connections with one probability at a commit's answer, and with another at everything else."""

    def __init__(self, seed: int, *, commit: float, other: float) -> None:
        self._random = random.Random(seed)
        self._commit, self._other = commit, other
        self._lock = threading.Lock()

    def __call__(self, data: bytes, to_service: bool) -> bool:
        with self._lock:
            return self._random.random() < (self._commit if to_service and COMMITTED in data else self._other)


class Proxy:
    """Listens on a port of 127.0.0.1 and forwards to the socket in a folder, until `cuts` says otherwise."""

    def __init__(self, socket_dir: Path) -> None:
        self.cuts: Cuts = nothing
        self.cut = 0
        """How many connections were broken."""
        self._target = str(socket_dir / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, name="proxy")]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _shut(*pair)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                service, _ = self._listener.accept()
            except OSError:
                return
            service.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            database = socket.socket(socket.AF_UNIX)
            try:
                database.connect(self._target)
            except OSError:
                service.close()
                database.close()
                continue
            with self._lock:
                self._pairs.add((service, database))
            thread = threading.Thread(target=self._serve, args=(service, database), name="proxy")
            thread.start()
            self._threads = [self._threads[0], *(other for other in self._threads[1:] if other.is_alive()), thread]

    def _serve(self, service: socket.socket, database: socket.socket) -> None:
        """Forward both ways until one side ends."""
        by_the_clock = threading.Event()
        back = threading.Thread(target=self._pump, args=(database, service, True, by_the_clock), name="proxy")
        back.start()
        self._pump(service, database, False, by_the_clock)
        back.join()
        with self._lock:
            self._pairs.discard((service, database))
        service.close()
        database.close()

    def _pump(
        self, source: socket.socket, target: socket.socket, to_service: bool, by_the_clock: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if BY_THE_CLOCK in data and not to_service:
                    by_the_clock.set()
                if not by_the_clock.is_set() and self.cuts(data, to_service):
                    with self._lock:
                        self.cut += 1
                    break
                if COMMITTED in data and to_service:
                    by_the_clock.clear()
                target.sendall(data)
        _shut(source, target)


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
