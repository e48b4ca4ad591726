"""The database that a command works on."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.config import ConfigurationError, Settings, variable
from service.database import grants, handle, migrate, urls
from service.database.locations import Urls, located
from service.database.transactions import is_denied
from service.errors import Error, Unavailable

_log = structlog.get_logger()


def check_urls(settings: Settings) -> None:
    """Raise when PostgreSQL's library would refuse a URL, whatever is there."""
    given = {
        name: url.get_secret_value()
        for name in ("database_url", "database_direct_url", "database_owner_url")
        if (url := getattr(settings, name)) is not None
    }
    complaints = [f"{variable(name)}: {text}" for name, url in given.items() for text in urls.complaints(url)]
    if not complaints and "database_owner_url" in given and not grants.role_of(given.get("database_url", "")):
        complaints = [f"{variable('database_url')}: must name a role where {variable('database_owner_url')} is set"]
    if complaints:
        raise ConfigurationError("\n".join(complaints))


@contextmanager
def configured(settings: Settings) -> Iterator[Urls]:
    """Configure the database for serving and yield its URLs; an embedded one runs for the time of the block."""
    with located(settings) as urls:
        handle.database.configure(urls.service, prepares=settings.prepare == "on")
        yield urls


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
        cause = "; ".join([*cause.splitlines()[:1], grants.HELP])
    return f"{error.reason}: {error.message}: {cause}".rstrip(": \n")
