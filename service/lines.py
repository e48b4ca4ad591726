"""Lines of the log that are written many at once, on a thread of their own: no call waits for who reads the log."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

SECONDS = 0.01
"""How long a line waits for others."""
MOST = 10_000
"""The most lines that wait; more are dropped, and counted."""
END_SECONDS = 1.0
"""How long who reads the log may take for the last ones."""


Line = MutableMapping[str, Any]
Spelled = Callable[[str, Line, int], bytes]
"""Returns a line of a level, which was made at so many nanoseconds since 1970, as it is written."""


class Out:
    """A text file that the log is written to. Nobody who logs fails for what it does not take, which is counted."""

    def __init__(self, file: TextIO, dropped: Callable[[int], str]) -> None:
        """`dropped` returns the line that says how many writes have failed, of which some may still come late."""
        self._file, self._dropped = file, dropped
        self._count = 0

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError:
            self._count += 1

    def flush(self) -> None:
        try:
            self._file.flush()
            if self._count:
                self._file.write(self._dropped(self._count))
                self._file.flush()
                self._count = 0
        except OSError:
            self._count += 1


class Lines:
    """Writes lines of level info to a file descriptor."""

    def __init__(self, descriptor: int, spelled: Spelled, *, most: int = MOST) -> None:
        self._descriptor, self._spelled, self._most = descriptor, spelled, most
        self._waiting: deque[tuple[Line, int]] = deque()
        self._dropped = 0
        self._lock = threading.Lock()
        self._some, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._some.set()
        self._thread.join(END_SECONDS)

    def put(self, line: Line) -> None:
        """Have a line written soon."""
        if len(self._waiting) >= self._most:
            self._drop(1)
            return
        self._waiting.append((line, time.time_ns()))
        if self._stopped.is_set():
            # Of a call that outlasts the server.
            self._write_waiting()
        elif not self._some.is_set():
            self._some.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._some.wait()
            self._stopped.wait(SECONDS)
            self._some.clear()
            self._write_waiting()

    def _write_waiting(self) -> None:
        several: list[bytes] = []
        size = 0
        while self._waiting:
            try:
                spelled = self._spelled("info", *self._waiting.popleft())
            except IndexError:
                # Another thread has taken it.
                break
            except TypeError:
                self._drop(1)
                continue
            # A pipe keeps so much together, whoever else writes to it.
            if several and size + len(spelled) > select.PIPE_BUF:
                self._write(several)
                several, size = [], 0
            several.append(spelled)
            size += len(spelled)
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            several.append(self._spelled("warning", {"event": "lines", "dropped": dropped}, time.time_ns()))
        self._write(several)

    def _write(self, several: list[bytes]) -> None:
        data = b"".join(several)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            # Such as a full disk, of which a call need not fail.
            self._drop(len(several))

    def _drop(self, count: int) -> None:
        with self._lock:
            self._dropped += count
