"""What happens now and then, told where it happens to whoever counts it."""

from collections.abc import Callable

Hear = Callable[[str, str, int], None]
"""Takes what has happened, which kind of it, and how often; of what and kinds there are few."""

_hear: Hear = lambda *_: None  # noqa: E731 - replaced


def hear(listener: Hear) -> None:
    """Have somebody told in this process."""
    global _hear  # noqa: PLW0603 - a process has one who counts
    _hear = listener


def happened(what: str, kind: str = "", count: int = 1) -> None:
    _hear(what, kind, count)
