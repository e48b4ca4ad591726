"""`/v1/responses`: what is asked for, and the runs that answer it."""

import json
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from openai.types.responses import ToolParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_input_param import ResponseInputParam
from pydantic import ConfigDict, TypeAdapter

from service.rendering import strict
from tests.openai_stand_in.faults import Fault
from tests.openai_stand_in.files import File, Files

_STRICT = ConfigDict(extra="forbid")
_REQUEST = TypeAdapter(list[ResponseCreateParamsNonStreaming], config=_STRICT)
# The type of a request takes any iterable of tools, which pydantic does not look into.
_TOOLS = TypeAdapter(list[ToolParam], config=_STRICT)
_INPUT = TypeAdapter(list[ResponseInputParam], config=_STRICT)

IMAGES = (".gif", ".jpeg", ".jpg", ".png", ".webp")


class UnknownFileError(Exception):
    """A request names a file that is not there."""


class Run:
    """A run, all of which is known at its start; `event_seconds` after each other its events become visible."""

    def __init__(self, request: dict[str, Any], files: list[File], fault: Fault | None, event_seconds: float) -> None:
        self.id = f"resp_{uuid.uuid4().hex}"
        self.metadata: dict[str, str] = request.get("metadata") or {}
        self.file_ids = [file.id for file in files]
        self.usage = _usage(request, files)
        self.was_told = False
        """Whether anybody was sent its end."""
        self.is_background = bool(request.get("background"))
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._event_seconds = event_seconds
        self._cancelled_after: int | None = None
        self._response = {
            "id": self.id,
            "object": "response",
            "created_at": time.time(),
            "model": request["model"],
            "parallel_tool_calls": request.get("parallel_tool_calls", True),
            "tool_choice": request.get("tool_choice", "auto"),
            "tools": request.get("tools", []),
            "metadata": self.metadata,
            "background": self.is_background,
        }
        text = _text(request, files, fault)
        self.events = [
            {**event, "sequence_number": number} for number, event in enumerate(self._all(text, _end(fault, text)))
        ]

    def visible(self) -> int:
        """Return how many of its events there are by now."""
        with self._lock:
            return self._visible() if self._cancelled_after is None else self._cancelled_after

    @property
    def has_ended(self) -> bool:
        return self._cancelled_after is not None or self.visible() == len(self.events)

    def cancel(self) -> None:
        with self._lock:
            if self._cancelled_after is None and (visible := self._visible()) < len(self.events):
                self._cancelled_after = visible

    def response(self) -> dict[str, Any]:
        """Return what it is by now."""
        if not self.has_ended:
            return {**self._response, "status": "in_progress" if self.visible() else "queued", "output": []}
        if self._cancelled_after is not None:
            return {**self._response, "status": "cancelled", "output": [], "usage": None}
        response: dict[str, Any] = self.events[-1]["response"]
        return response

    def _visible(self) -> int:
        if not self._event_seconds:
            return len(self.events)
        return min(len(self.events), 1 + int((time.monotonic() - self._start) / self._event_seconds))

    def _all(self, text: str, end: dict[str, Any]) -> Iterator[dict[str, Any]]:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        at: dict[str, Any] = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        begun = {**self._response, "status": "in_progress", "output": []}
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        yield {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}}
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        words = text.split(" ")
        for number, word in enumerate(words):
            delta = word if number == len(words) - 1 else f"{word} "
            yield {"type": "response.output_text.delta", **at, "delta": delta, "logprobs": []}
        if end["status"] == "completed":
            yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
            yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        response = {**self._response, **end, "output": [item], "usage": self.usage}
        yield {"type": f"response.{end['status']}", "response": response}


class Runs:
    def __init__(self, files: Files) -> None:
        self._files = files
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Run]:
        with self._lock:
            return iter(list(self._runs.values()))

    def get(self, id: str) -> Run | None:
        with self._lock:
            return self._runs.get(id)

    def counts(self, name: str) -> Counter[str]:
        """Return how often each was run, by the value that the runs' metadata have for a name."""
        return Counter(run.metadata[name] for run in self if name in run.metadata)

    def counts_of_files(self) -> Counter[str]:
        """Return how often each file was run, by its id."""
        return Counter(id for run in self for id in run.file_ids)

    def told_usage(self) -> Counter[str]:
        """Return the tokens of all runs whose end anybody was told: input, cached, output, reasoning."""
        told: Counter[str] = Counter()
        for run in self:
            if run.was_told:
                told["input"] += run.usage["input_tokens"]
                told["cached"] += run.usage["input_tokens_details"]["cached_tokens"]
                told["output"] += run.usage["output_tokens"]
                told["reasoning"] += run.usage["output_tokens_details"]["reasoning_tokens"]
        return told

    def start(self, request: dict[str, Any], fault: Fault | None, event_seconds: float) -> Run:
        """Check a request, and run it; ValueError and UnknownFileError for what OpenAI would refuse."""
        request = {name: value for name, value in request.items() if name != "stream"}
        _REQUEST.validate_python([request])
        _TOOLS.validate_python(request.get("tools", []))
        if isinstance(request.get("input"), list):
            _INPUT.validate_python([request["input"]])
        _require_sense(request)
        run = Run(request, self._named_files(request), fault, event_seconds)
        if request.get("store", True):
            with self._lock:
                self._runs[run.id] = run
        return run

    def _named_files(self, request: dict[str, Any]) -> list[File]:
        found = []
        for part in _content(request):
            if part["type"] in {"input_file", "input_image"} and part.get("file_id"):
                file = self._files.get(part["file_id"])
                if file is None:
                    raise UnknownFileError(part["file_id"])
                if file.filename.lower().endswith(IMAGES) != (part["type"] == "input_image"):
                    raise ValueError(f"{part['type']} cannot be this file")
                found.append(file)
        return found


def _content(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of all messages."""
    asked = request.get("input", "")
    if isinstance(asked, str):
        return [{"type": "input_text", "text": asked}]
    parts: list[dict[str, Any]] = []
    for message in asked:
        content = message["content"]
        parts += [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    return parts


def _require_sense(request: dict[str, Any]) -> None:
    """Raise ValueError for what the types allow and OpenAI refuses."""
    tools, choice = request.get("tools", []), request.get("tool_choice")
    if not tools and not request.keys().isdisjoint({"tool_choice", "parallel_tool_calls"}):
        raise ValueError("tool_choice and parallel_tool_calls need tools")
    if isinstance(choice, dict) and not any(choice.items() <= tool.items() for tool in tools):
        raise ValueError("tool_choice is none of the tools")
    if request.get("max_output_tokens", 16) < 16:
        raise ValueError("max_output_tokens is below 16")
    if request.get("background") and not request.get("store", True):
        raise ValueError("background needs store")
    format = request.get("text", {}).get("format", {})
    if format.get("strict") and (why := strict.why_not_strict(format["schema"], request["model"])):
        raise ValueError(f"text.format.schema: {why}")


def _text(request: dict[str, Any], files: list[File], fault: Fault | None) -> str:
    format = request.get("text", {}).get("format", {})
    if format.get("type") == "json_schema" and fault is not Fault.NO_JSON:
        return json.dumps(_answer_to(format["schema"], format["schema"]))
    asked = " ".join(part["text"] for part in _content(request) if part["type"] == "input_text")
    words = f"{request['model']} was told: {request.get('instructions') or ''} It was asked: {asked}"
    return " ".join([words, *(f"It was given: {file.filename}, {file.bytes} bytes, {file.digest}." for file in files)])


def _end(fault: Fault | None, text: str) -> dict[str, Any]:
    match fault:
        case Fault.FAILED:
            return {"status": "failed", "error": {"code": "server_error", "message": f"OpenAI failed at: {text[:20]}"}}
        case Fault.INCOMPLETE:
            return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        case _:
            return {"status": "completed"}


def _usage(request: dict[str, Any], files: list[File]) -> dict[str, Any]:
    input = len(json.dumps(request)) // 4 + sum(math.ceil(file.bytes / 100) for file in files)
    output = 20 + len(json.dumps(request)) % 17
    reasoning = output // 4 if request.get("reasoning") else 0
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": input // 3, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
    }


def _answer_to(schema: Any, root: Any) -> Any:
    """Return something that the schema allows, of those that strict mode takes."""
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#").split("/")[1:]:
            target = target[step]
        return _answer_to(target, root)
    if "anyOf" in schema:
        return _answer_to(schema["anyOf"][0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: _answer_to(below, root) for name, below in schema["properties"].items()}
        case "array":
            return [_answer_to(schema["items"], root)]
        case kind:
            return {"string": "a text", "integer": 17, "number": 0.5, "boolean": True}.get(kind)
