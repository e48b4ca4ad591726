"""The server itself: which path is what, and what goes wrong on the way."""

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.openai_stand_in import faults
from tests.openai_stand_in.assistants import Assistants
from tests.openai_stand_in.faults import Fault, Faults
from tests.openai_stand_in.files import PIECE, Files
from tests.openai_stand_in.models import MODELS, listed
from tests.openai_stand_in.responses import Run, Runs, UnknownFileError

KEY = "stand-in"


class StandIn:
    """Serves models, files, responses and assistants on a port of this machine, a free one for 0, in threads."""

    def __init__(self, port: int = 0) -> None:
        self.reset()
        self.ended = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Forget what was asked and told."""
        self.calls: Counter[str] = Counter()
        """How often each path was asked for."""
        self.traceparents: list[str] = []
        """Of the traces that requests were part of."""
        self.requests: list[dict[str, Any]] = []
        """The bodies that were sent to `/v1/responses`."""
        self.models: dict[str, Any] = dict(MODELS)
        self.odd: list[Any] = []
        """What it lists before its models."""
        self.faults = Faults()
        self.redirect_to = ""
        self.event_seconds = 0.0
        """How long a run takes for each of its events."""
        self.files = Files()
        self.runs = Runs(self.files)
        self.assistants = Assistants()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def failing(self, fault: Fault, only: str = "") -> AbstractContextManager[None]:
        """Have every request meet this fault, or those whose method and path begin so."""
        return self.faults.failing(fault, only)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Callers go away, and are made to.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: `calls` counts."""

        def _serve(self) -> None:
            stand_in.calls[self.path] += 1
            stand_in.traceparents += self.headers.get_all("traceparent", [])
            self.fault = stand_in.faults.of(f"{self.command} {self.path}")
            url = urlsplit(self.path)
            self.query = dict(parse_qsl(url.query))
            match self.command, *(unquote(part) for part in url.path.split("/")[1:]):
                case "POST", "v1", "files":
                    self._upload()
                    return
                case path:
                    body = b"".join(self._body()) if self.command == "POST" else b""
            if self._is_refused():
                return
            match path:
                case "GET", "v1", "models":
                    models = [listed(*item) for item in stand_in.models.items()]
                    self._answer({"object": "list", "data": [*stand_in.odd, *models]})
                case "GET", "v1", "models", *names if (name := "/".join(names)) in stand_in.models:
                    self._answer(listed(name, stand_in.models[name]))
                case _, "v1", "models", *_:
                    self._fail(HTTPStatus.NOT_FOUND, "model_not_found")
                case "GET", "v1", "files":
                    self._answer(stand_in.files.page(self.query))
                case "GET", "v1", "files", id if file := stand_in.files.get(id):
                    self._answer(file.told())
                case "DELETE", "v1", "files", id if stand_in.files.delete(id):
                    self._answer({"id": id, "object": "file", "deleted": True})
                case "POST", "v1", "responses":
                    self._run(json.loads(body))
                case "GET", "v1", "responses", id if run := stand_in.runs.get(id):
                    self._retrieve(run)
                case "POST", "v1", "responses", id, "cancel" if run := stand_in.runs.get(id):
                    if run.is_background:
                        run.cancel()
                        self._tell(run)
                    else:
                        self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", "only a background response")
                case _, "v1", "assistants", *ids if len(ids) <= 1:
                    self._assist(ids[0] if ids else "", body)
                case _:
                    self._fail(HTTPStatus.NOT_FOUND, "not_found")

        def _assist(self, id: str, body: bytes) -> None:
            answer: dict[str, Any] | None = None
            try:
                match self.command:
                    case "GET" if not id:
                        answer = stand_in.assistants.page(self.query)
                    case "GET":
                        kept = stand_in.assistants.get(id)
                        answer = None if kept is None else kept.told
                    case "DELETE" if id and stand_in.assistants.delete(id):
                        answer = {"id": id, "object": "assistant.deleted", "deleted": True}
                    case "POST":
                        answer = stand_in.assistants.write(id, json.loads(body), body.decode(), stand_in.models)
            except KeyError as error:
                self._fail(HTTPStatus.NOT_FOUND, "not_found", f"No assistant found: {error}")
            except ValueError as error:
                self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", str(error))
            else:
                if answer is None:
                    self._fail(HTTPStatus.NOT_FOUND, "not_found", "No assistant found")
                else:
                    self._answer(answer)

        def _upload(self) -> None:
            body = self._body()
            if self.fault is Fault.BROKEN:
                next(body, None)
                self._cut()
                return
            if not self._is_authorized() or self.fault in faults.INSTEAD:
                # What is wrong with it is said once it has come, as behind a proxy.
                for _ in body:
                    pass
                self._is_refused()
                return
            try:
                file = stand_in.files.receive(self.headers["Content-Type"], body)
            except ValueError as error:
                # The connection goes on, so nothing of this request is left in it.
                for _ in body:
                    pass
                self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", str(error))
            else:
                self._answer(file.told())

        def _run(self, request: dict[str, Any]) -> None:
            stand_in.requests.append(request)
            if request.get("model") not in stand_in.models:
                self._fail(HTTPStatus.NOT_FOUND, "model_not_found")
                return
            try:
                run = stand_in.runs.start(
                    request, self.fault, stand_in.event_seconds if request.get("background") else 0
                )
            except UnknownFileError as error:
                self._fail(HTTPStatus.NOT_FOUND, "not_found", f"No such file: {error}")
            except ValueError as error:
                self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", str(error))
            else:
                if request.get("stream"):
                    self._stream(run, -1)
                else:
                    self._tell(run)

        def _retrieve(self, run: Run) -> None:
            if self.query.get("stream") != "true":
                self._tell(run)
            elif not run.is_background:
                self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", "only a background response")
            else:
                self._stream(run, int(self.query.get("starting_after", -1)))

        def _tell(self, run: Run) -> None:
            response = run.response()
            self._answer(response)
            run.was_told |= "usage" in response and self.fault not in {Fault.LOST, Fault.BAD_GATEWAY}

        def _is_authorized(self) -> bool:
            if self.headers.get("Authorization", "") == f"Bearer {KEY}":
                return True
            self.fault = Fault.UNAUTHORIZED
            return False

        def _is_refused(self) -> bool:
            """Do what goes wrong before anything is done, if anything does."""
            self._is_authorized()
            match self.fault:
                case Fault.RATE_LIMITED:
                    headers = {"Retry-After": stand_in.faults.retry_after}
                    self._fail(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", **headers)
                case Fault.SERVER_ERROR:
                    self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "server_error")
                case Fault.BUSY:
                    headers = {"Retry-After": stand_in.faults.retry_after}
                    self._fail(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", **headers)
                case Fault.SILENT:
                    stand_in.ended.wait(stand_in.faults.silent_seconds)
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
                case Fault.GONE:
                    self._fail(HTTPStatus.GONE, "gone")
                case Fault.TOO_OLD:
                    self._fail(HTTPStatus.BAD_REQUEST, "invalid_request", "more than 5 minutes old")
                case Fault.BROKEN:
                    self._cut()
                case Fault.DRIPPING:
                    self._start(HTTPStatus.OK, **{"Content-Length": "60"})
                    for _ in range(60):
                        self.wfile.write(b" ")
                        if stand_in.ended.wait(1):
                            break
                    self.close_connection = True
                case Fault.REDIRECT:
                    self._start(HTTPStatus.FOUND, Location=stand_in.redirect_to, **{"Content-Length": "0"})
                case _:
                    return False
            return True

        def _body(self) -> Iterator[bytes]:
            """Yield the body as it comes in."""
            if self.headers.get("Transfer-Encoding") != "chunked":
                left = int(self.headers.get("Content-Length") or 0)
                while left:
                    piece = self._read(min(left, PIECE))
                    left -= len(piece)
                    yield piece
                return
            while size := int(self.rfile.readline(20), 16):
                while size:
                    piece = self._read(min(size, PIECE))
                    size -= len(piece)
                    yield piece
                self.rfile.readline(3)
            self.rfile.readline(3)

        def _read(self, count: int) -> bytes:
            piece = self.rfile.read(count)
            if not piece:
                raise ConnectionResetError("the caller went away")
            return piece

        def _fail(self, status: HTTPStatus, code: str, text: str = "A text of OpenAI's.", **headers: str) -> None:
            error = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": code}}
            self._send(status, json.dumps(error).encode(), **headers)

        def _answer(self, body: dict[str, Any]) -> None:
            if not self._is_spoiled():
                self._send(HTTPStatus.OK, json.dumps(body).encode())

        def _is_spoiled(self) -> bool:
            """Do what goes wrong with an answer before it begins."""
            match self.fault:
                case Fault.LOST:
                    self._cut()
                case Fault.BAD_GATEWAY:
                    self._send(HTTPStatus.BAD_GATEWAY, b"<h1>Bad gateway</h1>", **{"Content-Type": "text/html"})
                case Fault.SLOW:
                    stand_in.ended.wait(stand_in.faults.slow_seconds)
                    return False
                case _:
                    return False
            return True

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, status: HTTPStatus, body: bytes, **headers: str) -> None:
            self._start(status, **{"Content-Length": str(len(body))}, **headers)
            self.wfile.write(body)

        def _start(self, status: HTTPStatus, **headers: str) -> None:
            self.send_response(status)
            self.send_header("x-request-id", "req_stand_in")
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _stream(self, run: Run, after: int) -> None:
            if self._is_spoiled():
                return
            self._start(HTTPStatus.OK, **{"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
            breaks = self.fault in {Fault.CUT_STREAM, Fault.SILENT_STREAM, Fault.MUTED_STREAM}
            number = after + 1
            last = number + stand_in.faults.after(len(run.events) - number) if breaks else len(run.events)
            while number < last and not stand_in.ended.is_set():
                if number < run.visible():
                    event = run.events[number]
                    number += 1
                    self._chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
                    run.was_told |= number == len(run.events)
                elif run.has_ended:
                    break
                else:
                    time.sleep(0.01)
            match self.fault:
                case Fault.CUT_STREAM:
                    self._cut()
                case Fault.SILENT_STREAM:
                    stand_in.ended.wait(stand_in.faults.silent_seconds)
                    self._cut()
                case _:
                    self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    return Handler
