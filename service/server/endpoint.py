"""The process that metrics are fetched from: HTTP, apart from the parent and the workers.

Whatever is done to it, by many who connect or by one who says nothing, is done to none of the others.
"""

import socket
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any

import structlog

from service import logs, metrics
from service.config import Settings
from service.server.processes import Life
from service.variables import split_address

if TYPE_CHECKING:
    from service.server.last_backup import LastBackup

PATH = "/metrics"
MAX_CONNECTIONS = 16
"""At once; where one more comes, the oldest is closed."""
CONNECTION_SECONDS = 5.0
"""How long a connection may last, whatever is sent on it and however slowly."""
END_SECONDS = 1.0
"""How long one that is closed may keep its place."""

_log = structlog.get_logger()


def serve(life: Life, settings: Settings, address: str, folder: Path) -> None:
    """Serve the metrics in the folder on an address that the parent holds."""
    logs.configure(settings.log_format, settings.log_level, settings.replica)
    last_backup = None
    if settings.backup_dir is not None:
        # What it needs takes a tenth of a second and 10 MB, which a service without backups does without.
        from service.server.last_backup import LastBackup  # noqa: PLC0415 - see above

        last_backup = LastBackup(settings)
        last_backup.start()
    with _Server(address, folder, last_backup) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        _log.info("metrics", address=address)
        life.ready()
        life.wait()
        server.shutdown()
    if last_backup is not None:
        last_backup.stop()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    # The parent holds the port, and a process before this one may still be closing.
    allow_reuse_port = True

    def __init__(self, address: str, folder: Path, last_backup: "LastBackup | None") -> None:
        host, port = split_address(address)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.folder = folder
        self.last_backup = last_backup
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._began: dict[socket.socket, float] = {}
        """When each connection did, oldest first."""
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._began) >= MAX_CONNECTIONS:
                _cut(next(iter(self._began)))
        if not self._free.acquire(timeout=END_SECONDS):
            self.shutdown_request(request)
            return
        with self._lock:
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Cut connections that last too long; called twice a second."""
        give_up = time.monotonic() - CONNECTION_SECONDS
        with self._lock:
            for connection, began in self._began.items():
                if began < give_up:
                    _cut(connection)

    def shutdown_request(self, request: Any) -> None:
        # Before it is closed: its number may be another's then.
        with self._lock:
            had_place = self._began.pop(request, None) is not None
        super().shutdown_request(request)
        if had_place:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is no fault, and faults of ours are logged where they happen."""


def _cut(connection: socket.socket) -> None:
    """End what its thread waits for."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "omniflo-templates"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"metrics are at {PATH}")
            return
        try:
            last = self.server.last_backup
            body = metrics.text(self.server.folder, () if last is None else last.metrics())
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
