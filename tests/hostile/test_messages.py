"""Messages that do not come, come late, or are too large, and responses that nobody reads: one call of each."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import grpc
import pytest

from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from service.server.wiring import MAX_WAITING
from tests.conftest import Database, Failure
from tests.e2e.serving import Service, eventually, key, serving
from tests.hostile.raw import GET, UPDATE, Raw

RECEIVE_SECONDS = 2


class World:
    """A service, and the key of a caller."""

    def __init__(self, service: Service, key: str) -> None:
        self.service, self.address = service, service.address
        self.auth = ("authorization", f"Bearer {key}")


@pytest.fixture(scope="module")
def world(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    url, log = new_database(), tmp_path_factory.mktemp("serving") / "log"
    with serving(url, log, auth="required", receive_seconds=RECEIVE_SECONDS) as service:
        caller = key(url, "user_caller", "read")
        with closing(Database(url)) as database:
            database.query("insert into template_types (id, name) values ('kind', 'kind')")
            database.query("insert into openai_models (id, openai_id, name) values ('gpt', 'gpt', 'GPT')")
            database.query(
                "insert into templates (id, title, instructions, user_id, template_type_id, model_id)"
                " select 'large', 'A title', %s, id, 'kind', 'gpt' from users where clerk_id = 'user_caller'",
                ("\U0001f680" * 256_000,),
            )
        yield World(service, caller)


def test_a_call_without_a_message_is_ended_and_logged(world: World) -> None:
    since = world.service.position()
    raw = Raw(world.address)
    stream = raw.open(GET, world.auth)
    start = time.monotonic()
    assert raw.wait_until_ended(stream, RECEIVE_SECONDS + 3)
    assert time.monotonic() - start > RECEIVE_SECONDS - 0.5
    raw.close()
    (line,) = eventually(lambda: world.service.calls(since), within=5)
    assert (line["code"], line["reason"]) == ("CANCELLED", "MESSAGE_LATE")


def test_a_stranger_is_rejected_before_the_message_is_asked_for(world: World) -> None:
    raw = Raw(world.address)
    stream = raw.open(UPDATE)
    assert raw.wait_until_ended(stream, RECEIVE_SECONDS / 2)
    raw.close()


def test_a_request_that_is_too_large_for_its_method_is_an_error_with_the_limit(world: World) -> None:
    with grpc.insecure_channel(world.address) as channel, pytest.raises(grpc.RpcError) as caught:
        TemplateServiceStub(channel).GetTemplate(GetTemplateRequest(id="x" * 100_000), metadata=(world.auth,))
    failure = Failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    assert 10_000 < int(failure.metadata["limit"]) < 100_000


def test_the_oldest_of_too_many_calls_without_a_message_is_ended(world: World) -> None:
    with closing(Raw(world.address)) as raw:
        streams = [raw.open(GET, world.auth) for _ in range(MAX_WAITING + 10)]
        assert raw.wait_until_ended(streams[0], RECEIVE_SECONDS / 2)
        assert streams[-1] not in raw.ended


def test_a_response_that_is_not_read_is_ended(world: World) -> None:
    with closing(Raw(world.address, window=0)) as raw:
        stream = raw.open(GET, world.auth)
        raw.send(stream, GetTemplateRequest(id="large").SerializeToString())
        assert raw.wait_until_ended(stream, RECEIVE_SECONDS + 3)


def test_what_is_no_message_is_an_error(world: World) -> None:
    with closing(Raw(world.address)) as raw:
        stream = raw.open(GET, world.auth)
        raw.send(stream, b"\xff")
        assert raw.wait_until_ended(stream, RECEIVE_SECONDS / 2)
