"""The labels that only those may move who may set defaults."""

from collections.abc import Iterable

_protected = {"production"}


def configure(labels: Iterable[str]) -> None:
    """Set those of this process."""
    _protected.clear()
    _protected.update(labels)


def are_in(labels: Iterable[str]) -> bool:
    """Whether one of the labels is protected."""
    return not _protected.isdisjoint(labels)
