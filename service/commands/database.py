"""The database that a command works on."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.config import ConfigurationError, Settings, variable
from service.database import embedded, handle, migrate, urls
from service.errors import Unavailable

_SPARE_CONNECTIONS = 20
"""Of the embedded PostgreSQL, for psql and other tools."""

_log = structlog.get_logger()


def check_urls(settings: Settings) -> None:
    """Raise when PostgreSQL's library would refuse a URL, whatever is there."""
    given = {name: getattr(settings, name) for name in ("database_url", "database_direct_url")}
    complaints = [
        f"{variable(name)}: {complaint}"
        for name, url in given.items()
        if url is not None
        for complaint in urls.complaints(url.get_secret_value())
    ]
    if complaints:
        raise ConfigurationError("\n".join(complaints))


@contextmanager
def configured(settings: Settings) -> Iterator[str]:
    """Configure the database and yield its URL; an embedded one runs for the time of the block."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        handle.database.configure(url, prepares=settings.prepare == "on")
        yield url
        return
    options = ["-c", f"max_connections={settings.connections + _SPARE_CONNECTIONS}"]
    with embedded.running(settings.data_dir, options) as url:
        handle.database.configure(url)
        yield url


def require_schema() -> None:
    """Raise when migrations are pending; a database that is away is no reason not to start."""
    try:
        _, pending = migrate.status(migrate.load(), allow_newer=True)
    except Unavailable as error:
        _log.error("database", is_reachable=False, error=str(error.__cause__).strip())
        return
    if pending:
        raise migrate.MigrationError(
            f"migrations are pending: run `python -m service migrate up` ({', '.join(pending)})"
        )


def use_direct_url(settings: Settings) -> None:
    """Go past a pooler, whose sessions are not ours to lock anything in."""
    if settings.database_direct_url is not None:
        handle.database.configure(settings.database_direct_url.get_secret_value())
