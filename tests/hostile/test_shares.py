"""One caller that asks for more than its share: others find connections and threads."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

import grpc
import psycopg2
import pytest

from omniflo.templates.v1.template_service_pb2 import ListTemplatesRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from omniflo.templates.v1.template_type_service_pb2 import ListTemplateTypesRequest
from omniflo.templates.v1.template_type_service_pb2_grpc import TemplateTypeServiceStub
from service import errors
from service.deadline import time_limit
from service.interceptors.shares import MAX_WAITING, Shares
from tests.conftest import Failure
from tests.e2e.serving import Service, eventually, key, serving
from tests.hostile.raw import GET, connections


def test_a_caller_has_its_share_and_some_calls_that_wait() -> None:
    shares = Shares(2)
    taken = [shares.take("a") for _ in range(2)]
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(shares.take, "a") for _ in range(MAX_WAITING)]
        eventually(lambda: shares._callers["a"].calls == 2 + MAX_WAITING, within=5)
        with pytest.raises(errors.ResourceExhausted):
            shares.take("a")
        # Others have theirs.
        shares.give("b", shares.take("b"))
        for caller in taken:
            shares.give("a", caller)
        for future in as_completed(waiting, 5):
            shares.give("a", future.result())
    assert not shares._callers


def test_callers_with_many_calls_leave_room_for_others() -> None:
    shares = Shares(2)

    def take(name: str) -> str:
        try:
            with time_limit(2):
                shares.give(name, shares.take(name))
        except errors.Error as error:
            return error.reason
        return ""

    held = [(name, shares.take(name)) for name in "abc" for _ in range(2)]
    with ThreadPoolExecutor(3 * MAX_WAITING) as pool:
        waiting = {name: [pool.submit(take, name) for _ in range(MAX_WAITING)] for name in "abc"}
        eventually(lambda: sum(future.done() for futures in waiting.values() for future in futures) > 0, within=5)
        calls = sum(caller.calls for caller in shares._callers.values())
        # A newcomer has its share, and may have some calls that wait.
        assert calls + 2 < shares.room
        for name, caller in held:
            shares.give(name, caller)
    reasons = {name: [future.result() for future in futures] for name, futures in waiting.items()}
    for name in "abc":
        assert reasons[name].count("") >= MAX_WAITING // 4, name
    assert {reason for of_one in reasons.values() for reason in of_one} == {"", "OVERLOADED"}
    assert not shares._callers


def test_a_call_waits_for_its_share_until_its_deadline() -> None:
    shares = Shares(1)
    caller = shares.take("a")
    with time_limit(0.05), pytest.raises(errors.DeadlineExceeded):
        shares.take("a")
    shares.give("a", caller)
    assert not shares._callers


@pytest.fixture
def service(new_database: Callable[[], str], tmp_path: Path) -> Iterator[tuple[Service, str]]:
    url = new_database()
    with serving(url, tmp_path / "log", auth="required", threads=4, cache_mb=0) as service:
        yield service, url


def test_calls_of_one_key_that_all_wait_for_the_database_leave_others_their_connections(
    service: tuple[Service, str],
) -> None:
    running, url = service
    greedy, other = (("authorization", f"Bearer {key(url, user, 'read')}") for user in ("user_a", "user_b"))
    with ExitStack() as stack:
        holder = psycopg2.connect(url)
        stack.callback(holder.close)
        holder.cursor().execute("lock table templates")
        channel = stack.enter_context(grpc.insecure_channel(running.address))
        # Calls that wait for their message, beside those that wait for their share.
        (stranger,) = stack.enter_context(connections(running.address, 1))
        for _ in range(60):
            stranger.open(GET, greedy)
        find = TemplateServiceStub(channel).ListTemplates
        calls = [find.future(ListTemplatesRequest(), timeout=20, metadata=(greedy,)) for _ in range(90)]
        rejected = threading.Event()
        for call in calls:
            call.add_done_callback(lambda _: rejected.set())
        assert rejected.wait(10)
        # With another table, it waits for a connection only.
        TemplateTypeServiceStub(channel).ListTemplateTypes(ListTemplateTypesRequest(), timeout=5, metadata=(other,))
        holder.rollback()
        faults = [fault for call in calls if isinstance(fault := call.exception(), grpc.RpcError)]
        assert {Failure(fault).reason for fault in faults} == {"OVERLOADED"}
