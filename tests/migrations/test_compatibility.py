"""Which release may work with which schema, as the migrations say."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from service.database import migrate
from service.database.migrate import MigrationError
from service.server import health
from tests.conftest import Api, Database
from tests.e2e.clients import connected
from tests.e2e.serving import serving
from tests.e2e.test_process import run

Load = Callable[[Mapping[str, str]], list[migrate.Migration]]

NEWEST = len(migrate.load())
DECLARED_SINCE = 14
"""Older migrations were applied by releases that knew nothing of this."""


def write(files: Path, number: int, says: str) -> str:
    """Write the migration that comes so many after the newest, and return its name."""
    name = f"{NEWEST + number:04}_more"
    (files / f"{name}.up.sql").write_text(f"{says}\ncreate table more_{number} (id bigint primary key);")
    (files / f"{name}.down.sql").write_text(f"drop table more_{number};")
    return name


def compatible_from(version: int) -> str:
    return f"{migrate.COMPATIBLE_FROM} {version:04}"


def test_every_new_migration_says_who_can_work_with_what_it_leaves() -> None:
    silent = [
        migration.name
        for migration in migrate.load()
        if migration.version >= DECLARED_SINCE and migrate.COMPATIBLE_FROM not in migration.up
    ]
    assert silent == [], f"say `{migrate.COMPATIBLE_FROM} NNNN`: docs/upgrading.md, Writing a migration"


_TAKES_AWAY = re.compile(
    r"^\s*(?:drop (?:table|view|type|function|sequence|schema|domain)|truncate|alter type .* add value"
    r"|-- squawk-ignore.*(?:ban-drop-column|renaming|changing-column-type|adding-required|adding-not-nullable))",
    re.IGNORECASE | re.MULTILINE,
)
"""What an older release would miss, or would read without knowing it, and squawk has not refused: since a down file may
drop things, or since the file says that squawk is to be silent."""


def takes_away(migration: migrate.Migration) -> list[str]:
    """Return what a migration takes from the older releases that it lets go on."""
    is_open = migration.compatible_from < migration.version
    return [found.strip() for found in _TAKES_AWAY.findall(migration.up)] if is_open else []


def test_no_migration_takes_away_what_a_release_works_with_that_it_lets_go_on() -> None:
    declared = [migration for migration in migrate.load() if migration.version >= DECLARED_SINCE]
    assert {migration.name: found for migration in declared if (found := takes_away(migration))} == {}


@pytest.mark.parametrize(
    ("sql", "is_refused"),
    [
        ("drop table templates;", True),
        ("create table a (b bigint);\nDROP FUNCTION a(text);", True),
        ("truncate templates;", True),
        ("alter type verbosity add value 'none' before 'low';", True),
        ("-- squawk-ignore ban-drop-column\nalter table templates drop column title;", True),
        ("-- squawk-ignore prefer-robust-stmts, renaming-column\nalter table a rename b to c;", True),
        ("-- squawk-ignore require-concurrent-index-creation\ncreate index a on b (c);", False),
        ("drop trigger record_changes on templates;", False),
        ("create function a() returns void language plpgsql as $$ begin execute 'drop table b'; end $$;", False),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_what_takes_away_is_known(sql: str, is_refused: bool, version: int) -> None:
    migration = migrate.Migration(2, "0002_more", sql, "", compatible_from=version)
    assert bool(takes_away(migration)) == (is_refused and version == 1)


@pytest.mark.parametrize(
    ("says", "wanted"),
    [
        ("", 2),
        ("-- compatible-from: 0001", 1),
        ("-- compatible-from: 0000", 0),
        ("-- compatible-from: 0002", 2),
        ("-- no-transaction\n-- compatible-from: 0001", 1),
        ("-- What it is for.\n-- compatible-from: 0001\n-- And more.", 1),
    ],
)
def test_it_is_written_when_a_migration_is_applied(empty: Database, load: Load, says: str, wanted: int) -> None:
    migrations = load(
        {
            "0001_one.up.sql": "create table one (id bigint);",
            "0001_one.down.sql": "drop table one;",
            "0002_two.up.sql": f"{says}\nalter table one add column two bigint;",
            "0002_two.down.sql": "alter table one drop column two;",
        }
    )
    migrate.up(migrations)
    assert empty.query("select version, compatible_from from schema_migrations order by 1") == [(1, 1), (2, wanted)]


@pytest.mark.parametrize(
    "says",
    [
        "-- compatible-from: 1",
        "-- compatible-from: 0003",
        "-- compatible-from 0001",
        "--compatible-from: 0001",
        "-- compatible-from: 0001 and later",
        "-- compatible-from: 0001\n-- compatible-from: 0002",
    ],
)
def test_a_line_that_says_it_wrongly_is_refused_by_name(load: Load, says: str) -> None:
    files = {f"000{number}_step.{way}.sql": "select 1;" for number in (1, 2) for way in ("up", "down")}
    with pytest.raises(MigrationError, match=r"0002_step\.up\.sql should have one line"):
        load(files | {"0002_step.up.sql": f"{says}\nselect 1;"})


@pytest.mark.parametrize(
    ("says", "blamed"),
    [
        ([compatible_from(NEWEST)], None),
        ([compatible_from(NEWEST - 1), compatible_from(NEWEST)], None),
        ([""], 1),
        ([compatible_from(NEWEST + 1)], 1),
        ([compatible_from(NEWEST), compatible_from(NEWEST + 1)], 2),
        # What the second can work with does not mend what the first has broken.
        (["", compatible_from(NEWEST)], 1),
    ],
)
def test_an_older_release_goes_on_when_all_that_it_lacks_says_so(
    migrated: Database, files: Path, says: list[str], blamed: int | None
) -> None:
    del migrated
    names = [write(files, number, line) for number, line in enumerate(says, start=1)]
    assert migrate.up(migrate.load(files)) == names
    older = migrate.load()
    if blamed is None:
        assert migrate.status(older) == ([migration.name for migration in older], [], names)
        assert migrate.obstacle(older) is None
        assert migrate.up(older) == []
    else:
        blame = f"{names[blamed - 1]} is applied, and this release"
        for act in (lambda: migrate.status(older), lambda: migrate.up(older)):
            with pytest.raises(MigrationError, match=blame) as caught:
                act()
            assert f"migrate down --to {NEWEST}`" in str(caught.value)
        assert blame in str(migrate.obstacle(older))
    # Whoever takes something back needs every file.
    with pytest.raises(MigrationError, match=f"{names[0]} is applied, but its file is missing"):
        migrate.down(older, to=0)


def test_a_server_that_runs_notices_what_comes_in_its_way(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.0)
    probe = health.Probe(health.Health([]))
    assert probe._ask() == {"is_reachable": True}
    migrated.query("revoke execute on function renew_epoch() from omniflo")
    assert probe._ask()["missing"] == ["EXECUTE on renew_epoch()"]
    migrated.query("grant execute on function renew_epoch() to omniflo")
    assert probe._ask() == {"is_reachable": True}
    migrated.query(f"insert into schema_migrations (version, name, checksum) values ({NEWEST + 1}, 'more', '')")
    assert probe._ask()["schema"].startswith("more is applied, and this release")


def test_a_table_from_before_is_read_as_it_is_and_gets_the_column_when_it_is_written(
    migrated: Database, files: Path
) -> None:
    migrated.query("alter table schema_migrations drop column compatible_from")
    name = write(files, 1, compatible_from(NEWEST))
    newer = migrate.load(files)
    assert migrate.status(newer).pending == [name]
    assert migrate.version() == NEWEST
    assert migrate.up(newer) == [name]
    rows = migrated.query("select version, compatible_from from schema_migrations order by 1")
    assert rows == [*((version, None) for version in range(1, NEWEST + 1)), (NEWEST + 1, NEWEST)]
    # One that was applied without saying anything is one that older releases cannot work with.
    migrated.query("update schema_migrations set compatible_from = null")
    with pytest.raises(MigrationError, match=f"{name} is applied, and this release"):
        migrate.status(migrate.load())


@pytest.mark.parametrize("command", [["up"], ["status"], ["verify"]])
def test_migrate_of_an_older_release_goes_on_or_says_why_not(
    migrated: Database, files: Path, command: list[str]
) -> None:
    name = write(files, 1, compatible_from(NEWEST))
    migrate.up(migrate.load(files))
    done = run("migrate", *command, database_url=migrated.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{name} is of a newer release; this one can work with it\n")
    migrated.query("update schema_migrations set compatible_from = version where name = %s", (name,))
    done = run("migrate", *command, database_url=migrated.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"{name} is applied, and this release, which ends at {NEWEST:04}, cannot work with it"
    )


def test_migrate_of_an_older_release_takes_nothing_back(migrated: Database, files: Path) -> None:
    name = write(files, 1, compatible_from(NEWEST))
    migrate.up(migrate.load(files))
    done = run("migrate", "down", "--yes", database_url=migrated.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name} is applied, but its file is missing")


@pytest.mark.parametrize("flags", [[], ["--migrate"]], ids=["serve", "serve --migrate"])
def test_serve_refuses_a_newer_schema_that_it_cannot_work_with(
    migrated: Database, files: Path, flags: list[str]
) -> None:
    name = write(files, 1, "")
    migrate.up(migrate.load(files))
    done = run("serve", *flags, database_url=migrated.url)
    assert done.returncode == 1
    assert f"{name} is applied, and this release" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_goes_on_with_a_newer_schema_that_it_can_work_with(
    migrated: Database, files: Path, tmp_path: Path
) -> None:
    write(files, 1, compatible_from(NEWEST))
    migrate.up(migrate.load(files))
    # It is started with --migrate, as every replica may be.
    with serving(migrated.url, tmp_path / "log") as service, connected(service.address) as api:
        assert isinstance(api, Api)
        assert api.user().id
    # And without.
    assert run("keys", "create", "--user", "user_1", "--name", "a", database_url=migrated.url).returncode == 0
