"""Who calls: a session, an API key, or a service by its certificate. Whoever is nobody of these is refused."""

import functools
import ipaddress
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

import grpc
from cachetools import LRUCache
from cryptography import x509

from service import errors, xfcc
from service.actor import ANONYMOUS, SYSTEM, Actor, Role, acting_as
from service.cache import LIVE_SECONDS, STALE_SECONDS, Cache
from service.clerk import Sessions
from service.db import time_limit
from service.interceptors import logging
from service.interceptors.caching import AVAILABLE, AWAY_SECONDS, CONSISTENCY, METHODS
from service.interceptors.interceptor import Interceptor, metadata_of
from service.operations import api_keys, users

CREDENTIAL = "authorization"
USER = "x-omniflo-user"
CLERK = "clerk:"
"""What stands before an id of Clerk's in `x-omniflo-user`."""

TRUST_SECONDS = 3.0
"""For how long what was found out about a caller holds: a key that is revoked is refused after that, everywhere."""
RIGHTS_SECONDS = 5.0
"""How long before the database went away a caller must have been checked, to be let in without it."""
MAX_KNOWN = 10_000
"""How many callers are remembered."""


class _Known(NamedTuple):
    """What was found out about a credential; times are on the clock of `time.monotonic`."""

    actor: Actor
    api_key: str | None
    ends: float
    """When the credential itself ends."""
    checked: float = 0.0
    """When it was found out."""


class Identities:
    """Makes actors of credentials, and remembers them for a few seconds."""

    def __init__(
        self, *, sessions: Sessions | None, admins: Sequence[str], services: Mapping[str, Role], proxies: Sequence[str]
    ) -> None:
        self._sessions = sessions
        self._admins = frozenset(admins)
        self._services = services
        self._proxies = frozenset(proxies)
        self._known: LRUCache[bytes, _Known] = LRUCache(MAX_KNOWN)
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def used_keys(self) -> list[str]:
        """Answer the API keys that were used since this was last asked."""
        with self._lock:
            used, self._used = self._used, set()
        return sorted(used)

    def of_bearer(self, token: str, behind: float) -> Actor:
        """Answer who calls with an API key or with the token of a session.

        `behind` is for how many seconds the database has been away, for a call that goes on without it, or else 0.
        """
        is_key = token.startswith(api_keys.PREFIX)
        known = self._remembered(CREDENTIAL, token, self._key if is_key else self._session, behind)
        if known.api_key is not None:
            logging.add(api_key=known.api_key)
            with self._lock:
                self._used.add(known.api_key)
        return known.actor

    def of_certificate(self, names: Sequence[str], user: str | None, behind: float) -> Actor:
        """Answer the service whose certificate has the names, calling for a user or for nobody; `behind` as above."""
        of_services = [name for name in names if name in self._services]
        if len(of_services) != 1 or not self._proxies.isdisjoint(names):
            _refuse()
        (name,) = of_services
        role = self._services[name]
        if user is None:
            return Actor(f"service:{name}", role=role, is_admin=role == "admin", is_reader=role == "reader")
        if role == "reader":
            _refuse()
        person = self._remembered(USER, user, self._user, behind).actor
        return replace(
            person,
            name=f"service:{name} for {person.name}",
            role=role,
            is_admin=role == "admin" and person.is_admin,
            is_lessened=role != "admin" and person.is_admin,
        )

    def is_proxy(self, names: Sequence[str]) -> bool:
        return not self._proxies.isdisjoint(names)

    def _remembered(self, header: str, value: str, find: Callable[[str], _Known], behind: float) -> _Known:
        # What is remembered cannot be called with; and what one header says is never taken for what another does.
        digest = sha256(f"{header}:{value}".encode()).digest()
        now = time.monotonic()
        with self._lock:
            known = self._known.get(digest)
        if known is not None and now < min(known.ends, known.checked + TRUST_SECONDS):
            return known
        try:
            with time_limit(AWAY_SECONDS) if behind else nullcontext():
                found = find(value)._replace(checked=now)
        except (errors.Unavailable, errors.DeadlineExceeded):
            # Whoever was let in until the database went away stays in, if the call is one that goes on without it.
            if not behind or known is None or now >= known.ends or known.checked < now - behind - RIGHTS_SECONDS:
                raise
            return known
        with self._lock:
            self._known[digest] = found
        return found

    def _session(self, token: str) -> _Known:
        asked = time.monotonic()
        session = None if self._sessions is None else self._sessions.user(token)
        if session is None:
            _refuse()
        clerk_id, seconds = session
        user = users.provision(SYSTEM, clerk_id)
        return _Known(self._actor(user.id, clerk_id), None, asked + seconds)

    def _key(self, text: str) -> _Known:
        asked = time.monotonic()
        owner = api_keys.owner(SYSTEM, text)
        if owner is None:
            _refuse()
        person = self._actor(owner.user.id, owner.user.clerk_id)
        key = owner.key
        limited = replace(
            person,
            is_admin=person.is_admin and key.organization_id is None,
            is_reader=key.scope == "read",
            organization_id=key.organization_id,
        )
        return _Known(limited, key.id, asked + (float("inf") if owner.seconds is None else owner.seconds))

    def _user(self, name: str) -> _Known:
        key = {"clerk_id": name.removeprefix(CLERK)} if name.startswith(CLERK) else {"id": name}
        try:
            user = users.get(SYSTEM, **key)
        except errors.NotFound:
            _refuse()
        return _Known(self._actor(user.id, user.clerk_id), None, float("inf"))

    def _actor(self, user_id: str, clerk_id: str) -> Actor:
        return Actor(f"user:{user_id}", user_id=user_id, is_admin=clerk_id in self._admins)


class Authentication(Interceptor):
    """Runs each call as the actor that its credentials name; without `identities` everybody is ANONYMOUS."""

    def __init__(self, identities: Identities | None, *, trusts_xfcc: bool, cache: Cache | None) -> None:
        self._identities = identities
        self._cache = cache
        self._trusts_xfcc = trusts_xfcc

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        caller = self._caller(method, context)
        logging.add(caller=caller.name)
        return acting_as(caller)

    def _caller(self, method: str, context: grpc.ServicerContext) -> Actor:
        metadata = metadata_of(context)
        user = _only(metadata.get(USER))
        identities = self._identities
        if identities is None:
            # The caller believes to be bounded by what the user may, and is not.
            if user is not None:
                _refuse()
            return ANONYMOUS
        behind = self._seconds_away(method, metadata)
        credential = _only(metadata.get(CREDENTIAL))
        if credential is not None:
            scheme, _, token = credential.partition(" ")
            if scheme.lower() != "bearer" or user is not None:
                _refuse()
            return identities.of_bearer(token, behind)
        names = _names_of(context)
        if xfcc.HEADER in metadata and self._trusts_xfcc:
            if not (identities.is_proxy(names) if names else _is_loopback(context.peer())):
                _refuse()
            try:
                names = xfcc.names([str(value) for value in metadata[xfcc.HEADER]])
            except ValueError:
                _refuse()
        return identities.of_certificate(names, user, behind)

    def _seconds_away(self, method: str, metadata: Mapping[str, list[str | bytes]]) -> float:
        """Answer for how long the database has been away, for a call that may be answered without it; else 0."""
        if self._cache is None or method not in METHODS or metadata.get(CONSISTENCY) != [AVAILABLE]:
            return 0.0
        behind = self._cache.seconds_behind()
        return behind if LIVE_SECONDS <= behind <= STALE_SECONDS else 0.0


def _refuse() -> NoReturn:
    raise errors.Unauthenticated(
        "UNAUTHENTICATED",
        "the call needs a session, an API key or the certificate of a service, and has none that counts",
    )


def _only(values: Sequence[str | bytes] | None) -> str | None:
    """Answer the one value of a header, or None where it is absent."""
    if values is None:
        return None
    if len(values) != 1 or not isinstance(values[0], str) or not values[0]:
        _refuse()
    return values[0]


def _names_of(context: grpc.ServicerContext) -> Sequence[str]:
    """Answer the names in the certificate that the peer has shown and proved."""
    # Its types say that a value is bytes, and it is a list of them.
    shown: Mapping[str, Any] = context.auth_context()
    return [name for pem in shown.get("x509_pem_cert", ()) for name in _names_in(pem)]


@functools.lru_cache(1024)
def _names_in(pem: bytes) -> Sequence[str]:
    """Answer the URIs and DNS names of a certificate."""
    # grpcio has them in `peer_uri` and `peer_dns`, but cut at U+0000, behind which another's domain may stand.
    try:
        extensions = x509.load_pem_x509_certificate(pem).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return (*uris, *names.get_values_for_type(x509.DNSName))


def _is_loopback(peer: str) -> bool:
    """Whether `ipv4:127.0.0.1:port` or `ipv6:%5B::1%5D:port` is this machine."""
    _, _, address = peer.partition(":")
    host = address.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D").strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
