"""Credentials to actors: a session, an API key, or a service by the names in its certificate."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from cachetools import LRUCache

from service import errors
from service.actor import SYSTEM, Actor, Role
from service.cache import AWAY_SECONDS
from service.deadline import time_limit
from service.identity.clerk import Sessions
from service.operations import api_keys, users

CREDENTIAL = "authorization"
USER = "x-omniflo-user"
CLERK = "clerk:"
"""What stands before an id of Clerk's in `x-omniflo-user`."""

TRUST_SECONDS = 3.0
"""How long a caller is remembered: a key that is revoked is rejected everywhere after that."""
RIGHTS_SECONDS = 5.0
"""How long before an outage a caller may have been checked last, to be accepted during it."""
MAX_KNOWN = 10_000
"""How many callers are remembered."""


class _Known(NamedTuple):
    """What is known of a credential. Times are on the clock of `time.monotonic`."""

    actor: Actor
    ends: float
    """When the credential itself ends."""
    checked: float = 0.0
    """When that was checked."""


class Identities:
    """Makes actors of credentials, and remembers them for a few seconds."""

    def __init__(
        self,
        *,
        sessions: Sessions | None,
        admins: Sequence[str],
        services: Mapping[str, Role],
        proxies: Sequence[str],
        trust_seconds: float = TRUST_SECONDS,
    ) -> None:
        self._sessions = sessions
        self._admins = frozenset(admins)
        self._services = services
        self._proxies = frozenset(proxies)
        self.trust_seconds = trust_seconds
        self._known: LRUCache[bytes, _Known] = LRUCache(MAX_KNOWN)
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget every caller: each is looked up again at its next call."""
        with self._lock:
            self._known.clear()

    def used_keys(self) -> list[str]:
        """Return the API keys that were used since this was last asked."""
        with self._lock:
            used, self._used = self._used, set()
        return sorted(used)

    def of_bearer(self, token: str, behind: float) -> Actor:
        """Return the actor of an API key or of a session's token.

        `behind` is for how many seconds the database has been unreachable, for a call that accepts that, or else 0.
        """
        is_key = token.startswith(api_keys.PREFIX)
        known = self._remembered(CREDENTIAL, token, self._key if is_key else self._session, behind)
        if known.actor.api_key_id is not None:
            with self._lock:
                self._used.add(known.actor.api_key_id)
        return known.actor

    def of_certificate(self, names: Sequence[str], user: str | None, behind: float) -> Actor:
        """Return the service whose certificate has these names, acting for a user or for itself; `behind` as above."""
        of_services = [name for name in names if name in self._services]
        if self.is_proxy(names):
            raise errors.Unauthenticated("service_is_proxy")
        if len(of_services) != 1:
            raise errors.Unauthenticated("service_ambiguous" if of_services else "service_unknown")
        (name,) = of_services
        role = self._services[name]
        if user is None:
            return Actor(f"service:{name}", role=role, is_admin=role == "admin", is_reader=role == "reader")
        if role == "reader":
            raise errors.Unauthenticated("user_of_reader")
        person = self._remembered(USER, user, self._user, behind).actor
        return replace(
            person,
            name=f"service:{name} for {person.name}",
            role=role,
            is_admin=role == "admin" and person.is_admin,
            is_below_user=role != "admin" and person.is_admin,
        )

    def is_proxy(self, names: Sequence[str]) -> bool:
        return not self._proxies.isdisjoint(names)

    def _remembered(self, header: str, value: str, find: Callable[[str], _Known], behind: float) -> _Known:
        # Only a digest is kept: it is no credential. The header is part of it, so one never passes for another.
        digest = sha256(f"{header}:{value}".encode()).digest()
        now = time.monotonic()
        with self._lock:
            known = self._known.get(digest)
        if known is not None and now < min(known.ends, known.checked + self.trust_seconds):
            return known
        try:
            with time_limit(AWAY_SECONDS) if behind else nullcontext():
                found = find(value)._replace(checked=now)
        except (errors.Unavailable, errors.DeadlineExceeded):
            # A call that accepts stale responses keeps a caller that was authenticated before the outage.
            if not behind or known is None or now >= known.ends or known.checked < now - behind - RIGHTS_SECONDS:
                raise
            return known
        with self._lock:
            self._known[digest] = found
        return found

    def _session(self, token: str) -> _Known:
        asked = time.monotonic()
        if self._sessions is None:
            raise errors.Unauthenticated("sessions_off")
        clerk_id, seconds = self._sessions.user(token)
        user = users.provision(SYSTEM, clerk_id)
        return _known(self._actor(user.id, clerk_id), asked + seconds)

    def _key(self, text: str) -> _Known:
        asked = time.monotonic()
        owner = api_keys.owner(SYSTEM, text)
        person = self._actor(owner.user.id, owner.user.clerk_id)
        key = owner.key
        limited = replace(
            person,
            is_admin=person.is_admin and key.organization_id is None,
            is_reader=key.scope == "read",
            organization_id=key.organization_id,
            api_key_id=key.id,
        )
        return _known(limited, asked + (float("inf") if owner.seconds is None else owner.seconds))

    def _user(self, name: str) -> _Known:
        # A database cannot store U+0000.
        if not name.isprintable():
            raise errors.Unauthenticated("user_unknown")
        key = {"clerk_id": name.removeprefix(CLERK)} if name.startswith(CLERK) else {"id": name}
        try:
            user = users.get(SYSTEM, **key)
        except errors.NotFound:
            raise errors.Unauthenticated("user_unknown") from None
        return _Known(self._actor(user.id, user.clerk_id), float("inf"))

    def _actor(self, user_id: str, clerk_id: str) -> Actor:
        return Actor(f"user:{user_id}", user_id=user_id, clerk_id=clerk_id, is_admin=clerk_id in self._admins)


def _known(actor: Actor, ends: float) -> _Known:
    return _Known(replace(actor, ends=ends), ends)
