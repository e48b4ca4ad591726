"""`/v1/assistants`: what is kept of each, and what of it can be listed yet."""

import threading
import time
import uuid
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from openai.types.beta.assistant import Assistant
from openai.types.beta.assistant_create_params import AssistantCreateParams
from openai.types.beta.assistant_list_params import AssistantListParams
from openai.types.beta.assistant_tool_param import AssistantToolParam
from openai.types.beta.assistant_update_params import AssistantUpdateParams
from pydantic import ConfigDict, TypeAdapter

_STRICT = ConfigDict(extra="forbid")
_CREATE = TypeAdapter(list[AssistantCreateParams], config=_STRICT)
_UPDATE = TypeAdapter(list[AssistantUpdateParams], config=_STRICT)
_LIST = TypeAdapter(list[AssistantListParams], config=_STRICT)
# The types of the requests take any iterable of tools, which pydantic does not look into.
_TOOLS = TypeAdapter(list[AssistantToolParam], config=_STRICT)

LONGEST = {"name": 256, "description": 512, "instructions": 256_000}
LARGEST_PAGE = 100
MOST_TOOLS, MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE, HOTTEST = 128, 16, 64, 512, 2


class Kept(NamedTuple):
    told: dict[str, Any]
    """As the API spells it."""
    body: str
    """The last request that wrote it."""
    created: float
    """On the clock of `time.monotonic`."""


class Assistants:
    def __init__(self) -> None:
        self.late_seconds = 0.0
        """How long it takes until one that was created is listed."""
        self.deleted: list[str] = []
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}

    def __iter__(self) -> Iterator[Kept]:
        """Iterate over all that are there, the oldest first."""
        with self._lock:
            return iter(list(self._kept.values()))

    def get(self, id: str) -> Kept | None:
        with self._lock:
            return self._kept.get(id)

    def write(
        self, id: str, request: dict[str, Any], body: str = "", models: Container[str] | None = None
    ) -> dict[str, Any] | None:
        """Keep a new one if the id is empty, or write what the request has; return what comes out.

        None where there is none of that id, and ValueError for what OpenAI would refuse.
        """
        (_UPDATE if id else _CREATE).validate_python([request])
        if models is not None and "model" in request and request["model"] not in models:
            raise ValueError("The requested model does not exist.")
        with self._lock:
            now = Kept({"created_at": int(time.time())}, "", time.monotonic())
            kept = self._kept.get(id) if id else now
            if kept is None:
                return None
            id = id or f"asst_{uuid.uuid4().hex}"
            told = _told(id, kept.told, request)
            self._kept[id] = Kept(told, body, kept.created)
            return told

    def delete(self, id: str) -> bool:
        with self._lock:
            if self._kept.pop(id, None) is None:
                return False
            self.deleted.append(id)
            return True

    def age(self, id: str, seconds: float) -> None:
        """Have one been created earlier than it was."""
        with self._lock:
            kept = self._kept[id]
            told = kept.told | {"created_at": kept.told["created_at"] - int(seconds)}
            self._kept[id] = kept._replace(told=told, created=kept.created - seconds)

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of the list, the newest first unless the query says otherwise; KeyError for no such `after`."""
        limit = int(query.get("limit", 20))
        _LIST.validate_python([{**query, "limit": limit}])
        if not 1 <= limit <= LARGEST_PAGE:
            raise ValueError(f"limit must be 1 to {LARGEST_PAGE}")
        until = time.monotonic() - self.late_seconds
        found = [kept.told for kept in self if kept.created <= until]
        if query.get("order", "desc") == "desc":
            found.reverse()
        ids = [told["id"] for told in found]
        for name in ("after", "before"):
            if name in query and query[name] not in ids:
                raise KeyError(query[name])
        first = ids.index(query["after"]) + 1 if "after" in query else 0
        last = ids.index(query["before"]) if "before" in query else len(ids)
        page = found[first:last][:limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": last - first > len(page),
        }


def _told(id: str, before: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Return an assistant after a request, as the API spells it; ValueError as OpenAI refuses it."""
    _TOOLS.validate_python(request.get("tools", []))
    metadata = request.get("metadata") or {}
    if (
        any(len(request.get(name) or "") > length for name, length in LONGEST.items())
        or len(request.get("tools", [])) > MOST_TOOLS
        or len(metadata) > MOST_PAIRS
        or any(len(key) > LONGEST_KEY or len(value) > LONGEST_VALUE for key, value in metadata.items())
        or not 0 <= (request.get("temperature") or 0) <= HOTTEST
    ):
        raise ValueError("something is too long, too many or too hot")
    empty: dict[str, Any] = {"name": None, "description": None, "instructions": None, "tools": [], "metadata": {}}
    told = {**empty, "tool_resources": {}, "temperature": 1.0, "top_p": 1.0, "response_format": "auto", **before}
    told |= {**request, "id": id, "object": "assistant"}
    Assistant.model_validate(told)
    return told
