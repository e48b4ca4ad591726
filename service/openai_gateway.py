"""Requests to OpenAI: what all of them share, and the questions about its models."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

import structlog

from service import deadline, errors, traces
from service.openai_wires import MOST_BYTES, Asked, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai
    from pydantic import SecretStr

T = TypeVar("T")

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
TRIES = 3
BACKOFF_SECONDS = 0.25
MARGIN_SECONDS = 0.2
"""How much of the caller's time is kept for the response."""
MAX_RETRY_SECONDS = 3600.0
THREADS = 160
"""More than a process has runs and uploads at once, 64 of each: questions find one, too. Only those needed are made."""

MOST_LIST_BYTES = 4 * 2**20
"""Of the list of all models: OpenAI's has some kilobytes, and that of a proxy with prose for each model has more."""

DEFAULT_BASE_URL = "https://api.openai.com/v1"

OF_PROXIES = frozenset({502, 504, *range(520, 528)})
"""What a proxy says that has heard nothing of OpenAI's, or only half of it: 520 and later are Cloudflare's."""

EXAMPLES = 3
EXAMPLE_LENGTH = 64
"""How much is logged of what is odd in a response."""

_log = structlog.get_logger()

Oddity = tuple[Literal["id", "shutdown_date"], object]
"""What is not as it should be in a listed model, and its value."""


class ListedModel(NamedTuple):
    """A model as OpenAI lists it."""

    openai_id: str
    owned_by: str
    shutdown_date: date | None


class Refused(errors.FailedPrecondition):
    """OpenAI refuses a request, and would again."""

    def __init__(self, metadata: dict[str, str], said: str) -> None:
        super().__init__("OPENAI_REFUSED", "OpenAI refuses this request", metadata)
        self.said = said
        """Why, in OpenAI's words. They may have what the caller sent: for the caller alone, and not for the log."""


class OutcomeUnknownError(Exception):
    """A request was sent, and OpenAI may have done what it asks for, or may still do it."""

    def __init__(self, retry_seconds: float | None = None) -> None:
        super().__init__()
        self.retry_seconds = retry_seconds
        """For how long it wants not to be asked, as far as it has said so."""


class Gateway:
    """Asks OpenAI, within the caller's deadline, and raises its failures as errors of this service."""

    def __init__(self, api_key: SecretStr | None, base_url: str | None) -> None:
        self._api_key = api_key
        self._base_url = base_url or DEFAULT_BASE_URL
        self._lock = threading.Lock()
        self._clients: tuple[openai.OpenAI, openai.OpenAI] | None = None
        """For questions, and for what is sent once."""
        # Questions are asked by threads of their own: nothing in the SDK or below it bounds looking a host up, or an
        # answer that comes in drops.
        self._threads = ThreadPoolExecutor(THREADS, "openai")
        self.odd: Counter[str] = Counter()
        """How many listed models were left out for their id, or lost their shutdown_date."""

    def models(self) -> list[ListedModel]:
        """Return all models that OpenAI serves to this key, by openai_id."""
        odd: list[Oddity] = []
        found: dict[str, ListedModel] = {}
        for entry in self.ask(_list, most=MOST_LIST_BYTES):
            model = _model(entry, odd)
            if model is not None:
                found.setdefault(model.openai_id, model)
        self._note(odd)
        return [found[openai_id] for openai_id in sorted(found)]

    def model(self, openai_id: str) -> ListedModel:
        """Return one model, or raise OPENAI_MODEL_NOT_FOUND."""
        # Such parts of a path lead elsewhere, here or at a proxy that decodes them.
        if {"", ".", ".."} & set(openai_id.split("/")):
            raise _not_found({"openai_id": openai_id})
        odd: list[Oddity] = []
        refusal = partial(_refusal_of_model, openai_id)
        model = _model(self.ask(lambda client, options: client.models.retrieve(openai_id, **options), refusal), odd)
        self._note(odd)
        if model is None:
            raise unavailable()
        return model

    def require_key(self) -> SecretStr:
        """Return the key, or raise OPENAI_NOT_CONFIGURED."""
        if self._api_key is None:
            raise errors.FailedPrecondition(
                "OPENAI_NOT_CONFIGURED",
                "this service has no key for OpenAI; set OPENAI_API_KEY",
                {"variable": "OPENAI_API_KEY"},
            )
        return self._api_key

    def start(self) -> None:
        """Do nothing: it connects at the first question."""

    def stop(self) -> None:
        """Give up what is being asked, and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients or ():
                client.close()

    def _note(self, odd: list[Oddity]) -> None:
        """Count and log what is odd in one response."""
        if odd:
            count = Counter(part for part, _ in odd)
            with self._lock:
                self.odd.update(count)
            examples = [ascii(value)[:EXAMPLE_LENGTH] for _, value in odd[:EXAMPLES]]
            _log.warning("odd models of OpenAI", count=dict(count), examples=examples)

    def submit(self, work: Callable[[openai.OpenAI], T]) -> Asked[T]:
        """Begin something that is not asked again, on a thread of the gateway's. Who stops to wait gives it up.

        It fails with an `errors.Error` if OpenAI has certainly not done it, else with OutcomeUnknownError.
        """
        return self._begin(partial(_attempt, work, self._open()[1]), MOST_BYTES)

    def ask(
        self,
        question: Callable[[openai.OpenAI, dict[str, Any]], T],
        refusal: Callable[[openai.APIStatusError], errors.Error] | None = None,
        most: int = MOST_BYTES,
    ) -> T:
        """Ask, and again after a jittered pause when OpenAI fails or cannot be reached, and there is time.

        An answer of more than `most` bytes is none.
        """
        import openai  # noqa: PLC0415 - a second and 40 MB, which a server that is never asked for it does without

        client, _ = self._open()
        longest = TRIES * (CONNECT_SECONDS + READ_SECONDS)
        give_up = time.monotonic() + min(deadline.remaining() - MARGIN_SECONDS, longest)
        for attempt in range(TRIES):
            least = 0.0
            left = max(0.0, give_up - time.monotonic())
            timeout = openai.Timeout(min(READ_SECONDS, left), connect=min(CONNECT_SECONDS, left))
            try:
                asked = self._begin(partial(question, client, {"timeout": timeout}), most)
                try:
                    return asked.result(left)
                finally:
                    asked.give_up()
            except openai.APIStatusError as error:
                failure = (refusal or refusal_of)(error)
                is_fault = error.status_code >= 500  # noqa: PLR2004 - their faults
                if (header := error.response.headers.get("retry-after")) is not None:
                    least = _retry_after(header)
            except (openai.APIConnectionError, TimeoutError):
                # No response, or one that is cut short.
                failure, is_fault = unavailable(), True
            except (openai.OpenAIError, ValueError, TypeError, AttributeError, RecursionError):
                # An invalid one, which will be the same the next time.
                failure, is_fault = unavailable(), False
            pause = BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            # Who is to wait for longer is told so.
            if not is_fault or attempt == TRIES - 1 or pause < least or time.monotonic() + pause >= give_up:
                raise failure
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _begin(self, work: Callable[[], T], most: int) -> Asked[T]:
        wire = Wire(most)
        return Asked(self._threads.submit(wire.run, traces.carried(work)), wire)

    def _open(self) -> tuple[openai.OpenAI, openai.OpenAI]:
        key = self.require_key()
        with self._lock:
            if self._clients is None:
                # What is not sent again gets a connection of its own: OpenAI may be closing one that was used before.
                self._clients = self._new(key, idle=20), self._new(key, idle=0)
            return self._clients

    def _new(self, key: SecretStr, idle: int) -> openai.OpenAI:
        """Return a client that keeps so many connections for later."""
        import httpx2  # noqa: PLC0415 - the SDK's own
        import openai  # noqa: PLC0415 - as above

        from service.openai_client import Client  # noqa: PLC0415 - as above

        return openai.OpenAI(
            api_key=key.get_secret_value(),
            base_url=self._base_url,
            # Its own retries sleep for as long as a Retry-After says, whatever the deadline.
            max_retries=0,
            # The key goes to this host and to no other.
            http_client=Client(
                follow_redirects=False, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=idle)
            ),
        )


def _list(client: openai.OpenAI, options: dict[str, Any]) -> list[object]:
    # As JSON: building the SDK's models of two megabytes of `{}` takes 15 seconds and 500 MB.
    told = client.get("/models", cast_to=object, options=cast("Any", options))
    entries = told.get("data") if isinstance(told, dict) else None
    if not isinstance(entries, list):
        raise TypeError("no list")
    return entries


def _model(entry: object, odd: list[Oddity]) -> ListedModel | None:
    """Check a model, in JSON or as the SDK builds one of whatever came; None when it has no id for a template to name.

    What is odd is added to `odd`. A day that cannot be read is as good as none.
    """
    openai_id = _member(entry, "id")
    if not isinstance(openai_id, str) or re.fullmatch(r"[!-~]{1,128}", openai_id) is None:
        odd.append(("id", openai_id))
        return None
    day = _member(entry, "shutdown_date")
    try:
        ends = None if day is None else _day(day)
    except ValueError:
        odd.append(("shutdown_date", day))
        ends = None
    owner = _member(entry, "owned_by")
    # JSON may hold half of a surrogate pair, which no message can.
    text = owner[:256].encode(errors="replace").decode() if isinstance(owner, str) else ""
    return ListedModel(openai_id, text, ends)


def _day(text: object) -> date:
    """Read `YYYY-MM-DD`, which a time may follow; ValueError when it is none."""
    if not isinstance(text, str) or re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T.*)?", text) is None:
        raise ValueError("no day")
    return date.fromisoformat(text[:10])


def _attempt(work: Callable[[openai.OpenAI], T], client: openai.OpenAI) -> T:
    import httpx2  # noqa: PLC0415 - the SDK's own
    import openai  # noqa: PLC0415 - as above

    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
    try:
        return work(client)
    except openai.APIStatusError as error:
        if error.status_code in OF_PROXIES:
            raise OutcomeUnknownError(refusal_of(error).retry_seconds) from None
        raise refusal_of(error) from None
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, unsent):
            raise unavailable() from None
        raise OutcomeUnknownError from None
    except (openai.OpenAIError, httpx2.HTTPError, ValueError, TypeError, AttributeError, RecursionError):
        # No valid response, or one that breaks off.
        raise OutcomeUnknownError from None


def refusal_of(error: openai.APIStatusError) -> errors.Error:
    """Return what a response with this status means for who asked; `retry_seconds` is None if it would be the same."""
    metadata = {
        name: text
        for name, text in (("openai_code", error.code), ("openai_request_id", error.request_id))
        # Of their text, what looks like a code or an id.
        if isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", text)
    }
    wait = _retry_after(error.response.headers.get("retry-after"))
    match error.status_code:
        case 401 | 403:
            return errors.FailedPrecondition("OPENAI_REFUSED", "OpenAI refuses the key of this service", metadata)
        case 429:
            return errors.ResourceExhausted(
                "OPENAI_RATE_LIMITED", "OpenAI's rate limit is reached", metadata, retry_seconds=wait
            )
        case 408 | 409 | 425:
            return unavailable(metadata, wait)
        case status if 400 <= status < 500:  # noqa: PLR2004 - our faults
            return Refused(metadata, text_of(error.body, "message"))
        case _:
            return unavailable(metadata, wait)


def text_of(told: object, name: str, length: int = 512) -> str:
    """Return a text that OpenAI gave, by its name in an object: cut, and valid, which JSON's need not be."""
    value = _member(told, name)
    return value[:length].encode(errors="replace").decode() if isinstance(value, str) else ""


def _member(told: object, name: str) -> object:
    return told.get(name) if isinstance(told, dict) else getattr(told, name, None)


def unavailable(metadata: dict[str, str] | None = None, retry_seconds: float | None = None) -> errors.Unavailable:
    return errors.Unavailable(
        "OPENAI_UNAVAILABLE", "OpenAI failed, or sent an invalid response", metadata, retry_seconds=retry_seconds
    )


def _refusal_of_model(openai_id: str, error: openai.APIStatusError) -> errors.Error:
    refusal = refusal_of(error)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _not_found({**refusal.metadata, "openai_id": openai_id})
    return refusal


def _not_found(metadata: dict[str, str]) -> errors.NotFound:
    return errors.NotFound("OPENAI_MODEL_NOT_FOUND", "OpenAI has no such model", metadata)


def _retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After, which is a number or a date; 1 when there is none to be read."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header or "") - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            seconds = 1.0
    return min(max(seconds, 0.0), MAX_RETRY_SECONDS) if seconds == seconds else 1.0  # noqa: PLR0124 - NaN
