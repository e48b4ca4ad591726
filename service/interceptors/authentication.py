"""Runs each call as its caller. A call without valid credentials is rejected."""

import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import grpc

from service import errors
from service.actor import ANONYMOUS, Actor, acting_as
from service.cache import LIVE_SECONDS, STALE_SECONDS, Cache
from service.identity import xfcc
from service.identity.certificates import names_in
from service.identity.identities import CREDENTIAL, USER, Identities
from service.interceptors import consistency, logging
from service.interceptors.interceptor import Interceptor, metadata_of


class Authentication(Interceptor):
    """Runs each call as the actor that its credentials name; without `identities` everybody is ANONYMOUS."""

    def __init__(self, identities: Identities | None, *, trusts_xfcc: bool, cache: Cache | None) -> None:
        self._identities = identities
        self._cache = cache
        self._trusts_xfcc = trusts_xfcc

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        caller = self._caller(method, context)
        logging.add(caller=caller.name)
        if caller.api_key_id is not None:
            logging.add(api_key=caller.api_key_id)
        return acting_as(caller)

    def _caller(self, method: str, context: grpc.ServicerContext) -> Actor:
        metadata = metadata_of(context)
        user = _only(metadata.get(USER))
        identities = self._identities
        if identities is None:
            # The caller expects the user's rights to apply; without authentication they would not.
            if user is not None:
                raise errors.Unauthenticated("user_without_authentication")
            return ANONYMOUS
        behind = self._seconds_away(method, metadata)
        credential = _only(metadata.get(CREDENTIAL))
        if credential is not None:
            scheme, _, token = credential.partition(" ")
            if scheme.lower() != "bearer":
                raise errors.Unauthenticated("header_malformed")
            if user is not None:
                raise errors.Unauthenticated("user_beside_token")
            return identities.of_bearer(token, behind)
        names = _names_of(context)
        if xfcc.HEADER in metadata and self._trusts_xfcc:
            if not (identities.is_proxy(names) if names else _is_loopback(context.peer())):
                raise errors.Unauthenticated("proxy_unknown")
            try:
                names = xfcc.names([str(value) for value in metadata[xfcc.HEADER]])
            except ValueError:
                raise errors.Unauthenticated("proxy_header_malformed") from None
        elif not names:
            raise errors.Unauthenticated("proxy_header_off" if xfcc.HEADER in metadata else "no_credential")
        return identities.of_certificate(names, user, behind)

    def _seconds_away(self, method: str, metadata: Mapping[str, list[str | bytes]]) -> float:
        """Return for how many seconds the database has been unreachable, for a call that accepts that; else 0."""
        if self._cache is None or method not in consistency.METHODS:
            return 0.0
        if metadata.get(consistency.HEADER) != [consistency.AVAILABLE]:
            return 0.0
        behind = self._cache.seconds_behind()
        return behind if LIVE_SECONDS <= behind <= STALE_SECONDS else 0.0


def _only(values: Sequence[str | bytes] | None) -> str | None:
    """Return the one value of a header, or None where it is absent."""
    if values is None:
        return None
    if len(values) != 1 or not isinstance(values[0], str) or not values[0]:
        raise errors.Unauthenticated("header_malformed")
    return values[0]


def _names_of(context: grpc.ServicerContext) -> Sequence[str]:
    """Return the names in the peer's certificate, which TLS has verified."""
    # The type stubs say bytes for each value; it is a list of bytes.
    shown: Mapping[str, Any] = context.auth_context()
    return [name for pem in shown.get("x509_pem_cert", ()) for name in names_in(pem)]


def _is_loopback(peer: str) -> bool:
    """Whether `ipv4:127.0.0.1:port` or `ipv6:%5B::1%5D:port` is this machine."""
    _, _, address = peer.partition(":")
    host = address.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D").strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
