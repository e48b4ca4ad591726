"""Who is calling: the first argument of every operation."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    name: str
    """What request ids are kept apart by, and what the log calls the caller."""


ANONYMOUS = Actor("anonymous")
"""Every caller, until calls are authenticated."""

SYSTEM = Actor("system")
"""The service itself: its seed and its maintenance."""

_current: ContextVar[Actor] = ContextVar("actor", default=ANONYMOUS)


def current() -> Actor:
    return _current.get()
