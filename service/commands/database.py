"""The database that a command works on."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.config import ConfigurationError, Settings, variable
from service.database import embedded, handle, migrate, urls
from service.database.transactions import GRANTS, is_denied
from service.errors import Error, Unavailable

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
    """Raise when this release cannot work with the schema; a database that is away is no reason not to start."""
    try:
        obstacle = migrate.obstacle(migrate.load())
    except Unavailable as error:
        if is_denied(error):
            raise
        _log.error("database", is_reachable=False, error=str(error.__cause__).strip())
        return
    if obstacle is not None:
        raise migrate.MigrationError(obstacle)


def told(error: Error) -> str:
    """Return what a person is told of an error that ends a command."""
    cause = str(error.__cause__ or "")
    if is_denied(error):
        # The lines below the first show a place in the statement.
        cause = "; ".join([*cause.splitlines()[:1], GRANTS])
    return f"{error.reason}: {error.message}: {cause}".rstrip(": \n")


def use_direct_url(settings: Settings) -> None:
    """Go past a pooler, whose sessions are not ours to lock anything in."""
    if settings.database_direct_url is not None:
        handle.database.configure(settings.database_direct_url.get_secret_value())
