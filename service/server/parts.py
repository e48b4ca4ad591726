"""What a server is made of: parts that are started in order, and stopped in reverse."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol


class Part(Protocol):
    """Something that runs beside the calls, or serves them."""

    def start(self) -> None:
        """Begin; nothing runs, connects or listens before."""

    def stop(self) -> None:
        """End, and wait for the end. It is called once, and only after `start`."""


class Parts:
    """A list of parts as one of them. A part may rely on all that stand before it, from its start to its stop."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._started = ExitStack()

    def start(self) -> None:
        """Start all in order; when one fails, those that were started are stopped."""
        with ExitStack() as stack:
            for part in self._parts:
                part.start()
                stack.callback(part.stop)
            self._started = stack.pop_all()

    def stop(self) -> None:
        """Stop all in reverse order, whatever goes wrong with one of them."""
        self._started.close()
