"""A PgBouncer in transaction mode before a PostgreSQL: each transaction may get another connection."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from tests.e2e.proxy import Proxy

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
"""Debian's package, which is no package of Python's."""

IS_INSTALLED = Path(PROGRAM).exists()

START_SECONDS = 10.0


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """Answer the URL of a pooler before the database of that URL, which is on a unix socket."""
    parts = urlsplit(url)
    socket_dir = Path(parse_qs(parts.query)["host"][0])
    # Not among pytest's folders, which are closed to whom it runs as.
    with tempfile.TemporaryDirectory(prefix="omniflo-pooler-") as folder:
        if os.geteuid() != 0:
            yield from _pooled(parts, str(socket_dir), Path(folder))
            return
        # It refuses to be root, and only root gets to the socket.
        with Proxy(socket_dir) as proxy:
            yield from _pooled(parts, f"127.0.0.1 port={proxy.port}", Path(folder))


def _pooled(parts: SplitResult, host: str, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""
        [databases]
        * = host={host} user={parts.username}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = 10
        max_client_conn = 200
        server_login_retry = 1
        """.replace("\n        ", "\n")
    )
    command: list[str | Path] = [PROGRAM, settings]
    if os.geteuid() == 0:
        command = ["/usr/bin/setpriv", "--reuid=nobody", "--clear-groups", *command]
        folder.chmod(0o755)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        give_up = time.monotonic() + START_SECONDS
        while not _is_up(port):
            assert process.poll() is None, (folder / "pgbouncer.log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    finally:
        process.terminate()
        process.wait(10)


def _is_up(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
