"""Runs at OpenAI: each is started once, goes on without us, and is followed to its end."""

from __future__ import annotations

import json
import random
import re
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

from service import errors
from service.openai_gateway import Gateway, OutcomeUnknownError, Refused, text_of, unavailable
from service.openai_streams import read

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Iterator, Sequence

    import openai

CONNECT_SECONDS = 5.0
MISSES = 2
"""How many connections in a row may tell nothing, before it asks what has become of the run."""
MOST_CHARACTERS = 8 * 2**20
"""Of a text; it is far more than any model writes."""
MOST_TOKENS = 2**31
MOST_EVENTS = 2**62
"""Of a run; the database takes no larger number."""


class Pace(NamedTuple):
    """How long it waits, in seconds."""

    silent: float = 60.0
    """For the next event, before it asks what has become of the run."""
    stop: float = 2.0
    """For the id of a run that was sent when it is stopped: without, nobody can know what became of it."""
    poll: float = 2.0
    """Between two questions about a run that cannot be streamed any more."""
    longest: float = 3600.0
    """For a run to end."""


class Created(NamedTuple):
    """OpenAI has the run, and does it whatever happens to the connection."""

    sequence: int
    response_id: str


class Delta(NamedTuple):
    """A piece of the text."""

    sequence: int
    text: str


class Usage(NamedTuple):
    """Tokens. Cached ones are part of the input, those of the reasoning part of the output."""

    input: int
    cached: int
    output: int
    reasoning: int


Status = Literal["completed", "failed", "incomplete", "cancelled"]


class Ended(NamedTuple):
    """The run is over."""

    status: Status
    text: str
    """All of it."""
    usage: Usage | None
    model: str
    error_code: str = ""
    """Why it is not completed, as OpenAI spells it; `refusal` for a run in which the model refuses to answer."""
    error_message: str = ""
    """The same for people. It may have what the caller sent."""


Event = Created | Delta | Ended

Outcome = Literal["over", "cut", "refused"]
"""Of one connection."""


class Runs:
    """Starts runs at OpenAI, follows and cancels them. Nothing of them is kept here."""

    def __init__(self, gateway: Gateway, pace: Pace | None = None) -> None:
        self._gateway = gateway
        self._pace = pace or Pace()

    def start(self, body: str, content: Sequence[dict[str, Any]], stopped: threading.Event) -> Iterator[Event]:
        """Send a run, once, and follow it. `body` is a rendered template, `content` the parts of the user's message.

        Before Created, it fails with an `errors.Error` if OpenAI has certainly not begun, which has `retry_seconds` if
        waiting helps, and with OutcomeUnknownError if it may have. From Created on, it does what `resume` does.
        """
        members = {"input": [{"role": "user", "content": content}], "background": True, "store": True, "stream": True}
        # The schemas in the body stay as they are written.
        request = f"{body[:-1]}, {json.dumps(members)[1:]}".encode()
        silent, give_up = self._pace.silent, time.monotonic() + self._pace.longest
        reading = read(self._gateway, lambda client: _post(client, request, silent), stopped, silent, self._pace.stop)
        with closing(reading):
            try:
                created = next((told for told in reading if _is_created(told) or time.monotonic() >= give_up), None)
            except TimeoutError:
                created = None
            if not _is_created(created):
                raise OutcomeUnknownError
            event = Created(_sequence(created, -1), _id(getattr(created, "response", None)))
            yield event
            yield from self._follow(event.response_id, event.sequence, stopped, reading)

    def resume(self, response_id: str, after: int, stopped: threading.Event) -> Iterator[Event]:
        """Follow a run from the event after this sequence number on, or from the first after -1, until it has ended.

        A connection that breaks or falls silent is made anew. It ends without Ended when `stopped` is set, and fails
        with an `errors.Error`, without `retry_seconds` if OpenAI does not have the run any more.
        """
        return self._follow(response_id, after, stopped, None)

    def cancel(self, response_id: str) -> None:
        """Have a run end; one that has ended, or is not there any more, stays as it is. Who follows it is told."""
        self._gateway.ask(lambda client, options: _cancel(client, response_id, options))

    def _follow(
        self, response_id: str, after: int, stopped: threading.Event, reading: Generator[object] | None
    ) -> Iterator[Event]:
        give_up = time.monotonic() + self._pace.longest
        outcome: Outcome = "cut"
        misses = 0
        while not stopped.is_set():
            if time.monotonic() >= give_up:
                raise unavailable()
            # OpenAI streams a run for five minutes; it can be asked about for longer.
            if outcome != "refused":
                reading = reading or self._read_on(response_id, after, stopped)
                before = after
                after, outcome = yield from _tell(reading, before, give_up)
                reading = None
                if outcome == "over":
                    return
                misses = 0 if after > before else misses + 1
                if misses < MISSES:
                    continue
            pause = self._pace.poll * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            try:
                ended = None if stopped.is_set() else self._look(response_id)
            except errors.Error as error:
                if error.retry_seconds is None:
                    raise
                ended, pause = None, max(pause, error.retry_seconds)
            if ended is not None:
                yield ended
                return
            stopped.wait(pause)

    def _look(self, response_id: str) -> Ended | None:
        return _ended(self._gateway.ask(lambda client, options: client.responses.retrieve(response_id, **options)))

    def _read_on(self, response_id: str, after: int, stopped: threading.Event) -> Generator[object]:
        silent = self._pace.silent
        return read(self._gateway, lambda client: _get(client, response_id, after, silent), stopped, silent)


def _tell(reading: Generator[object], after: int, give_up: float) -> Generator[Event, None, tuple[int, Outcome]]:
    """Yield the events of one connection until then; return the number of the last one, and how it ended."""
    try:
        with closing(reading):
            for told in reading:
                if time.monotonic() >= give_up:
                    break
                sequence = _sequence(told, after)
                # Some servers begin anew, whatever they are asked for.
                if sequence <= after:
                    continue
                after = sequence
                event = _event(told, sequence)
                if event is not None:
                    yield event
                if isinstance(event, Ended):
                    return after, "over"
    except Refused:
        return after, "refused"
    except (errors.Error, OutcomeUnknownError, TimeoutError):
        # What has become of the run is asked next.
        pass
    return after, "cut"


def _post(client: openai.OpenAI, request: bytes, silent: float) -> openai.Stream[Any]:
    import openai  # noqa: PLC0415 - the gateway has, by now
    from openai.types.responses import Response, ResponseStreamEvent  # noqa: PLC0415 - as above

    return client.post(
        "/responses",
        content=request,
        cast_to=Response,
        options={"headers": {"Content-Type": "application/json"}, "timeout": _timeout(silent)},
        stream=True,
        stream_cls=openai.Stream[ResponseStreamEvent],
    )


def _get(client: openai.OpenAI, response_id: str, after: int, silent: float) -> openai.Stream[Any]:
    import openai  # noqa: PLC0415 - as above

    return client.responses.retrieve(
        response_id, stream=True, starting_after=openai.omit if after < 0 else after, timeout=_timeout(silent)
    )


def _cancel(client: openai.OpenAI, response_id: str, options: dict[str, Any]) -> None:
    import openai  # noqa: PLC0415 - as above

    with suppress(openai.NotFoundError):
        client.responses.cancel(response_id, **options)


def _timeout(silent: float) -> openai.Timeout:
    import openai  # noqa: PLC0415 - as above

    return openai.Timeout(silent, connect=CONNECT_SECONDS)


def _type(told: object) -> object:
    return getattr(told, "type", None)


def _is_created(told: object) -> bool:
    return _type(told) == "response.created"


def _sequence(told: object, before: int) -> int:
    sequence = getattr(told, "sequence_number", None)
    return sequence if isinstance(sequence, int) and 0 <= sequence < MOST_EVENTS else before + 1


def _id(response: object) -> str:
    id = getattr(response, "id", None)
    if not isinstance(id, str) or re.fullmatch(r"[A-Za-z0-9_-]{1,128}", id) is None:
        raise OutcomeUnknownError
    return id


def _event(told: object, sequence: int) -> Event | None:
    match _type(told):
        case "response.output_text.delta":
            return Delta(sequence, text_of(told, "delta", MOST_CHARACTERS))
        case "response.completed" | "response.failed" | "response.incomplete" | "response.cancelled":
            return _ended(getattr(told, "response", None))
        case _:
            return None


def _ended(response: object) -> Ended | None:
    """Return how a run ended, from the SDK's object, which may have anything in it; None while it goes on."""
    status = getattr(response, "status", None)
    if status not in get_args(Status):
        return None
    items = _list(response, "output")
    parts = [part for item in items if _type(item) == "message" for part in _list(item, "content")]
    text = "".join(text_of(part, "text", MOST_CHARACTERS) for part in parts if _type(part) == "output_text")
    code, message = _why(response, items, parts)
    return Ended(cast("Status", status), text, _usage(response), text_of(response, "model", 128), code, message)


def _why(response: object, items: list[object], parts: list[object]) -> tuple[str, str]:
    """Return the code and the message of what is wrong with an answer, both empty if nothing is."""
    error = getattr(response, "error", None)
    if error is not None:
        return text_of(error, "code", 128), text_of(error, "message")
    incomplete = text_of(getattr(response, "incomplete_details", None), "reason", 128)
    if incomplete:
        return incomplete, ""
    for part in parts:
        if _type(part) == "refusal":
            return "refusal", text_of(part, "refusal")
    for item in items:
        if _type(item) == "function_call":
            return "function_call", text_of(item, "name", 128)
    return "", ""


def _usage(response: object) -> Usage | None:
    usage = getattr(response, "usage", None)
    if usage is None:
        return None
    cached = _count(getattr(usage, "input_tokens_details", None), "cached_tokens")
    reasoning = _count(getattr(usage, "output_tokens_details", None), "reasoning_tokens")
    return Usage(_count(usage, "input_tokens"), cached, _count(usage, "output_tokens"), reasoning)


def _count(of: object, name: str) -> int:
    value = getattr(of, name, None)
    return value if isinstance(value, int) and 0 <= value < MOST_TOKENS else 0


def _list(of: object, name: str) -> list[object]:
    value = getattr(of, name, None)
    return value if isinstance(value, list) else []
