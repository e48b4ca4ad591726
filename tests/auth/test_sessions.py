"""Sessions of Clerk: which tokens count, and what becomes of them while the keys change, hang or are away."""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
import jwt
import pytest

from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ListUsersRequest
from service.identity import clerk as keys_of_clerk
from service.identity.identities import Identities
from tests.auth.answers import REFUSED, SECONDS, is_let_in, knock, refusal, who
from tests.auth.servers import listening
from tests.clerk_stand_in import ISSUER, PARTY, Clerk, SigningKey, segment
from tests.conftest import WRITER, Callers, Database, Failure, fails
from tests.contract.methods import METHODS
from tests.e2e.serving import eventually

USER = "user_of_a_bad_session"


@pytest.fixture
def own() -> Iterator[Clerk]:
    """A Clerk that only one test has."""
    running = Clerk()
    yield running
    running.close()


@pytest.fixture
def serve(url: str, database: Database, connect: Callable[..., Callers]) -> Callable[..., Any]:
    """Serves, in this process and for one block, whoever has a session; settings change how."""
    del database

    @contextmanager
    def serving(clerk: Clerk, **settings: Any) -> Iterator[Callers]:
        keys = {"clerk_jwks_url": clerk.url, "clerk_authorized_parties": (PARTY,)}
        with listening(url, **{"clerk_issuer": ISSUER, **keys, **settings}) as server:
            callers = connect(server["listen"])
            callers._clerk = clerk
            yield callers

    return serving


def _now() -> int:
    return int(time.time())


def _parts(clerk: Clerk) -> list[str]:
    return clerk.session(USER).split(".")


def _header(clerk: Clerk, **fields: Any) -> dict[str, Any]:
    return {"alg": "RS256", "kid": clerk.keys[-1].id, "typ": "JWT", **fields}


def _unsigned(clerk: Clerk, algorithm: str) -> str:
    header, claims = _header(clerk, alg=algorithm), clerk.claims(USER)
    return f"{segment(json.dumps(header).encode())}.{segment(json.dumps(claims).encode())}."


def _with_public_key_as_secret(clerk: Clerk, secret: str) -> str:
    signed = _unsigned(clerk, "HS256").removesuffix(".")
    return f"{signed}.{segment(hmac.digest(secret.encode(), signed.encode(), sha256))}"


def _other_payload(clerk: Clerk) -> str:
    header, _, signature = _parts(clerk)
    return ".".join([header, _parts(clerk)[1], signature])


def _flipped(clerk: Clerk) -> str:
    header, claims, signature = _parts(clerk)
    octets = bytearray(urlsafe_b64decode(f"{signature}=="))
    octets[100] ^= 1
    return f"{header}.{claims}.{segment(bytes(octets))}"


def _admitted(clerk: Clerk, **fields: Any) -> str:
    """Answer a token that the right key has signed, of a header with one field too many."""
    return clerk.keys[-1].token(_header(clerk, **fields), clerk.claims(USER))


def _signed(clerk: Clerk, text: str) -> str:
    """Answer a token that the right key has signed, of claims as they are spelled."""
    key = clerk.keys[-1]
    signing = jwt.PyJWS()
    return signing.encode(text.encode(), key.private, algorithm="RS256", headers={"kid": key.id})


def _foreign(clerk: Clerk, headers: dict[str, Any] | None = None) -> str:
    """Answer the token of a key that is not among Clerk's, whatever it calls itself."""
    return clerk.session(USER, key=STRANGER, headers={"kid": clerk.keys[-1].id, **(headers or {})})


STRANGER = SigningKey("ins_of_a_stranger")

BAD: dict[str, Callable[[Clerk], str]] = {
    "alg none": lambda clerk: _unsigned(clerk, "none"),
    "alg None": lambda clerk: _unsigned(clerk, "None"),
    "alg empty": lambda clerk: _unsigned(clerk, ""),
    "RS256 without a signature": lambda clerk: _unsigned(clerk, "RS256"),
    "HS256 with the PEM as its secret": lambda clerk: _with_public_key_as_secret(clerk, clerk.keys[-1].pem),
    "HS256 with the bare PEM": lambda clerk: _with_public_key_as_secret(clerk, clerk.keys[-1].pem.strip()),
    "HS256 with the modulus": lambda clerk: _with_public_key_as_secret(clerk, clerk.keys[-1].jwk["n"]),
    "HS256 with nothing": lambda clerk: _with_public_key_as_secret(clerk, ""),
    "RS384": lambda clerk: clerk.session(USER, headers={"alg": "RS384"}),
    "RS512": lambda clerk: clerk.session(USER, headers={"alg": "RS512"}),
    "PS256": lambda clerk: clerk.session(USER, headers={"alg": "PS256"}),
    "alg in lower case": lambda clerk: _admitted(clerk, alg="rs256"),
    "alg of several": lambda clerk: _admitted(clerk, alg=["RS256"]),
    "alg missing": lambda clerk: clerk.keys[-1].token({"kid": clerk.keys[-1].id}, clerk.claims(USER)),
    "iss of another": lambda clerk: clerk.session(USER, iss="https://clerk.example.org"),
    "iss with a slash": lambda clerk: clerk.session(USER, iss=f"{ISSUER}/"),
    "iss as one of a list": lambda clerk: clerk.keys[-1].token(_header(clerk), clerk.claims(USER, iss=[ISSUER])),
    "iss missing": lambda clerk: clerk.session(USER, iss=None),
    "iss empty": lambda clerk: clerk.session(USER, iss=""),
    "azp of another": lambda clerk: clerk.session(USER, azp="https://evil.example.com"),
    "azp with a port": lambda clerk: clerk.session(USER, azp=f"{PARTY}:443"),
    "azp missing": lambda clerk: clerk.session(USER, azp=None),
    "azp empty": lambda clerk: clerk.session(USER, azp=""),
    "azp as a list": lambda clerk: clerk.session(USER, azp=[PARTY]),
    "azp as an object": lambda clerk: clerk.session(USER, azp={PARTY: PARTY}),
    "sub missing": lambda clerk: clerk.session(USER, sub=None),
    "sub empty": lambda clerk: clerk.session(""),
    "sub as a number": lambda clerk: clerk.keys[-1].token(_header(clerk), clerk.claims(USER, sub=7)),
    "sub with U+0000": lambda clerk: clerk.session(f"{USER}\0"),
    "sub with half a character": lambda clerk: clerk.session(f"{USER}\ud800"),
    "sub of 256 characters": lambda clerk: clerk.session("u" * 256),
    "sid missing": lambda clerk: clerk.session(USER, sid=None),
    "sid empty": lambda clerk: clerk.session(USER, sid=""),
    "sid as a number": lambda clerk: clerk.session(USER, sid=1),
    "sts pending": lambda clerk: clerk.session(USER, sts="pending"),
    "sts empty": lambda clerk: clerk.session(USER, sts=""),
    "sts null": lambda clerk: _signed(clerk, json.dumps({**clerk.claims(USER), "sts": None})),
    "sts as a list": lambda clerk: clerk.session(USER, sts=["active"]),
    "exp 6 s ago": lambda clerk: clerk.session(USER, exp=_now() - 6),
    "exp missing": lambda clerk: clerk.session(USER, exp=None),
    "exp null": lambda clerk: _signed(clerk, json.dumps({**clerk.claims(USER), "exp": None})),
    "exp as a word": lambda clerk: clerk.session(USER, exp="tomorrow"),
    "exp as a list": lambda clerk: clerk.session(USER, exp=[_now() + 60]),
    "exp without end": lambda clerk: clerk.session(USER, exp=float("inf")),
    "exp that is no number": lambda clerk: clerk.session(USER, exp=float("nan")),
    "exp of 401 digits": lambda clerk: clerk.session(USER, exp=10**400),
    "exp of 401 digits with a sign": lambda clerk: clerk.session(USER, exp=-(10**400)),
    "exp of 5000 digits": lambda clerk: _signed(
        clerk, json.dumps({**clerk.claims(USER), "exp": "?"}).replace('"?"', "9" * 5000)
    ),
    "exp as a word of 401 digits": lambda clerk: clerk.session(USER, exp=str(10**400)),
    "exp too large for a float": lambda clerk: _signed(
        clerk, json.dumps({**clerk.claims(USER), "exp": 7.5}).replace("7.5", "1e400")
    ),
    "nbf of 401 digits": lambda clerk: clerk.session(USER, nbf=10**400),
    "iat of 401 digits": lambda clerk: clerk.session(USER, iat=10**400),
    "iat without end": lambda clerk: clerk.session(USER, iat=float("inf")),
    "iat as an object": lambda clerk: clerk.session(USER, iat={}),
    "nbf in 6 s": lambda clerk: clerk.session(USER, nbf=_now() + 7),
    "nbf missing": lambda clerk: clerk.session(USER, nbf=None),
    "nbf as a list": lambda clerk: clerk.session(USER, nbf=[0]),
    "nbf without end": lambda clerk: clerk.session(USER, nbf=float("inf")),
    "iat in 6 s": lambda clerk: clerk.session(USER, iat=_now() + 7),
    "claims that are a list": lambda clerk: _signed(clerk, "[]"),
    "claims that are no JSON": lambda clerk: _signed(clerk, "exp=1"),
    "claims as deep as they fit": lambda clerk: _signed(clerk, "[" * 4000),
    "kid that is unknown": lambda clerk: clerk.session(USER, headers={"kid": "ins_made_up"}),
    "kid that is missing": lambda clerk: clerk.session(USER, headers={"kid": None}),
    "kid that is empty": lambda clerk: clerk.session(USER, headers={"kid": ""}),
    "kid as a list": lambda clerk: _admitted(clerk, kid=[clerk.keys[-1].id]),
    "kid as a path": lambda clerk: clerk.session(USER, key=STRANGER, headers={"kid": "../../../dev/null"}),
    "signed by another key": _foreign,
    "jku": lambda clerk: _foreign(clerk, {"jku": "https://evil.example.com/jwks.json"}),
    "jku beside the right key": lambda clerk: _admitted(clerk, jku="https://evil.example.com/jwks.json"),
    "x5u": lambda clerk: _foreign(clerk, {"x5u": "https://evil.example.com/cert.pem"}),
    "x5u beside the right key": lambda clerk: _admitted(clerk, x5u="https://evil.example.com/cert.pem"),
    "x5c": lambda clerk: _foreign(clerk, {"x5c": ["MIIB"]}),
    "jwk": lambda clerk: _foreign(clerk, {"jwk": STRANGER.jwk}),
    "jwk beside the right key": lambda clerk: _admitted(clerk, jwk=clerk.keys[-1].jwk),
    "crit": lambda clerk: _admitted(clerk, crit=["exp"]),
    "b64": lambda clerk: _admitted(clerk, b64=False, crit=["b64"]),
    "zip": lambda clerk: _admitted(clerk, zip="DEF"),
    "cty of a token in a token": lambda clerk: _admitted(clerk, cty="JWT"),
    "header as deep as it fits": lambda clerk: f"{segment(b'[' * 4000)}.{'.'.join(_parts(clerk)[1:])}",
    "header that is a list": lambda clerk: f"{segment(b'[]')}.{'.'.join(_parts(clerk)[1:])}",
    "header that is no UTF-8": lambda clerk: f"{segment(bytes(range(128, 256)))}.{'.'.join(_parts(clerk)[1:])}",
    "truncated": lambda clerk: clerk.session(USER)[:-1],
    "half of it": lambda clerk: ".".join(_parts(clerk)[:2]),
    "the payload of another": _other_payload,
    "the signature of another": lambda clerk: ".".join([*_parts(clerk)[:2], _parts(clerk)[2]]),
    "one bit of the signature": _flipped,
    "two tokens": lambda clerk: f"{clerk.session(USER)} {clerk.session(USER)}",
    "two tokens and a comma": lambda clerk: f"{clerk.session(USER)},{clerk.session(USER)}",
    "two tokens and a dot": lambda clerk: f"{clerk.session(USER)}.{clerk.session(USER)}",
    "two schemes": lambda clerk: f"Bearer {clerk.session(USER)}",
    "a space before it": lambda clerk: f" {clerk.session(USER)}",
    "five parts, as encrypted ones have": lambda clerk: ".".join([_parts(clerk)[0], "", *_parts(clerk)]),
    "encrypted": lambda _: ".".join([segment(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), *["AAAA"] * 4]),
    "dots": lambda _: "..",
    "nothing": lambda _: "",
    "a word": lambda _: "undefined",
    "an id of Clerk's": lambda _: USER,
    "7,500 letters": lambda _: "a" * 7500,
}


HEADERS: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "no scheme": lambda token: [("authorization", token)],
    "Basic": lambda token: [("authorization", f"Basic {token}")],
    "Bearer with a colon": lambda token: [("authorization", f"Bearer: {token}")],
    "Bearer alone": lambda _: [("authorization", "Bearer")],
    "an empty header": lambda _: [("authorization", "")],
    "a scheme before it": lambda token: [("authorization", f"Basic, Bearer {token}")],
    "twice": lambda token: [("authorization", f"Bearer {token}")] * 2,
    "an empty one first": lambda token: [("authorization", ""), ("authorization", f"Bearer {token}")],
    "Basic first": lambda token: [("authorization", "Basic dTpw"), ("authorization", f"Bearer {token}")],
    "another header": lambda token: [("proxy-authorization", f"Bearer {token}")],
    "a cookie": lambda token: [("cookie", f"__session={token}")],
    "another kind of dash": lambda token: [("authorization_", f"Bearer {token}")],
}


@pytest.mark.parametrize("bad", BAD)
def test_a_token_that_is_no_session_is_refused_without_a_reason(callers: Callers, clerk: Clerk, bad: str) -> None:
    assert who(callers.bearing(clerk.session("user_of_a_good_session"))) == "user_of_a_good_session"
    assert knock(callers.bearing(BAD[bad](clerk))) == REFUSED


@pytest.mark.parametrize("bad", HEADERS)
def test_a_session_that_is_sent_otherwise_is_refused_without_a_reason(callers: Callers, clerk: Clerk, bad: str) -> None:
    assert knock(callers.sending(*HEADERS[bad](clerk.session(USER)))) == REFUSED


def test_bad_sessions_leave_no_user_behind(callers: Callers, clerk: Clerk, database: Database) -> None:
    for bad in BAD.values():
        assert knock(callers.bearing(bad(clerk))) == REFUSED
    assert database.query("select clerk_id from users") == []


def test_nobody_is_refused_by_every_method(callers: Callers) -> None:
    for method in METHODS:
        call: Callable[..., object] = callers.nobody().channel.unary_unary(method.path)
        assert refusal(call, b"") == REFUSED, method.path


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_session_is_its_user(callers: Callers, clerk: Clerk, scheme: str) -> None:
    api = callers.sending(("authorization", f"{scheme} {clerk.session('user_with_a_session')}"))
    assert who(api) == "user_with_a_session"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": -3, "nbf": -60, "iat": -60},
        {"exp": 60, "nbf": 4, "iat": 4},
    ],
    ids=["expired", "not yet valid"],
)
def test_a_clock_may_be_four_seconds_off(callers: Callers, clerk: Clerk, claims: dict[str, int]) -> None:
    times: dict[str, Any] = {name: _now() + seconds for name, seconds in claims.items()}
    assert who(callers.bearing(clerk.session("user_elsewhere", **times))) == "user_elsewhere"


@pytest.mark.parametrize(
    "claims",
    [
        {"sts": None},
        {"iat": None},
        {"aud": "convex"},
        {"v": 2, "fva": [0, -1], "role": "admin"},
        {"exp": 4_000_000_000},
    ],
    ids=["no sts", "no iat", "an audience", "more claims", "exp in a hundred years"],
)
def test_what_a_session_may_say_or_leave_out(callers: Callers, clerk: Clerk, claims: dict[str, Any]) -> None:
    assert who(callers.bearing(clerk.session("user_of_few_words", **claims))) == "user_of_few_words"


@pytest.mark.parametrize("sub", ["u" * 255, "user_ä", "user with spaces"])
def test_whatever_id_clerk_gives_is_taken(callers: Callers, clerk: Clerk, sub: str) -> None:
    assert who(callers.bearing(clerk.session(sub))) == sub


def test_the_first_session_provisions_the_user_once_also_of_eight_at_a_time(
    callers: Callers, clerk: Clerk, database: Database
) -> None:
    for round_ in range(5):
        with ThreadPoolExecutor(8) as pool:
            apis = [callers.bearing(clerk.session(f"user_new_{round_}")) for _ in range(8)]
            assert set(pool.map(who, apis)) == {f"user_new_{round_}"}
    found = database.query("select clerk_id, count(*) from users group by 1 order by 1")
    assert found == [(f"user_new_{round_}", 1) for round_ in range(5)]


def test_a_remembered_session_ends_when_it_expires(
    callers: Callers, clerk: Clerk, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "trust_seconds", 60.0)
    expires = _now() - 3
    api = callers.bearing(clerk.session("user_about_to_leave", exp=expires))
    assert is_let_in(api)
    eventually(lambda: not is_let_in(api), within=SECONDS)
    assert 5 <= time.time() - expires < 6
    assert knock(api) == REFUSED


def test_what_is_remembered_of_users_is_no_credential(callers: Callers) -> None:
    (user,) = callers.user("user_called_for").users.ListUsers(ListUsersRequest()).users
    for name in (user.id, "clerk:user_called_for"):
        assert who(callers.service(WRITER, user=name)) == "user_called_for"
        # Both had the same digest once: after a service had called for a user, whoever knew the id was let in.
        assert knock(callers.bearing(f"x-omniflo-user:{name}")) == REFUSED
        assert knock(callers.bearing(name)) == REFUSED


def test_a_key_in_the_settings_needs_no_url(serve: Callable[..., Any], own: Clerk) -> None:
    with serve(own, clerk_jwks_url=None, clerk_jwt_key=own.keys[-1].pem) as callers:
        assert who(callers.user("user_by_pem")) == "user_by_pem"
        # There is one key, so that its id says nothing.
        assert who(callers.bearing(own.session("user_by_pem", headers={"kid": None}))) == "user_by_pem"
        for name, bad in BAD.items():
            if not name.startswith("kid that is"):
                assert knock(callers.bearing(bad(own))) == REFUSED, name
    assert own.fetches == 0


def test_a_session_without_azp_counts_where_the_settings_say_so(serve: Callable[..., Any], own: Clerk) -> None:
    with serve(own, clerk_allow_no_azp=True, clerk_authorized_parties=()) as callers:
        assert who(callers.bearing(own.session("user_native", azp=None))) == "user_native"
        for party in (PARTY, "", "https://evil.example.com"):
            assert knock(callers.bearing(own.session("user_native", azp=party))) == REFUSED


def test_without_clerk_no_token_counts(serve: Callable[..., Any], own: Clerk) -> None:
    with serve(own, clerk_issuer=None, clerk_jwks_url=None, clerk_authorized_parties=()) as callers:
        assert knock(callers.user("user_nowhere")) == REFUSED


def test_keys_rotate_under_calls_and_no_call_fails(
    serve: Callable[..., Any], own: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_of_clerk, "UNKNOWN_SECONDS", 0.0)
    with serve(own) as callers:
        stop = threading.Event()

        def call(number: int) -> int:
            calls = 0
            while not stop.is_set():
                assert who(callers.user(f"user_{number}")) == f"user_{number}"
                calls += 1
            return calls

        with ThreadPoolExecutor(4) as pool:
            calling = [pool.submit(call, number) for number in range(4)]
            try:
                for _ in range(4):
                    fetches = own.fetches
                    own.add_key()
                    eventually(lambda before=fetches: own.fetches > before, within=SECONDS)  # type: ignore[misc]
            finally:
                stop.set()
            assert all(running.result() > 0 for running in calling)


def test_a_key_that_was_withdrawn_is_forgotten_when_the_keys_are_fetched_again(
    serve: Callable[..., Any], own: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(own) as callers:
        withdrawn = own.keys[-1]
        assert is_let_in(callers.user("user_early"))
        own.rotate()
        assert is_let_in(callers.bearing(own.session("user_late", key=withdrawn)))
        monkeypatch.setattr(keys_of_clerk, "REFRESH_SECONDS", 0.0)
        eventually(lambda: not is_let_in(callers.bearing(own.session("user_late", key=withdrawn))), within=SECONDS)
        assert knock(callers.bearing(own.session("user_late", key=withdrawn))) == REFUSED


def test_known_keys_work_on_while_the_url_is_away(
    serve: Callable[..., Any], own: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_of_clerk, "REFRESH_SECONDS", 0.0)
    with serve(own) as callers:
        assert is_let_in(callers.user("user_before"))
        own.is_away = True
        fetches = own.fetches
        while own.fetches < fetches + 3:
            assert is_let_in(callers.user("user_meanwhile"))
        own.is_away = False
        own.add_key()
        monkeypatch.setattr(keys_of_clerk, "UNKNOWN_SECONDS", 0.0)
        eventually(lambda: is_let_in(callers.user("user_after")), within=SECONDS)


@pytest.mark.parametrize("answer", ["garbage", "[]", '{"keys": 5}', '{"keys": []}', '{"keys": [{"kty": "oct"}]}'])
def test_known_keys_work_on_while_the_url_answers_nonsense(
    serve: Callable[..., Any], own: Clerk, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(keys_of_clerk, "REFRESH_SECONDS", 0.0)

    def nonsense(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.0 200 OK\r\ncontent-length: {len(answer)}\r\n\r\n{answer}".encode())

    with serve(own) as callers:
        assert is_let_in(callers.user("user_before"))
        own.answer = nonsense
        fetches = own.fetches
        while own.fetches < fetches + 3:
            assert is_let_in(callers.user("user_meanwhile"))


def test_a_url_that_does_not_speak_http_is_as_good_as_away(
    serve: Callable[..., Any], own: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_of_clerk, "EMPTY_SECONDS", 0.0)

    def other(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    own.answer = other
    with serve(own) as callers:
        assert (
            fails(callers.user("user_early").users.ListUsers, ListUsersRequest()).reason == "SESSION_KEYS_UNAVAILABLE"
        )
        own.answer = None
        eventually(lambda: _is_answered(callers), within=SECONDS)


def test_made_up_key_ids_have_the_keys_fetched_once(
    serve: Callable[..., Any], own: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_up(number: int) -> str:
        return own.session(USER, headers={"kid": f"ins_made_up_{number}"})

    with serve(own) as callers:
        assert is_let_in(callers.user("user_before"))
        assert own.fetches == 1
        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(knock, (callers.bearing(make_up(number)) for number in range(40))))
        # Few wait for it; to others it is said that it goes on.
        assert REFUSED in answers
        assert {answer.code for answer in answers - {REFUSED}} <= {grpc.StatusCode.UNAVAILABLE}
        assert own.fetches == 2
        monkeypatch.setattr(keys_of_clerk, "UNKNOWN_SECONDS", 0.0)
        assert knock(callers.bearing(make_up(40))) == REFUSED
        assert own.fetches == 3


def test_while_no_key_is_known_sessions_are_unavailable_and_then_they_are_not(
    serve: Callable[..., Any], own: Clerk
) -> None:
    own.is_away = True
    with serve(own) as callers:
        failure = fails(callers.user("user_early").users.ListUsers, ListUsersRequest(), timeout=SECONDS)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_KEYS_UNAVAILABLE")
        assert failure.retry_seconds
        assert failure.metadata == {}
        # What needs no keys of Clerk's is as it was.
        assert knock(callers.nobody()) == REFUSED
        assert knock(callers.bearing("omf_x_y")) == REFUSED
        own.is_away = False
        eventually(lambda: _is_answered(callers), within=SECONDS)


def _is_answered(callers: Callers) -> bool:
    try:
        return who(callers.user("user_early")) == "user_early"
    except grpc.RpcError as error:
        if Failure(error).reason != "SESSION_KEYS_UNAVAILABLE":
            raise
        return False


class Stalling:
    """Answers of Clerk's that do not come: not at all, or a byte at a time in the header or in the body."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._over = threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        start = {"hangs": b"", "drips its header": b"HTTP/1.0 200 OK\r\n", "drips its body": b"HTTP/1.0 200 OK\r\n\r\n"}
        try:
            handler.wfile.write(start[self._kind])
            while not self._over.wait(0.1):
                if self._kind != "hangs":
                    handler.wfile.write(b"x")
        except OSError:
            pass

    def give_way(self, clerk: Clerk) -> None:
        """Let the next who ask be answered; who was not, still is not."""
        clerk.answer = None
        if self._kind == "drips its header":
            # Nothing but its end, or its silence, ends the wait for a header.
            self.end()

    def end(self) -> None:
        self._over.set()


@pytest.fixture
def stalling(request: pytest.FixtureRequest) -> Iterator[Stalling]:
    answer = Stalling(getattr(request, "param", "hangs"))
    yield answer
    answer.end()


@pytest.mark.parametrize("stalling", ["hangs", "drips its header", "drips its body"], indirect=True)
def test_keys_that_do_not_come_are_given_up_and_fetched_again(
    serve: Callable[..., Any], own: Clerk, stalling: Stalling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_of_clerk, "FETCH_SECONDS", 0.5)
    own.answer = stalling
    with serve(own) as callers:
        failure = fails(callers.user("user_early").users.ListUsers, ListUsersRequest(), timeout=SECONDS)
        assert failure.reason == "SESSION_KEYS_UNAVAILABLE"
        stalling.give_way(own)
        eventually(lambda: _is_answered(callers), within=SECONDS)


def test_a_call_ends_within_its_deadline_while_the_first_keys_do_not_come(
    serve: Callable[..., Any], own: Clerk, stalling: Stalling, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wait in ("FETCH_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(keys_of_clerk, wait, 2 * SECONDS)
    own.answer = stalling
    with serve(own, threads=1) as callers:
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            who(callers.user("user_early"), timeout=0.3)
        assert caught.value.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        # The one thread is free again: it waited for no longer than the call.
        assert knock(callers.nobody()) == REFUSED
        assert time.monotonic() - start < SECONDS


def test_known_sessions_do_not_wait_for_keys_that_do_not_come(
    serve: Callable[..., Any], own: Clerk, stalling: Stalling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_of_clerk, "REFRESH_SECONDS", 0.0)
    for wait in ("FETCH_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(keys_of_clerk, wait, 2 * SECONDS)
    with serve(own) as callers:
        assert is_let_in(callers.user("user_known"))
        own.answer, fetches = stalling, own.fetches
        for _ in range(5):
            eventually(lambda: is_let_in(callers.user("user_known")) and own.fetches > fetches, within=SECONDS)


def test_sessions_of_an_unknown_key_wait_for_one_fetch_together(
    serve: Callable[..., Any], own: Clerk, stalling: Stalling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_of_clerk, "WAIT_SECONDS", 2.0)
    monkeypatch.setattr(keys_of_clerk, "FETCH_SECONDS", 2.0)
    with serve(own) as callers:
        assert is_let_in(callers.user("user_known"))
        own.answer = stalling
        start = time.monotonic()
        for _ in range(10):
            assert knock(callers.bearing(own.session(USER, headers={"kid": "ins_made_up"}))) == REFUSED
        assert time.monotonic() - start < 10 * 2.0 / 2
        stalling.give_way(own)
        own.add_key()
        monkeypatch.setattr(keys_of_clerk, "UNKNOWN_SECONDS", 0.0)
        eventually(lambda: is_let_in(callers.user("user_after")), within=SECONDS)


def test_keys_come_from_no_other_address(serve: Callable[..., Any], own: Clerk, clerk: Clerk) -> None:
    elsewhere, fetches = clerk.url, clerk.fetches

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("location", elsewhere)
        handler.end_headers()

    own.answer = redirect
    with serve(own) as callers:
        token = clerk.session(USER)
        failure = fails(callers.bearing(token).users.GetUser, GetUserRequest(id="x"))
        assert failure.reason == "SESSION_KEYS_UNAVAILABLE"
    assert clerk.fetches == fetches
