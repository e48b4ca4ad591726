"""Runs at OpenAI, whatever happens to the connection."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.responses import Response
from pydantic import SecretStr

from service import errors
from service.openai_files import Files, content_part
from service.openai_gateway import Gateway, OutcomeUnknownError, Refused
from service.openai_runs import Created, Delta, Ended, Event, Pace, Runs, Usage, _ended, _sequence
from tests.openai_stand_in import KEY, Fault, StandIn
from tests.scale import FAULTY_RUNS

PACE = Pace(silent=30, stop=30, poll=0.01)
HASTY = Pace(silent=0.3, stop=0.3, poll=0.01)
SILENT = {Fault.SILENT, Fault.SILENT_STREAM}
BODY = '{"model": "gpt-5.5", "instructions": "Say it.", "metadata": {"record": "1"}}'
ASKED = [{"type": "input_text", "text": "What?"}]
TEXT = "gpt-5.5 was told: Say it. It was asked: What?"


@pytest.fixture(scope="module")
def openai() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def stand_in(openai: StandIn) -> StandIn:
    openai.reset()
    return openai


@pytest.fixture(scope="module")
def gateway(openai: StandIn) -> Iterator[Gateway]:
    gateway = Gateway(SecretStr(KEY), openai.url)
    yield gateway
    gateway.stop()


@pytest.fixture
def runs(gateway: Gateway) -> Runs:
    return Runs(gateway, PACE)


@pytest.fixture
def stopped() -> threading.Event:
    return threading.Event()


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_a_file_goes_in_and_its_text_comes_out(
    gateway: Gateway, runs: Runs, stand_in: StandIn, stopped: threading.Event
) -> None:
    ids = {name: Files(gateway).upload(name, iter([b"content"])) for name in ("a.pdf", "b.png")}
    schema = (
        '{"type":"object","properties":{"total":{"type":"number"}},"required":["total"],"additionalProperties":false}'
    )
    format = f'{{"type": "json_schema", "name": "answer", "schema": {schema}, "strict": true}}'
    body = f'{BODY[:-1]}, "text": {{"format": {format}}}}}'
    events = list(runs.start(body, [content_part(id, name) for name, id in ids.items()] + ASKED, stopped))
    created, ended = events[0], events[-1]
    assert isinstance(created, Created)
    assert isinstance(ended, Ended)
    assert (ended.status, ended.model, ended.error_code) == ("completed", "gpt-5.5", "")
    assert json.loads(ended.text) == {"total": 0.5}
    assert texts(events) == ended.text
    assert ended.usage is not None
    assert ended.usage._asdict() == stand_in.runs.told_usage()
    (sent,) = stand_in.requests
    assert (sent["background"], sent["store"], sent["stream"]) == (True, True, True)
    assert [part["type"] for part in sent["input"][0]["content"]] == ["input_file", "input_image", "input_text"]
    assert stand_in.runs.counts("record") == {"1": 1}
    assert stand_in.runs.counts_of_files() == dict.fromkeys(ids.values(), 1)


CERTAIN: dict[Fault, tuple[str, float | None]] = {
    Fault.RATE_LIMITED: ("OPENAI_RATE_LIMITED", 7),
    Fault.SERVER_ERROR: ("OPENAI_UNAVAILABLE", 1),
    Fault.UNAUTHORIZED: ("OPENAI_REFUSED", None),
    Fault.NOT_FOUND: ("OPENAI_REFUSED", None),
}


@pytest.mark.parametrize("fault", CERTAIN)
def test_a_run_that_was_refused_has_not_begun(
    fault: Fault, runs: Runs, stand_in: StandIn, stopped: threading.Event
) -> None:
    with stand_in.failing(fault), pytest.raises(errors.Error) as failure:
        next(runs.start(BODY, ASKED, stopped))
    assert (failure.value.reason, failure.value.retry_seconds) == CERTAIN[fault]
    assert not list(stand_in.runs)


def test_a_run_that_reached_nobody_has_not_begun(stopped: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    gateway = Gateway(SecretStr(KEY), f"http://127.0.0.1:{port}/v1")
    with pytest.raises(errors.Unavailable):
        next(Runs(gateway, PACE).start(BODY, ASKED, stopped))
    gateway.stop()


@pytest.mark.parametrize(
    ("fault", "begun"),
    [
        (Fault.SILENT, 0),
        (Fault.CUT, 0),
        (Fault.TRUNCATED, 0),
        (Fault.BROKEN, 0),
        (Fault.LOST, 1),
        (Fault.BAD_GATEWAY, 1),
        (Fault.CUT_STREAM, 1),
        (Fault.SILENT_STREAM, 1),
        (Fault.MUTED_STREAM, 1),
    ],
)
def test_a_run_of_which_nothing_is_heard_may_have_begun_and_is_not_sent_again(
    fault: Fault, begun: int, gateway: Gateway, stand_in: StandIn, stopped: threading.Event
) -> None:
    stand_in.faults.events = 0
    pace = HASTY if fault in SILENT else PACE
    with stand_in.failing(fault), pytest.raises(OutcomeUnknownError):
        next(Runs(gateway, pace).start(BODY, ASKED, stopped))
    assert len(list(stand_in.runs)) == begun
    assert stand_in.calls == {"/v1/responses": 1}


@pytest.mark.parametrize(
    ("fault", "count"),
    [(Fault.CUT_STREAM, 1), (Fault.CUT_STREAM, 2), (Fault.MUTED_STREAM, 1), (Fault.SILENT_STREAM, 6)],
)
def test_a_run_is_followed_over_connections_that_break(
    fault: Fault, count: int, gateway: Gateway, stand_in: StandIn, stopped: threading.Event
) -> None:
    run = Runs(gateway, HASTY if fault in SILENT else PACE).start(BODY, ASKED, stopped)
    stand_in.faults.next.append(fault)
    events = [next(run)]
    stand_in.faults.events = count
    with stand_in.failing(fault):
        events += list(run)
    # One that is only slow may be taken for a silent one, and then be told by its end alone.
    assert texts(events) == TEXT or (fault in SILENT and TEXT.startswith(texts(events)))
    assert isinstance(ended := events[-1], Ended)
    assert (ended.status, ended.text) == ("completed", TEXT)
    assert len(list(stand_in.runs)) == 1


def test_a_run_is_resumed_after_any_of_its_events(runs: Runs, stand_in: StandIn, stopped: threading.Event) -> None:
    created, *rest = runs.start(BODY, ASKED, stopped)
    assert isinstance(created, Created)
    deltas = [event for event in rest if isinstance(event, Delta)]
    assert texts(list(runs.resume(created.response_id, -1, stopped))) == TEXT
    seen: list[Created | Delta] = [created, *deltas]
    for count, event in enumerate(seen):
        later = list(runs.resume(created.response_id, event.sequence, stopped))
        assert later == [*deltas[count:], rest[-1]]
    assert len(list(stand_in.runs)) == 1


def test_a_run_that_is_too_old_to_be_streamed_is_asked_about(
    runs: Runs, stand_in: StandIn, stopped: threading.Event
) -> None:
    stand_in.event_seconds = 0.02
    run = runs.start(BODY, ASKED, stopped)
    created = next(run)
    assert isinstance(created, Created)
    with stand_in.failing(Fault.TOO_OLD, only=f"GET /v1/responses/{created.response_id}?"):
        (ended,) = runs.resume(created.response_id, created.sequence, stopped)
    assert ended == list(run)[-1]


def test_a_run_is_asked_about_again_while_openai_is_away(
    runs: Runs, stand_in: StandIn, stopped: threading.Event
) -> None:
    run = runs.start(BODY, ASKED, stopped)
    events = [next(run)]
    stand_in.faults.only = "GET"
    stand_in.faults.retry_after = "0"
    stand_in.faults.next.extend(
        [Fault.SERVER_ERROR, Fault.LOST, Fault.RATE_LIMITED, Fault.BAD_GATEWAY, Fault.SERVER_ERROR, Fault.CUT]
    )
    assert isinstance(events[0], Created)
    (*_, ended) = runs.resume(events[0].response_id, 0, stopped)
    assert isinstance(ended, Ended)
    assert not stand_in.faults.next


def test_a_run_that_openai_has_no_more_is_given_up(runs: Runs, stand_in: StandIn, stopped: threading.Event) -> None:
    runs.cancel("resp_gone")
    with pytest.raises(Refused) as failure:
        list(runs.resume("resp_gone", -1, stopped))
    assert failure.value.retry_seconds is None
    assert not list(stand_in.runs)


def test_a_run_is_left_from_another_thread_and_goes_on(runs: Runs, stand_in: StandIn, stopped: threading.Event) -> None:
    stand_in.event_seconds = 100
    leaving = Gateway(SecretStr(KEY), stand_in.url)
    run = Runs(leaving, Pace(silent=3600)).start(BODY, ASKED, stopped)
    created = next(run)
    assert isinstance(created, Created)
    threading.Timer(0.05, stopped.set).start()
    assert not list(run)
    # The thread that read from OpenAI has ended as well.
    leaving._threads.shutdown(wait=True)
    leaving.stop()
    (at_openai,) = stand_in.runs
    assert not at_openai.has_ended
    runs.cancel(created.response_id)
    (ended,) = runs.resume(created.response_id, created.sequence, threading.Event())
    assert ended == Ended("cancelled", "", None, "gpt-5.5")
    runs.cancel(created.response_id)


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.SILENT])
def test_a_run_that_was_just_sent_is_waited_for_a_little(
    fault: Fault, gateway: Gateway, stand_in: StandIn, stopped: threading.Event
) -> None:
    stand_in.faults.slow_seconds = 0.2
    stopped.set()
    with stand_in.failing(fault):
        if fault is Fault.SLOW:
            (created,) = Runs(gateway, PACE).start(BODY, ASKED, stopped)
            assert isinstance(created, Created)
        else:
            with pytest.raises(OutcomeUnknownError):
                list(Runs(gateway, HASTY).start(BODY, ASKED, stopped))


@pytest.mark.parametrize(
    ("fault", "status", "code", "message"),
    [
        (Fault.FAILED, "failed", "server_error", "OpenAI failed at: gpt-5.5 was told: Sa"),
        (Fault.INCOMPLETE, "incomplete", "max_output_tokens", ""),
    ],
)
def test_a_run_that_is_not_completed_says_why(
    fault: Fault, status: str, code: str, message: str, runs: Runs, stand_in: StandIn, stopped: threading.Event
) -> None:
    with stand_in.failing(fault):
        (*_, ended) = runs.start(BODY, ASKED, stopped)
    assert isinstance(ended, Ended)
    assert (ended.status, ended.error_code, ended.error_message) == (status, code, message)
    assert ended.usage is not None
    assert ended.usage._asdict() == stand_in.runs.told_usage()


def part(**members: Any) -> SimpleNamespace:
    return SimpleNamespace(**members)


@pytest.mark.parametrize(
    ("output", "usage", "expected"),
    [
        (
            [part(type="message", content=[part(type="refusal", refusal="I cannot.")])],
            None,
            Ended("completed", "", None, "m", "refusal", "I cannot."),
        ),
        (
            [part(type="reasoning"), part(type="function_call", name="look_up")],
            part(input_tokens=3, output_tokens=None, input_tokens_details={}, output_tokens_details=None),
            Ended("completed", "", Usage(3, 0, 0, 0), "m", "function_call", "look_up"),
        ),
        (
            [part(type="message", content=[part(type="output_text", text="half \ud800"), part(type="output_text")])],
            part(input_tokens=-1, output_tokens="2"),
            Ended("completed", "half ?", Usage(0, 0, 0, 0), "m"),
        ),
        (None, None, Ended("completed", "", None, "m")),
    ],
)
def test_an_answer_may_have_anything_in_it(output: Any, usage: Any, expected: Ended) -> None:
    assert _ended(part(status="completed", model="m", output=output, usage=usage)) == expected
    assert _ended(part(status="odd", output=output)) is None


CHANCES = dict.fromkeys(Fault, 0.03) | dict.fromkeys(
    # The same for who asks, or an answer that would be the same the next time.
    (
        *(Fault.DRIPPING, Fault.REDIRECT),
        *(Fault.UNAUTHORIZED, Fault.FORBIDDEN, Fault.NOT_FOUND, Fault.GONE, Fault.TOO_OLD),
    ),
    0.0,
)


@pytest.mark.soak
def test_no_run_is_sent_twice_and_none_that_began_is_lost(gateway: Gateway, stand_in: StandIn) -> None:
    stand_in.faults.events = None
    stand_in.faults.retry_after = "0"
    stand_in.faults.slow_seconds = stand_in.faults.silent_seconds = 0.2
    # The stand-in is silent for a moment only before it cuts. On a slow machine, it may be silent for seconds at work.
    files, runs = Files(gateway), Runs(gateway, PACE)

    def run(number: int) -> Event | str:
        """Return how a run has ended, or what is known of it."""
        # Not "1": what the tests before this have sent and left may reach the stand-in only now.
        body = BODY.replace('"1"', f'"of many {number}"')
        try:
            id = files.upload("a.csv", iter([b"content"] * number))
        except errors.Error:
            return "refused"
        try:
            (*_, ended) = runs.start(body, [content_part(id, "a.csv")], threading.Event())
        except errors.Error:
            return "refused"
        except OutcomeUnknownError:
            return "unknown"
        return ended

    # Of these there may be none by chance.
    outcomes: dict[int, Event | str] = {}
    for number, fault in enumerate((Fault.LOST, Fault.SERVER_ERROR), FAULTY_RUNS + 1):
        with stand_in.failing(fault, only="POST /v1/responses"):
            outcomes[number] = run(number)
    assert list(outcomes.values()) == ["unknown", "refused"]
    stand_in.faults.by_chance(17, CHANCES)
    with ThreadPoolExecutor(8) as threads:
        outcomes |= enumerate(threads.map(run, range(1, FAULTY_RUNS + 1)), 1)
    at_openai = {run.metadata["record"]: _ended(Response.model_validate(run.response())) for run in stand_in.runs}
    counts = stand_in.runs.counts("record")
    assert {counts[record] for record in at_openai if record != "1"} == {1}
    for number, outcome in outcomes.items():
        match outcome:
            case "refused":
                assert f"of many {number}" not in at_openai
            case Ended():
                assert outcome == at_openai[f"of many {number}"]
            case _:
                assert outcome == "unknown"


class Endless(BaseHTTPRequestHandler):
    """Streams events that say nothing, for as long as somebody reads them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(OSError):
            for number in range(10_000):
                told = json.dumps({"type": "response.in_progress", "sequence_number": number})
                self.wfile.write(f"event: response.in_progress\ndata: {told}\n\n".encode())
                time.sleep(0.02)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


@pytest.fixture
def endless() -> Iterator[Runs]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    gateway = Gateway(SecretStr(KEY), f"http://127.0.0.1:{server.server_port}/v1")
    yield Runs(gateway, PACE._replace(longest=0.5))
    gateway.stop()
    server.shutdown()
    server.server_close()
    serving.join()


def test_a_run_that_goes_on_for_ever_is_given_up_while_it_is_streamed(endless: Runs, stopped: threading.Event) -> None:
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        list(endless.resume("resp_1", -1, stopped))
    with pytest.raises(OutcomeUnknownError):
        list(endless.start(BODY, ASKED, stopped))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("number", [-1, 2**63, "1", None])
def test_a_number_of_an_event_that_none_can_have_is_the_next_one(number: object) -> None:
    assert _sequence(SimpleNamespace(sequence_number=number), 6) == 7
