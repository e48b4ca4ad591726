"""Ports that this service holds, so that a second one started by mistake is refused."""

import errno
import fcntl
import os
import resource
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import structlog

from service.config import ConfigurationError, variable
from service.variables import split_address

RUN = Path("/run")

_log = structlog.get_logger()
_TAKEN = {errno.EADDRINUSE, errno.EWOULDBLOCK}


MAX_FILES = 65_536


@contextmanager
def held(setting: str, listen: str) -> Iterator[str]:
    """Hold the port of a setting's `host:port` for the time of the block, and answer the address with its number.

    grpcio shares a port with whoever else asks for sharing, so two services started by mistake would answer by turns.
    """
    host, number = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = ConfigurationError(
        f"{variable(setting)}={listen}: the port is taken, by another service or by this one; stop it, or set"
        f" {variable(setting)} to another, such as 127.0.0.1:{number + 1}"
    )
    with ExitStack() as stack, socket.socket(family) as holder:
        try:
            if number:
                # Two that start at the same moment: one gets the lock.
                stack.enter_context(_lock(host, number))
                # Others, whether they share or not: binding without sharing fails.
                with socket.socket(family) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, number))
            # Bound but never listening: it keeps the number for the servers and gets no connection itself.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, number))
        except OSError as error:
            if error.errno in _TAKEN:
                raise taken from None
            raise ConfigurationError(f"{variable(setting)}={listen}: {error.strerror}") from None
        number = holder.getsockname()[1]
        yield f"[{host}]:{number}" if family is socket.AF_INET6 else f"{host}:{number}"


def allow_connections() -> None:
    """Let this process and its children have as many connections as the system allows, each a file to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _lock(host: str, number: int) -> Iterator[None]:
    folder = next(filter(_is_ours, _folders()), None)
    if folder is None:
        # All of them were taken from us. That must not keep us from starting: whoever holds the port is still noticed.
        _log.warning("no lock", help="simultaneous starts on one port are not noticed", folders=[*map(str, _folders())])
        yield
        return
    path = folder / f"{quote(host, safe='')}-{number}.lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _folders() -> Iterator[Path]:
    """Return where the locks of this user may be, best first."""
    uid = os.geteuid()
    # Nobody else can make anything in these.
    yield (RUN / "user" / str(uid) if uid else RUN) / "omniflo-templates"
    yield Path(tempfile.gettempdir(), f"omniflo-templates-{uid}")


def _is_ours(folder: Path) -> bool:
    """Make a folder where there is none, and return whether only this user can put anything into it."""
    try:
        folder.mkdir(0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
