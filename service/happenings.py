"""What happens now and then, told where it happens to whoever counts it."""

from collections.abc import Callable

Hear = Callable[[str, str], None]
"""Takes what has happened, and which kind of it; of both there are few."""

_hear: Hear = lambda *_: None  # noqa: E731 - replaced


def hear(listener: Hear) -> None:
    """Have somebody told in this process."""
    global _hear  # noqa: PLW0603 - a process has one who counts
    _hear = listener


def happened(what: str, kind: str = "") -> None:
    _hear(what, kind)
