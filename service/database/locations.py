"""The database that the settings name: its URLs, by what is done there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from service.config import Settings
from service.database import embedded, grants

_SPARE_CONNECTIONS = 20
"""Of the embedded PostgreSQL, for psql and other tools."""


class Urls(NamedTuple):
    """One database, by what is done there."""

    service: str
    owner: str
    """For migrations and backups: of the role that owns the tables, and past a pooler, whose sessions are not ours to
    lock in."""
    role: str | None
    """The role of `service`, where another one owns the tables."""


@contextmanager
def located(settings: Settings) -> Iterator[Urls]:
    """Yield the URLs; an embedded PostgreSQL runs for the time of the block."""
    if settings.database_url is not None:
        yield _of_server(settings, settings.database_url.get_secret_value())
        return
    options = ["-c", f"max_connections={settings.connections + _SPARE_CONNECTIONS}"]
    with embedded.running(settings.data_dir, options) as (service, owner):
        yield Urls(service, owner, grants.role_of(service))


def _of_server(settings: Settings, url: str) -> Urls:
    if settings.database_owner_url is None:
        direct = settings.database_direct_url
        return Urls(url, url if direct is None else direct.get_secret_value(), None)
    owner, role = settings.database_owner_url.get_secret_value(), grants.role_of(url)
    return Urls(url, owner, None if role == grants.role_of(owner) else role)
