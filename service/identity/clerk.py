"""Sessions of Clerk: their tokens are verified here, offline, with Clerk's public keys."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jwt
import structlog

from service import deadline, errors

SKEW_SECONDS = 5
"""How far Clerk's clock and this one may differ."""
REFRESH_SECONDS = 300.0
"""After how long keys are fetched again, so that one that was withdrawn is forgotten."""
UNKNOWN_SECONDS = 30.0
"""How often an unknown key may cause a fetch before that."""
EMPTY_SECONDS = 1.0
"""How often they are fetched while none is known."""
FETCH_SECONDS = 2.0
WAIT_SECONDS = 1.0
"""How long after the start of a fetch callers wait for it at most: anybody can make up the id of a key."""
MAX_BYTES = 256 * 1024
PIECE_BYTES = 16 * 1024
MAX_ID = 255

_HEADERS = {"alg", "cat", "kid", "typ"}
"""What the header of a token may hold. One that says where its own key is says nothing."""

_WITHOUT: Mapping[str, errors.Cause] = {
    "exp": "session_without_exp",
    "nbf": "session_without_nbf",
    "iss": "session_without_iss",
    "sub": "session_without_sub",
    "sid": "session_without_sid",
}
"""The claims that every session has, and the causes of tokens without them."""

_CAUSES: Mapping[type[Exception], errors.Cause] = {
    jwt.InvalidAlgorithmError: "session_algorithm",
    jwt.InvalidSignatureError: "session_signature",
    jwt.ExpiredSignatureError: "session_expired",
    jwt.ImmatureSignatureError: "session_too_early",
    jwt.InvalidIssuerError: "session_issuer",
}

_log = structlog.get_logger()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from the address in the settings, and from no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Keys:
    """The public keys at a URL. They stay valid while the URL is unreachable.

    No more than `waiters` callers wait for a fetch at once, and none after one that failed.
    """

    def __init__(self, url: str, *, waiters: int = 4) -> None:
        self._url = url
        self._places = threading.BoundedSemaphore(waiters)
        self._has_failed = False
        self._open = urllib.request.build_opener(_NoRedirects).open
        self._keys: dict[str, jwt.PyJWK] = {}
        self._lock = threading.Lock()
        self._fetching: threading.Thread | None = None
        self._fetched = self._missed = float("-inf")

    def key(self, id: str) -> jwt.PyJWK | None:
        """Return the key, or None when there is none of that id; Unavailable when no key is known at all."""
        if id not in self._keys:
            # Somebody else may have fetched it since.
            fetching = self._begin(lambda: id not in self._keys and self._is_worth_a_miss())
            if fetching is not None:
                self._wait(fetching)
        elif time.monotonic() - self._fetched > REFRESH_SECONDS:
            # Nobody waits for it: what is known is good enough.
            self._begin(lambda: True)
        if not self._keys:
            raise _unavailable()
        return self._keys.get(id)

    def start(self) -> None:
        """Begin to fetch the keys, for which the first caller need not wait then."""
        self._begin(lambda: True)

    def stop(self) -> None:
        """Do nothing: a fetch that still runs ends with the process."""

    def _wait(self, fetching: threading.Thread) -> None:
        """Wait a moment for a fetch; Unavailable at once where enough others do, who hold their threads meanwhile."""
        patience = min(WAIT_SECONDS, FETCH_SECONDS)
        left = min(self._fetched + patience - time.monotonic(), deadline.remaining())
        if self._has_failed or left <= 0 or not fetching.is_alive():
            return
        if not self._places.acquire(blocking=False):
            raise _unavailable()
        try:
            fetching.join(left)
        finally:
            self._places.release()

    def _begin(self, is_wanted: Callable[[], bool]) -> threading.Thread | None:
        """Return the thread that fetches the keys, once for all who want them; None when none does."""
        with self._lock:
            if (self._fetching is None or not self._fetching.is_alive()) and is_wanted():
                self._fetched = time.monotonic()
                self._fetching = threading.Thread(target=self._fetch, name="session keys", daemon=True)
                self._fetching.start()
            return self._fetching

    def _is_worth_a_miss(self) -> bool:
        """Whether to fetch the keys for an id that is not among them, which anybody can make up."""
        now = time.monotonic()
        if not self._keys:
            return now - self._fetched > EMPTY_SECONDS
        if now - self._missed <= UNKNOWN_SECONDS:
            return False
        self._missed = now
        return True

    def _fetch(self) -> None:
        try:
            with self._open(self._url, timeout=FETCH_SECONDS) as answer:
                give_up = time.monotonic() + FETCH_SECONDS
                data = b""
                # In pieces, since the timeout is for each of them.
                while (piece := answer.read1(PIECE_BYTES)) and len(data) <= MAX_BYTES and time.monotonic() < give_up:
                    data += piece
            keys = {key.key_id: key for key in jwt.PyJWKSet.from_json(data.decode()).keys if key.key_id}
        except Exception as fault:  # noqa: BLE001 - whatever was sent; the known keys are kept
            _log.error("session keys", url=self._url, error=type(fault).__name__)
            self._has_failed = True
            return
        self._has_failed = False
        if keys:
            self._keys = keys


def _unavailable() -> errors.Unavailable:
    return errors.Unavailable("SESSION_KEYS_UNAVAILABLE", "the keys of sessions cannot be fetched")


class Sessions:
    """Tells valid sessions from all other tokens."""

    def __init__(self, issuer: str, keys: Keys | str, parties: Iterable[str], *, allow_no_party: bool) -> None:
        self._issuer = issuer
        self._keys = keys
        """Where the keys are, or one of them in PEM."""
        self._parties = frozenset(parties)
        self._allow_no_party = allow_no_party

    def user(self, token: str) -> tuple[str, float]:
        """Return the Clerk id of the session's user and for how many seconds it lasts, or raise Unauthenticated."""
        try:
            return self._user(token)
        except jwt.MissingRequiredClaimError as missing:
            raise errors.Unauthenticated(_WITHOUT[missing.claim]) from None
        except (jwt.PyJWTError, ValueError, ArithmeticError) as fault:
            causes = (cause for kind, cause in _CAUSES.items() if isinstance(fault, kind))
            raise errors.Unauthenticated(next(causes, "session_claim")) from None

    def _user(self, token: str) -> tuple[str, float]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.DecodeError, ValueError):
            raise errors.Unauthenticated("session_malformed") from None
        except jwt.InvalidTokenError:
            header = None
        if header is None or not header.keys() <= _HEADERS:
            raise errors.Unauthenticated("session_header")
        key: Any = self._keys
        if isinstance(key, Keys):
            id = header.get("kid")
            key = key.key(id) if isinstance(id, str) else None
        if key is None:
            raise errors.Unauthenticated("session_key_unknown")
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            issuer=self._issuer,
            leeway=SKEW_SECONDS,
            options={"require": [*_WITHOUT], "verify_aud": False},
        )
        # Of PyJWT's checks, words that read as numbers pass, and numbers that are larger than any moment.
        ends, *_ = [_moment(claims[name]) for name in ("exp", "nbf", "iat") if name in claims]
        party = claims.get("azp")
        if party is None and not self._allow_no_party:
            raise errors.Unauthenticated("session_without_azp")
        if party is not None and not (isinstance(party, str) and party in self._parties):
            raise errors.Unauthenticated("session_party")
        if claims.get("sts", "active") != "active":
            raise errors.Unauthenticated("session_status")
        user, session = claims["sub"], claims["sid"]
        # A database can store neither U+0000 nor half of a surrogate pair.
        is_user = isinstance(user, str) and 0 < len(user) <= MAX_ID and user.isprintable()
        if not (isinstance(session, str) and session and is_user):
            raise errors.Unauthenticated("session_claim")
        return user, ends + SKEW_SECONDS - time.time()


def _moment(value: object) -> float:
    """Return the number of a claim; ValueError or OverflowError when it is none, or none of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")  # noqa: TRY004 - it is what callers send that is wrong
    return float(value)
