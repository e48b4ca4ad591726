"""The rights that a write needed, kept with its response: whoever gets the response again needs them again."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from service import errors
from service.actor import Actor

Right = Sequence[Any]
"""The name of one of RIGHTS and what it was asked about, as kept in idempotency_keys.rights: JSON."""

RIGHTS: dict[str, Callable[..., None]] = {}
"""The rights that a write may need, by the names that are stored. To rename one, or to change its arguments, keep the
old form beside the new one for as long as responses are kept."""

REACH = "reach_as_far"
"""The right to read wherever an API key reaches."""

READ_AGAIN = "read_again"
"""What is kept with a response that is not: releases that cannot make it again do not know it, and refuse."""

_recorded: ContextVar[list[Right] | None] = ContextVar("recorded", default=None)


def right(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Record this check with the response of a write, so that a replay of the write repeats it.

    Checks of writes are kept; those of reads, which have no replays, are not.
    """

    def register(check: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(check)
        def ask(actor: Actor, *about: str | None) -> None:
            recorded = _recorded.get()
            # Nested checks are not recorded: the outer one repeats them.
            reset = _recorded.set(None)
            try:
                check(actor, *about)
            finally:
                _recorded.reset(reset)
            if recorded is not None:
                recorded.append([name, *about])

        RIGHTS[name] = check
        return ask

    return register


@right(READ_AGAIN)
def read_again(actor: Actor) -> None:
    """Refuse nobody."""


@contextmanager
def recording() -> Iterator[list[Right]]:
    """Yield a list of the rights that the block has needed."""
    recorded: list[Right] = []
    reset = _recorded.set(recorded)
    try:
        yield recorded
    finally:
        _recorded.reset(reset)


def require(actor: Actor, rights: Iterable[Right]) -> None:
    """Raise unless the actor has the rights now. Nobody has one that this release does not know."""
    for name, *about in rights:
        if name not in RIGHTS:
            raise denied("another release kept the response, with a right that this one does not know")
        RIGHTS[name](actor, *about)


def after_write(actor: Actor, rights: Sequence[Right]) -> list[Right]:
    """Return the rights that a replay of the write needs: those that the actor still has after it.

    A write takes a right from its own actor when it ends the actor's membership, for example. A replay then needs a
    key that reaches as far as the actor's does now.
    """

    def has(needed: Right) -> bool:
        try:
            require(actor, [needed])
        except errors.Error:
            return False
        return True

    held = [needed for needed in rights if has(needed)]
    return held if len(held) == len(rights) else [*held, [REACH, actor.organization_id]]


def denied(message: str) -> errors.PermissionDenied:
    return errors.PermissionDenied("PERMISSION_DENIED", message)
