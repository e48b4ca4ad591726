"""Sessions whose key nobody knows, which anybody can make up: they keep no thread from those who may call."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
import pytest

from omniflo.templates.v1.api_key_pb2 import ApiKeyScope
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from service.identity import clerk as keys_of_clerk
from tests.auth.answers import is_let_in
from tests.auth.servers import listening
from tests.clerk_stand_in import ISSUER, PARTY, Clerk
from tests.conftest import Api, Callers, Database, Failure

THREADS = 4
MADE_UP = 32
WAIT_SECONDS = 6.0
"""How long callers wait for keys here: longer than a slow machine takes for a call that waits for nobody."""


@pytest.fixture
def own() -> Iterator[Clerk]:
    """A Clerk whose answers can be made to hang until the test ends."""
    running = Clerk()
    yield running
    running.close()


@pytest.fixture
def hang(own: Clerk) -> Iterator[None]:
    over = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        over.wait(30)

    own.answer = wait
    yield
    over.set()


def knock(callers: Callers, clerk: Clerk, number: int) -> str:
    token = clerk.session("user_made_up", headers={"kid": f"ins_made_up_{number}"})
    try:
        callers.bearing(token).users.ListUsers(ListUsersRequest(), timeout=20)
    except grpc.RpcError as error:
        return str(Failure(error).reason)
    return "OK"


@pytest.mark.parametrize("are_known", [True, False], ids=["after the first keys", "before the first keys"])
def test_made_up_key_ids_slow_no_other_caller_while_the_keys_do_not_come(
    url: str,
    api: Api,
    database: Database,
    own: Clerk,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    are_known: bool,
) -> None:
    del database
    for wait in ("FETCH_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(keys_of_clerk, wait, WAIT_SECONDS)
    key = api.key(scope=ApiKeyScope.API_KEY_SCOPE_READ).secret
    if not are_known:
        request.getfixturevalue("hang")
    clerk_settings: dict[str, Any] = {
        "clerk_issuer": ISSUER,
        "clerk_jwks_url": own.url,
        "clerk_authorized_parties": (PARTY,),
    }
    with (
        listening(url, threads=THREADS, **clerk_settings) as server,
        grpc.insecure_channel(server["listen"]) as channel,
        ThreadPoolExecutor(MADE_UP) as pool,
    ):
        callers = Callers(channel, own)
        if are_known:
            assert is_let_in(callers.user("user_early"))
            request.getfixturevalue("hang")
        assert is_let_in(callers.bearing(key))
        knocking = [pool.submit(knock, callers, own, number) for number in range(MADE_UP)]
        longest, give_up = 0.0, time.monotonic() + WAIT_SECONDS / 2
        while time.monotonic() < give_up:
            start = time.monotonic()
            assert is_let_in(callers.bearing(key))
            longest = max(longest, time.monotonic() - start)
        assert longest < WAIT_SECONDS * 2 / 3
        reasons = {knocks.result() for knocks in knocking}
        assert reasons <= {"UNAUTHENTICATED", "SESSION_KEYS_UNAVAILABLE"}
        if are_known:
            assert is_let_in(callers.user("user_late"))
