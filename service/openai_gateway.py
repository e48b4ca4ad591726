"""Requests to OpenAI. The only module that imports its SDK."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import structlog

from service import deadline, errors

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

DEFAULT_BASE_URL = "https://api.openai.com/v1"

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


class Gateway:
    """Asks OpenAI, within the caller's deadline, and raises its failures as errors of this service."""

    def __init__(self, api_key: SecretStr | None, base_url: str | None) -> None:
        self._api_key = api_key
        self._base_url = base_url or DEFAULT_BASE_URL
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None
        # Questions are asked by threads of their own: nothing in the SDK or below it bounds looking a host up, or an
        # answer that comes in drops.
        self._threads = ThreadPoolExecutor(32, "openai")
        self.odd: Counter[str] = Counter()
        """How many listed models were left out for their id, or lost their shutdown_date."""

    def models(self) -> list[ListedModel]:
        """Return all models that OpenAI serves to this key, by openai_id."""
        odd: list[Oddity] = []
        found: dict[str, ListedModel] = {}
        for entry in self._ask(lambda client, options: list(client.models.list(**options).data)):
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
        model = _model(self._ask(lambda client, options: client.models.retrieve(openai_id, **options), openai_id), odd)
        self._note(odd)
        if model is None:
            raise _unavailable({})
        return model

    def start(self) -> None:
        """Do nothing: it connects at the first question."""

    def stop(self) -> None:
        """Give up what is being asked, and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._client is not None:
                self._client.close()

    def _note(self, odd: list[Oddity]) -> None:
        """Count and log what is odd in one response."""
        if odd:
            count = Counter(part for part, _ in odd)
            with self._lock:
                self.odd.update(count)
            examples = [ascii(value)[:EXAMPLE_LENGTH] for _, value in odd[:EXAMPLES]]
            _log.warning("odd models of OpenAI", count=dict(count), examples=examples)

    def _ask(self, question: Callable[[openai.OpenAI, dict[str, Any]], T], openai_id: str | None = None) -> T:
        """Ask, and again after a jittered pause when OpenAI fails or cannot be reached, and there is time."""
        import openai  # noqa: PLC0415 - a second and 40 MB, which a server that is never asked for it does without

        client = self._open()
        most = TRIES * (CONNECT_SECONDS + READ_SECONDS)
        give_up = time.monotonic() + min(deadline.remaining() - MARGIN_SECONDS, most)
        for attempt in range(TRIES):
            left = max(0.0, give_up - time.monotonic())
            timeout = openai.Timeout(min(READ_SECONDS, left), connect=min(CONNECT_SECONDS, left))
            try:
                asked = self._threads.submit(question, client, {"timeout": timeout})
                try:
                    return asked.result(left)
                finally:
                    # Nobody waits for it any more, if it has not even begun.
                    asked.cancel()
            except openai.APIStatusError as error:
                failure = _refusal(error, openai_id)
                is_fault = error.status_code >= 500  # noqa: PLR2004 - their faults
            except (openai.APIConnectionError, TimeoutError):
                # No response, or one that is cut short.
                failure, is_fault = _unavailable({}), True
            except (openai.OpenAIError, ValueError, TypeError, AttributeError):
                # An invalid one, which will be the same the next time.
                failure, is_fault = _unavailable({}), False
            pause = BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            if not is_fault or attempt == TRIES - 1 or time.monotonic() + pause >= give_up:
                raise failure
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _open(self) -> openai.OpenAI:
        import openai  # noqa: PLC0415 - as above

        if self._api_key is None:
            raise errors.FailedPrecondition(
                "OPENAI_NOT_CONFIGURED",
                "this service has no key for OpenAI; set OPENAI_API_KEY",
                {"variable": "OPENAI_API_KEY"},
            )
        with self._lock:
            if self._client is None:
                self._client = openai.OpenAI(
                    api_key=self._api_key.get_secret_value(),
                    base_url=self._base_url,
                    # Its own retries sleep for as long as a Retry-After says, whatever the deadline.
                    max_retries=0,
                    # The key goes to this host and to no other.
                    http_client=openai.DefaultHttpxClient(follow_redirects=False),
                )
            return self._client


def _model(entry: object, odd: list[Oddity]) -> ListedModel | None:
    """Check a model, for the SDK builds one of whatever came; None when it has no id that a template could name.

    What is odd is added to `odd`. A day that cannot be read is as good as none.
    """
    openai_id = getattr(entry, "id", None)
    if not isinstance(openai_id, str) or re.fullmatch(r"[!-~]{1,128}", openai_id) is None:
        odd.append(("id", openai_id))
        return None
    day = getattr(entry, "shutdown_date", None)
    try:
        ends = None if day is None else _day(day)
    except ValueError:
        odd.append(("shutdown_date", day))
        ends = None
    owner = getattr(entry, "owned_by", None)
    # JSON may hold half of a surrogate pair, which no message can.
    text = owner[:256].encode(errors="replace").decode() if isinstance(owner, str) else ""
    return ListedModel(openai_id, text, ends)


def _day(text: object) -> date:
    """Read `YYYY-MM-DD`, which a time may follow; ValueError when it is none."""
    if not isinstance(text, str) or re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T.*)?", text) is None:
        raise ValueError("no day")
    return date.fromisoformat(text[:10])


def _refusal(error: openai.APIStatusError, openai_id: str | None) -> errors.Error:
    metadata = {
        name: text
        for name, text in (("openai_code", error.code), ("openai_request_id", error.request_id))
        # Of their text, what looks like a code or an id.
        if isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", text)
    }
    match error.status_code:
        case 401 | 403:
            return errors.FailedPrecondition("OPENAI_REFUSED", "OpenAI refuses the key of this service", metadata)
        case 404 if openai_id is not None:
            return _not_found({**metadata, "openai_id": openai_id})
        case 429:
            return errors.ResourceExhausted(
                "OPENAI_RATE_LIMITED",
                "OpenAI's rate limit is reached",
                metadata,
                retry_seconds=_retry_after(error.response.headers.get("retry-after")),
            )
        case _:
            return _unavailable(metadata)


def _not_found(metadata: dict[str, str]) -> errors.NotFound:
    return errors.NotFound("OPENAI_MODEL_NOT_FOUND", "OpenAI has no such model", metadata)


def _unavailable(metadata: dict[str, str]) -> errors.Unavailable:
    return errors.Unavailable("OPENAI_UNAVAILABLE", "OpenAI failed, or sent an invalid response", metadata)


def _retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After, which is a number or a date; 1 when there is none to be read."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header or "") - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            seconds = 1.0
    return min(max(seconds, 0.0), MAX_RETRY_SECONDS) if seconds == seconds else 1.0  # noqa: PLR0124 - NaN
