"""What is secret stays so: in the database, in the log, and in what callers are told. And what the log does say."""

import json
import subprocess
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import grpc
import pytest

from omniflo.templates.v1.api_key_pb2 import ApiKey, ApiKeyScope
from omniflo.templates.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    GetApiKeyRequest,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
)
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest, ProvisionUserRequest
from service.database import embedded
from tests.auth.answers import SECONDS, knock, refusal, who
from tests.auth.servers import Served
from tests.clerk_stand_in import Clerk
from tests.conftest import ADMIN, PLATFORM_ADMIN, READER, WRITER, Api, Callers, Failure
from tests.e2e.serving import eventually
from tests.scale import SECRETS


def _forms(secret: str) -> Iterator[str]:
    """Answer how the secret of a key could stand somewhere, as text."""
    _, _, rest = secret.split("_")
    octets, text = bytes.fromhex(rest[:64]), rest[:64].encode()
    yield rest[:64]
    yield text.hex()
    for alignment in range(3):
        # The middle of it, whatever stands before and after.
        for data in (octets, text):
            for encode in (b64encode, urlsafe_b64encode):
                yield encode(b"\0" * alignment + data)[4:36].decode()
    yield octets.decode("latin-1")
    # As pg_dump writes octets in text.
    yield "".join(f"\\{octet:03o}" for octet in octets)


def _found(texts: Iterable[str], dump: str) -> list[str]:
    """Answer which of the texts are in the dump: a window of each length is moved over it once."""
    found = []
    for length, group in groupby(sorted(texts, key=len), key=len):
        wanted = set(group)
        found += [dump[at : at + length] for at in range(len(dump)) if dump[at : at + length] in wanted]
    return found


def _dump(url: str) -> str:
    """Answer the whole database, as text and, octet by octet, as it is kept."""
    command = [str(embedded.binaries() / "pg_dump"), "--inserts", "--no-owner", url]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode("latin-1")


@pytest.fixture(scope="module")
def connections(processes: Served) -> Iterator[list[grpc.Channel]]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(processes["listen"], options) for _ in range(8)]
    yield channels
    for channel in channels:
        channel.close()


@pytest.fixture
def called(connections: list[grpc.Channel], clerk: Clerk) -> Callers:
    return Callers(connections[0], clerk)


def test_the_search_finds_what_it_is_for() -> None:
    secret = f"omf_x_{bytes(range(100, 132)).hex()}00000000"
    octets = bytes(range(100, 132))
    for leak in (secret, secret.encode().hex(), b64encode(b"ab" + octets).decode(), octets.decode("latin-1")):
        assert _found(_forms(secret), f"(1, '{leak}')")
    assert not _found(_forms(secret), secret[:60])


@pytest.mark.soak
def test_of_many_keys_no_secret_is_kept_or_told(
    processes: Served, connections: list[grpc.Channel], clerk: Clerk
) -> None:
    def make(number: int) -> list[str]:
        """Make a key, use it, misuse it, and answer its secrets and whatever else was told."""
        callers = Callers(connections[number % len(connections)], clerk)
        owner = callers.user(f"user_with_secrets_{number % 10}")
        body = ApiKey(name=f"Key {number}", scope=ApiKeyScope.API_KEY_SCOPE_WRITE)
        create = CreateApiKeyRequest(api_key=body, request_id=f"request-{number}" if number % 2 else "")
        made = owner.keys.CreateApiKey(create)
        key = callers.bearing(made.secret)
        told = [str(key.keys.GetApiKey(GetApiKeyRequest(id=made.api_key.id)))]
        secrets = [made.secret]
        if create.request_id:
            replayed = owner.keys.CreateApiKey(create)
            assert (replayed.api_key.id, replayed.secret) == (made.api_key.id, "")
        if number % 10 == 1:
            rotate = RotateApiKeyRequest(id=made.api_key.id, request_id=f"rotate-{number}")
            secrets.append(owner.keys.RotateApiKey(rotate).secret)
            assert owner.keys.RotateApiKey(rotate).secret == ""
            # A secret where another thing is asked for.
            told.append(repr(refusal(key.keys.GetApiKey, GetApiKeyRequest(id=made.secret))))
            told.append(repr(refusal(key.keys.RevokeApiKey, RevokeApiKeyRequest(id=made.secret[:64], etag="x"))))
            bad = callers.sending(("authorization", f"Bearer {made.secret}"), ("x-omniflo-user", made.secret))
            told += [repr(knock(api)) for api in (bad, callers.bearing(f"{made.secret}0"))]
            told.append(repr(refusal(owner.keys.CreateApiKey, CreateApiKeyRequest(api_key=body, request_id="\n"))))
        return [*secrets, "\n".join(told)]

    with ThreadPoolExecutor(len(connections)) as pool:
        answers = list(pool.map(make, range(SECRETS)))
    secrets = [secret for *several, _ in answers for secret in several]
    assert len(set(secrets)) == SECRETS + SECRETS // 10
    forms = [form for secret in secrets for form in _forms(secret)]
    dump = _dump(processes.url)
    # It is a dump of all that there is.
    assert dump.count("INSERT INTO public.api_keys ") >= SECRETS
    assert "INSERT INTO public.idempotency_keys " in dump
    told = "\n".join(texts for *_, texts in answers)
    log = processes.log.read_bytes().decode("latin-1")
    assert _lines(processes)
    assert {what: _found(forms, text) for what, text in {"dump": dump, "told": told, "log": log}.items()} == {
        "dump": [],
        "told": [],
        "log": [],
    }


def _lines(processes: Served) -> list[dict[str, Any]]:
    return processes.service.calls()


def test_no_credential_is_in_the_log(processes: Served, called: Callers, clerk: Clerk) -> None:
    good, pending = clerk.session("user_in_the_log"), clerk.session("user_in_the_log", sts="pending")
    unknown = clerk.session("user_in_the_log", headers={"kid": "ins_to_be_fetched"})
    assert who(called.bearing(good)) == "user_in_the_log"
    for token in (pending, unknown, "nonsense-that-is-no-token", "omf_nonsense_that_is_no_key"):
        knock(called.bearing(token))
    knock(called.sending(("authorization", "Basic bm9uc2Vuc2U6bm9uc2Vuc2U=")))
    knock(called.sending(("authorization", f"Bearer {good}"), ("x-omniflo-user", "clerk:nonsense-of-a-user")))
    knock(called.sending(("x-forwarded-client-cert", "URI=spiffe://nonsense")))
    eventually(lambda: processes.log.read_text().count('"UNAUTHENTICATED"') >= 7, within=SECONDS)
    log = processes.log.read_text()
    words = [
        "nonsense",
        "bm9uc2",
        "Bearer",
        "authorization",
        *good.split("."),
        *pending.split("."),
        *unknown.split("."),
    ]
    # Headers of tokens are no secret, but nobody needs them either.
    assert [word for word in words if word in log] == []


def test_every_call_is_logged_with_its_caller(processes: Served, called: Callers) -> None:
    user = called.user("user_who_is_logged").users.ListUsers(ListUsersRequest()).users[0]
    body = ApiKey(name="A key", scope=ApiKeyScope.API_KEY_SCOPE_READ)
    made = called.user("user_who_is_logged").keys.CreateApiKey(CreateApiKeyRequest(api_key=body))
    person = called.user(PLATFORM_ADMIN).users.ListUsers(ListUsersRequest()).users[0]
    calls: list[tuple[Api, dict[str, str]]] = [
        (called.user("user_who_is_logged"), {"caller": f"user:{user.id}"}),
        (called.bearing(made.secret), {"caller": f"user:{user.id}", "api_key": made.api_key.id}),
        # Also when it is remembered.
        (called.bearing(made.secret), {"caller": f"user:{user.id}", "api_key": made.api_key.id}),
        (called.service(READER), {"caller": f"service:{READER}"}),
        (called.service(WRITER, user=user.id), {"caller": f"service:{WRITER} for user:{user.id}"}),
        (called.service(ADMIN, user="clerk:user_who_is_logged"), {"caller": f"service:{ADMIN} for user:{user.id}"}),
        (called.service(ADMIN, user=person.id), {"caller": f"service:{ADMIN} for user:{person.id}"}),
        (called.nobody(), {"caller": "nobody"}),
        (called.bearing(made.secret[:-1]), {"caller": "nobody"}),
        (called.service(READER, user=user.id), {"caller": "nobody"}),
    ]
    for api, expected in calls:
        before = processes.service.position()
        try:
            api.users.ListUsers(ListUsersRequest(), timeout=SECONDS)
            outcome = {"code": "OK"}
        except grpc.RpcError as error:
            outcome = {"code": error.code().name, "reason": Failure(error).reason}
        (line,) = eventually(lambda since=before: processes.service.calls(since), within=SECONDS)  # type: ignore[misc]
        said = {name: line[name] for name in ("caller", "api_key", "code", "reason") if name in line}
        assert said == expected | outcome
        assert outcome["code"] == ("UNAUTHENTICATED" if expected["caller"] == "nobody" else "OK")
        assert line["method"] == "/omniflo.templates.v1.UserService/ListUsers"


def test_a_refused_call_says_nothing_of_its_request(processes: Served, called: Callers) -> None:
    before = processes.service.position()
    knock(called.nobody())
    request = ProvisionUserRequest(clerk_id="user_never_to_be_read")
    refusal(called.nobody().users.ProvisionUser, request)
    eventually(lambda: len(processes.service.calls(before)) == 2, within=SECONDS)
    assert "never_to_be_read" not in json.dumps(processes.service.calls(before))
