"""Why a call was refused: the log says it in one of few words, and callers are told none of them."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs

from omniflo.templates.v1.api_key_service_pb2 import RevokeApiKeyRequest, RotateApiKeyRequest
from service.errors import Cause
from tests.auth.answers import REFUSED, SECONDS, knock
from tests.auth.servers import Listening, Mesh, listening
from tests.auth.test_keys import checked, create, split
from tests.auth.test_services import FORGED
from tests.auth.test_sessions import BAD, HEADERS, USER
from tests.clerk_stand_in import Clerk
from tests.conftest import READER, WRITER, Api, Callers
from tests.e2e.serving import eventually

SESSIONS: dict[Cause, list[str]] = {
    "session_malformed": [
        *("b64", "truncated", "half of it", "dots", "nothing", "a word", "an id of Clerk's", "7,500 letters"),
        *("header as deep as it fits", "header that is a list", "header that is no UTF-8", "two schemes"),
        *("two tokens", "two tokens and a comma", "two tokens and a dot", "a space before it", "encrypted"),
        "five parts, as encrypted ones have",
    ],
    "session_header": [
        *("jku", "jku beside the right key", "x5u", "x5u beside the right key", "x5c", "jwk"),
        *("jwk beside the right key", "crit", "zip", "cty of a token in a token", "kid as a list"),
    ],
    "session_algorithm": [
        *("alg none", "alg None", "alg empty", "alg in lower case", "alg of several", "alg missing"),
        *("HS256 with the PEM as its secret", "HS256 with the bare PEM", "HS256 with the modulus"),
        *("HS256 with nothing", "RS384", "RS512", "PS256"),
    ],
    "session_key_unknown": ["kid that is unknown", "kid that is missing", "kid that is empty", "kid as a path"],
    "session_signature": [
        *("RS256 without a signature", "signed by another key", "the payload of another"),
        *("the signature of another", "one bit of the signature"),
    ],
    "session_without_exp": ["exp missing", "exp null"],
    "session_without_iss": ["iss missing"],
    "session_without_nbf": ["nbf missing"],
    "session_without_sid": ["sid missing"],
    "session_without_sub": ["sub missing"],
    "session_without_azp": ["azp missing"],
    "session_expired": ["exp 6 s ago", "exp of 401 digits with a sign"],
    "session_too_early": ["nbf in 6 s", "iat in 6 s", "nbf of 401 digits", "iat of 401 digits"],
    "session_issuer": ["iss of another", "iss with a slash", "iss as one of a list", "iss empty"],
    "session_party": ["azp of another", "azp with a port", "azp empty", "azp as a list", "azp as an object"],
    "session_status": ["sts pending", "sts empty", "sts null", "sts as a list"],
    "session_claim": [
        *("sub empty", "sub as a number", "sub with U+0000", "sub with half a character", "sub of 256 characters"),
        *("sid empty", "sid as a number", "exp as a word", "exp as a list", "exp without end", "exp that is no number"),
        *("exp of 401 digits", "exp of 5000 digits", "exp as a word of 401 digits", "exp too large for a float"),
        *("iat without end", "iat as an object", "nbf as a list", "nbf without end"),
        *("claims that are a list", "claims that are no JSON", "claims as deep as they fit"),
    ],
}

PROXIED: dict[Cause, list[str]] = {
    "no_credential": ["another header", "a header of nginx", "an actor", "a user of nobody"],
    "header_malformed": ["no user", "a user twice", "two users"],
    "user_of_reader": ["a user of a reader"],
    "user_unknown": ["a user that is unknown", "a user of an unknown id of Clerk's", "a user of an empty id", "SQL"],
    "service_unknown": ["nobody", "the name in another case", "the role", "the common name", "a chain alone"],
    "proxy_header_malformed": ["two headers", "two elements", "two URIs", "garbage", "nothing", "the name alone"],
}


@pytest.fixture
def cause() -> Iterator[Callable[[Api], str]]:
    """Makes a call that must be refused, and answers what the log says why."""
    with capture_logs() as lines:

        def calls() -> list[Any]:
            return [line for line in lines if line["event"] == "call" and line["code"] == "UNAUTHENTICATED"]

        def why(api: Api) -> str:
            before = len(calls())
            assert knock(api) == REFUSED
            # It is written when the caller has its answer.
            eventually(lambda: len(calls()) > before, within=SECONDS)
            line = calls()[before]
            assert (line["reason"], line["caller"]) == ("UNAUTHENTICATED", "nobody")
            assert line.keys() == {
                *("event", "log_level", "method", "code", "duration_ms", "peer", "caller", "reason", "cause")
            }
            return str(line["cause"])

        yield why


@pytest.mark.parametrize("expected", SESSIONS)
def test_the_log_says_why_a_session_is_refused(
    callers: Callers, clerk: Clerk, cause: Callable[[Api], str], expected: Cause
) -> None:
    for bad in SESSIONS[expected]:
        assert cause(callers.bearing(BAD[bad](clerk))) == expected, bad


def test_every_bad_session_has_a_cause() -> None:
    assert sorted(name for names in SESSIONS.values() for name in names) == sorted(BAD)


@pytest.mark.parametrize("expected", PROXIED)
def test_the_log_says_why_a_service_is_refused(callers: Callers, cause: Callable[[Api], str], expected: Cause) -> None:
    for forged in PROXIED[expected]:
        assert cause(callers.sending(*FORGED[forged])) == expected, forged


def test_the_log_says_what_is_wrong_with_the_headers(
    callers: Callers, clerk: Clerk, cause: Callable[[Api], str]
) -> None:
    token = clerk.session(USER)
    others = {"Bearer alone": "session_malformed", "another header": "no_credential", "a cookie": "no_credential"}
    others["another kind of dash"] = "no_credential"
    for name, header in HEADERS.items():
        assert cause(callers.sending(*header(token))) == others.get(name, "header_malformed"), name
    beside = callers.sending(("authorization", f"Bearer {token}"), ("x-omniflo-user", "clerk:user_somebody"))
    assert cause(beside) == "user_beside_token"


def test_the_log_says_why_a_key_is_refused(callers: Callers, cause: Callable[[Api], str]) -> None:
    owner = callers.user("user_with_bad_keys")
    made, rotated = create(owner), create(owner)
    id, secret = split(made.secret)
    assert cause(callers.bearing(f"{made.secret}0")) == "key_malformed"
    assert cause(callers.bearing(checked(f"omf_nothing_{secret}"))) == "key_unknown"
    assert cause(callers.bearing(checked(f"omf_{id}_{'0' * 64}"))) == "key_secret"
    owner.keys.RevokeApiKey(RevokeApiKeyRequest(id=id))
    assert cause(callers.bearing(made.secret)) == "key_over"
    owner.keys.RotateApiKey(RotateApiKeyRequest(id=rotated.api_key.id, grace=Duration()))
    assert cause(callers.bearing(rotated.secret)) == "key_over"


def test_the_log_says_why_a_certificate_is_refused(
    meshed: Listening, mesh: Mesh, connect: Callable[..., Callers], cause: Callable[[Api], str]
) -> None:
    address = meshed["listen_mtls"]
    assert cause(connect(address, mesh.shows(READER, WRITER)).nobody()) == "service_ambiguous"
    assert cause(connect(address, mesh.with_files(mesh.proxy)).nobody()) == "service_is_proxy"
    named = ("x-forwarded-client-cert", f"URI={WRITER}")
    assert cause(connect(address, mesh.shows(READER)).sending(named)) == "proxy_unknown"


def test_the_log_says_what_is_off(url: str, connect: Callable[..., Callers], cause: Callable[[Api], str]) -> None:
    named = ("x-forwarded-client-cert", f"URI={WRITER}")
    with listening(url) as server:
        callers = connect(server["listen"])
        assert cause(callers.bearing("eyJhbGciOiJSUzI1NiJ9.e30.AAAA")) == "sessions_off"
        assert cause(callers.sending(named)) == "proxy_header_off"
    with listening(url, auth="none") as server:
        assert cause(connect(server["listen"]).sending(("x-omniflo-user", "clerk:x"))) == "user_without_authentication"


def test_every_cause_is_tried_here() -> None:
    others = {"user_beside_token", "key_malformed", "key_unknown", "key_secret", "key_over"}
    others |= {"service_ambiguous", "service_is_proxy", "proxy_unknown"}
    others |= {"sessions_off", "proxy_header_off", "user_without_authentication"}
    assert {*SESSIONS, *PROXIED, *others} == set(get_args(Cause))
