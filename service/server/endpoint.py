"""The process that metrics are fetched from: HTTP, apart from the parent and the workers.

Whatever is done to it, by many who connect or by one who says nothing, is done to none of the others.
"""

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

import structlog

from service import logs, metrics
from service.config import Settings
from service.server.processes import Life
from service.variables import split_address

PATH = "/metrics"
MAX_CONNECTIONS = 16
"""At once; more are closed."""
READ_SECONDS = 5.0
"""How long a request may be on its way."""

_log = structlog.get_logger()


def serve(life: Life, settings: Settings, address: str, folder: Path) -> None:
    """Serve the metrics in the folder on an address that the parent holds."""
    logs.configure(settings.log_format, settings.log_level)
    with _Server(address, folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        _log.info("metrics", address=address)
        life.ready()
        life.wait()
        server.shutdown()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    # The parent holds the port, and a process before this one may still be closing.
    allow_reuse_port = True

    def __init__(self, address: str, folder: Path) -> None:
        host, port = split_address(address)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.folder = folder
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is no fault, and faults of ours are logged where they happen."""


class _Handler(BaseHTTPRequestHandler):
    timeout = READ_SECONDS
    server: _Server
    server_version = "omniflo-templates"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"metrics are at {PATH}")
            return
        try:
            body = metrics.text(self.server.folder)
        except Exception as fault:  # noqa: BLE001 - the next request may go well
            _log.error("metrics", error=type(fault).__name__)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", metrics.CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of each request."""
