"""Databases that are saved and restored, and what they hold."""

import argparse
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from service.commands import backup
from service.config import Settings
from tests.conftest import Database, as_service

ROLE = "omniflo_service"


def content(url: str) -> dict[str, tuple[int, str]]:
    """Return how many rows each table has, and a digest of them, but for the one that a restore changes."""
    database = Database(url)
    names = [name for (name,) in database.query("select tablename from pg_tables where schemaname = 'public'")]
    found = {
        name: database.query(
            f"select count(*), md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {name} t"
        )[0]
        for name in names
        if name != "registry"
    }
    database.close()
    return found


def tables(url: str) -> int:
    database = Database(url)
    ((count,),) = database.query("select count(*) from pg_tables where schemaname = 'public'")
    database.close()
    return int(count)


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def settings(url: str, place: str, key: Path | None = None, **others: Any) -> Settings:
    """Return the settings of a service with two roles."""
    return Settings(
        database_url=SecretStr(as_service(url)),
        database_owner_url=SecretStr(url),
        backup_dir=place,
        backup_key_file=key,
        **others,
    )


def command(settings: Settings, *arguments: str) -> None:
    """Run `backup` in this process."""
    parser = argparse.ArgumentParser()
    backup.add(parser.add_subparsers())
    options = parser.parse_args(["backup", *arguments])
    options.run(settings, options)
