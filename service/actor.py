"""Who is calling: the first argument of every operation. What an actor may do, service/operations/rights.py decides."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["reader", "writer", "admin"]
"""What a service may do."""


@dataclass(frozen=True)
class Actor:
    name: str
    """The namespace of request ids, and the caller in the log."""
    is_trusted: bool = False
    """May do everything. Its requests name the user they are about."""
    user_id: str | None = None
    """The user that calls, or that a service calls for."""
    clerk_id: str | None = None
    """Of that user: whoever is deleted and comes back has it again, and a new user_id."""
    role: Role | None = None
    """Of a service."""
    is_admin: bool = False
    """Writes what belongs to the platform."""
    is_below_user: bool = False
    """A service below role admin that acts for a platform administrator: it must not create that user's keys."""
    is_reader: bool = False
    """Writes nothing."""
    api_key_id: str | None = None
    """The API key that it calls with, if it does."""
    organization_id: str | None = None
    """The organization that its API key is limited to. Elsewhere it only reads what is platform-wide."""
    ends: float = field(default=float("inf"), compare=False)
    """When its credentials end, on the clock of `time.monotonic`."""

    @property
    def reads(self) -> tuple[bool, bool, str | None, str | None]:
        """Return what decides what it reads: actors in whom this is equal see the same."""
        return self.is_trusted, self.is_service, self.user_id, self.organization_id

    @property
    def lasting_name(self) -> str:
        """Return the name that stays when the user is deleted and comes back."""
        if self.user_id is None or self.clerk_id is None:
            return self.name
        return f"{self.name.removesuffix(f'user:{self.user_id}')}clerk:{self.clerk_id}"

    @property
    def is_service(self) -> bool:
        """Whether it is a service that does not act for a user."""
        return self.role is not None and self.user_id is None


NOBODY = Actor("nobody", is_reader=True)
"""A caller that has not been authenticated."""

ANONYMOUS = Actor("anonymous", is_trusted=True)
"""Every caller where calls are not authenticated."""

SYSTEM = Actor("system", is_trusted=True)
"""The service itself: its seed and its maintenance."""

_current: ContextVar[Actor] = ContextVar("actor", default=NOBODY)


class acting_as:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Make an actor the current one in the block."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __enter__(self) -> None:
        self._reset = _current.set(self._actor)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._reset)


def current() -> Actor:
    return _current.get()
