"""A stand-in for OpenAI: a real HTTP server that checks what it gets as strictly as the SDK's request types allow.

`python -m tests.openai_stand_in COMMAND…` runs a command with OPENAI_BASE_URL and OPENAI_API_KEY set to one.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openai.types.responses import ToolParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import ConfigDict, TypeAdapter

from service.rendering import strict

PORT = 50080
"""Where the command is served, so that the documentation can name it."""

KEY = "stand-in"

MODELS: dict[str, str | None] = {
    "gpt-4.1": "2027-01-14",
    "gpt-4o": "2027-01-14",
    "gpt-4o-mini": "2027-01-14",
    "gpt-5": "2026-12-11",
    "gpt-5-mini": "2026-12-11",
    "gpt-5.1": "2027-04-01",
    "gpt-5.4-mini": None,
    "gpt-5.5": None,
    "gpt-6-luna": None,
    "gpt-6.2-sol": None,
    "o3": "2026-12-11",
}
"""The models that it serves, with their shutdown dates."""

_STRICT = ConfigDict(extra="forbid")
_REQUEST = TypeAdapter(list[ResponseCreateParamsNonStreaming], config=_STRICT)
# The type of a request takes any iterable of tools, which pydantic does not look into.
_TOOLS = TypeAdapter(list[ToolParam], config=_STRICT)


class Fault(Enum):
    RATE_LIMITED = auto()
    """429, and a Retry-After of 7 seconds."""
    SERVER_ERROR = auto()
    SILENT = auto()
    """The connection is taken, and nothing is ever said."""
    CUT = auto()
    """The body ends before its length."""
    TRUNCATED = auto()
    """A complete body of half a JSON."""
    UNAUTHORIZED = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    DRIPPING = auto()
    """A byte a second, each soon enough for a timeout of reads."""
    REDIRECT = auto()
    """To `redirect_to`."""


class StandIn:
    """Serves `/v1/models` and `/v1/responses` on a port of this machine, a free one for 0, in threads of its own."""

    def __init__(self, port: int = 0) -> None:
        self.reset()
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Forget what was asked and told."""
        self.calls: Counter[str] = Counter()
        """How often each path was asked for."""
        self.requests: list[dict[str, Any]] = []
        """The bodies that were sent to `/v1/responses`."""
        self.models: dict[str, Any] = dict(MODELS)
        self.odd: list[Any] = []
        """What it lists before its models."""
        self.fault: Fault | None = None
        self.redirect_to = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self.fault = fault
        try:
            yield
        finally:
            self.fault = None


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self._refused():
                return
            name = self.path.removeprefix("/v1/models").removeprefix("/")
            if self.path == "/v1/models":
                models = [listed(*item) for item in stand_in.models.items()]
                self._answer({"object": "list", "data": [*stand_in.odd, *models]})
            elif self.path.startswith("/v1/models/") and name in stand_in.models:
                self._answer(listed(name, stand_in.models[name]))
            else:
                self._fail(HTTPStatus.NOT_FOUND, "model_not_found")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self._refused():
                return
            if self.path != "/v1/responses":
                self._fail(HTTPStatus.NOT_FOUND, "unknown_url")
                return
            request = json.loads(body)
            stand_in.requests.append(request)
            stream = request.pop("stream", False)
            try:
                _REQUEST.validate_python([request])
                _TOOLS.validate_python(request.get("tools", []))
                _require_sense(request)
            except ValueError as error:
                self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", str(error))
                return
            if request["model"] not in stand_in.models:
                self._fail(HTTPStatus.NOT_FOUND, "model_not_found")
                return
            response = _response(request)
            if stream:
                self._stream(response)
            else:
                self._answer(response)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: `calls` counts."""

        def _refused(self) -> bool:
            stand_in.calls[self.path] += 1
            if self.headers.get("Authorization", "") != f"Bearer {KEY}":
                self._fail(HTTPStatus.UNAUTHORIZED, "invalid_api_key")
                return True
            match stand_in.fault:
                case None:
                    return False
                case Fault.RATE_LIMITED:
                    self._fail(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", **{"Retry-After": "7"})
                case Fault.SERVER_ERROR:
                    self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "server_error")
                case Fault.SILENT:
                    stand_in.ended.wait(60)
                    self.close_connection = True
                case Fault.CUT:
                    self._start(HTTPStatus.OK, **{"Content-Length": "1000"})
                    self.wfile.write(b'{"object": "list", "data": [')
                    self.close_connection = True
                case Fault.TRUNCATED:
                    self._send(HTTPStatus.OK, b'{"object": "list", "data": [{"id": "gpt-')
                case Fault.UNAUTHORIZED:
                    self._fail(HTTPStatus.UNAUTHORIZED, "invalid_api_key")
                case Fault.FORBIDDEN:
                    self._fail(HTTPStatus.FORBIDDEN, "unsupported_country")
                case Fault.NOT_FOUND:
                    self._fail(HTTPStatus.NOT_FOUND, "model_not_found")
                case Fault.DRIPPING:
                    self._start(HTTPStatus.OK, **{"Content-Length": "60"})
                    for _ in range(60):
                        self.wfile.write(b" ")
                        if stand_in.ended.wait(1):
                            break
                    self.close_connection = True
                case Fault.REDIRECT:
                    self._start(HTTPStatus.FOUND, Location=stand_in.redirect_to, **{"Content-Length": "0"})
            return True

        def _fail(self, status: HTTPStatus, code: str, text: str = "A text of OpenAI's.", **headers: str) -> None:
            error = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": code}}
            self._send(status, json.dumps(error).encode(), **headers)

        def _answer(self, body: dict[str, Any]) -> None:
            self._send(HTTPStatus.OK, json.dumps(body).encode())

        def _send(self, status: HTTPStatus, body: bytes, **headers: str) -> None:
            self._start(status, **{"Content-Length": str(len(body))}, **headers)
            self.wfile.write(body)

        def _start(self, status: HTTPStatus, **headers: str) -> None:
            self.send_response(status)
            self.send_header("x-request-id", "req_stand_in")
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _stream(self, response: dict[str, Any]) -> None:
            self._start(HTTPStatus.OK, **{"Content-Type": "text/event-stream", "Connection": "close"})
            self.close_connection = True
            item: dict[str, Any] = response["output"][0]
            part = item["content"][0]
            at: dict[str, Any] = {"item_id": item["id"], "output_index": 0, "content_index": 0}
            words = [word + " " for word in part["text"].split(" ")]
            events: list[dict[str, Any]] = [
                {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
                {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
                {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
                *({"type": "response.output_text.delta", **at, "delta": word, "logprobs": []} for word in words),
                {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
                {"type": "response.content_part.done", **at, "part": part},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": response},
            ]
            for number, event in enumerate(events):
                line = json.dumps({**event, "sequence_number": number})
                self.wfile.write(f"event: {event['type']}\ndata: {line}\n\n".encode())

    return Handler


def listed(name: Any, shutdown_date: Any = None) -> dict[str, Any]:
    """Return a model as the list spells it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai", "shutdown_date": shutdown_date}


def _require_sense(request: dict[str, Any]) -> None:
    """Raise ValueError for what the types allow and OpenAI refuses."""
    tools, choice = request.get("tools", []), request.get("tool_choice")
    if not tools and not request.keys().isdisjoint({"tool_choice", "parallel_tool_calls"}):
        raise ValueError("tool_choice and parallel_tool_calls need tools")
    if isinstance(choice, dict) and not any(choice.items() <= tool.items() for tool in tools):
        raise ValueError("tool_choice is none of the tools")
    if request.get("max_output_tokens", 16) < 16:
        raise ValueError("max_output_tokens is below 16")
    format = request.get("text", {}).get("format", {})
    if format.get("strict") and (why := strict.why_not_strict(format["schema"], request["model"])):
        raise ValueError(f"text.format.schema: {why}")


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


def _response(request: dict[str, Any]) -> dict[str, Any]:
    words = f"{request['model']} was told: {request.get('instructions', '')} It was asked: {request.get('input', '')}"
    format = request.get("text", {}).get("format", {})
    if format.get("type") == "json_schema":
        words = json.dumps(_answer_to(format["schema"], format["schema"]))
    text = {"type": "output_text", "text": words, "annotations": [], "logprobs": []}
    return {
        "id": "resp_stand_in",
        "object": "response",
        "created_at": time.time(),
        "status": "completed",
        "model": request["model"],
        "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}],
        "parallel_tool_calls": request.get("parallel_tool_calls", True),
        "tool_choice": request.get("tool_choice", "auto"),
        "tools": request.get("tools", []),
        "metadata": request.get("metadata", {}),
    }


def main(command: list[str]) -> int:
    """Run the command beside a stand-in, and return its exit code."""
    stand_in = StandIn(PORT)
    print(f"A stand-in for OpenAI: export OPENAI_BASE_URL={stand_in.url} OPENAI_API_KEY={KEY}", flush=True)
    environment = {**os.environ, "OPENAI_BASE_URL": stand_in.url, "OPENAI_API_KEY": KEY}
    with subprocess.Popen(command, env=environment) as process:
        # Ctrl-C reaches the command as well; SIGTERM is handed on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        code = process.wait()
    stand_in.close()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
