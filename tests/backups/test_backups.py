"""The database saved and brought back: all of it or nothing, from a backup that is as it was made."""

import base64
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from bench import content as filling
from omniflo.templates.v1.change_service_pb2 import WatchChangesRequest
from omniflo.templates.v1.selection_service_pb2 import ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, ListTemplatesRequest, UpdateTemplateRequest
from service.backups import catalog, daily, kept, making, programs, restoring
from service.backups.catalog import Backup
from service.backups.faults import BackupError, DamagedError
from service.backups.folder import Folder
from service.backups.manifest import DUMP, FILE, Table, decode
from service.backups.sealing import read_key
from service.config import Settings
from service.database import embedded, handle, migrate, snapshots
from service.errors import Unavailable
from service.server.last_backup import LastBackup
from tests.backups.databases import ROLE, command, content, name_of, settings, tables
from tests.backups.s3_server import Server
from tests.conftest import ROOT, Api, Database, as_service, fails
from tests.e2e.clients import connected
from tests.e2e.serving import eventually, serving
from tests.e2e.test_docs import blocks
from tests.e2e.test_process import environment
from tests.e2e.watching import watching
from tests.migrations.conftest import fill, schema, working_on
from tests.migrations.test_roles import WANTED, rights
from tests.scale import DAILY_BACKUPS, KILLED_BACKUPS, SAVED_TEMPLATES

NOW = datetime(2026, 6, 20, 3, 0, 0, tzinfo=UTC)
_numbers = itertools.count()
DAY = timedelta(days=1)
SECONDS = 20.0

New = Callable[[], str]


@pytest.fixture(scope="module", autouse=True)
def _afterwards(url: str) -> Iterator[None]:
    """Commands point this process at their databases."""
    yield
    handle.database.drop()
    handle.database.configure(as_service(url))


@pytest.fixture(scope="module")
def small(new_database: New, url: str) -> str:
    """The URL of a database with a few rows in every table, for its owner."""
    there = new_database()
    with working_on(there, afterwards=url):
        migrate.up(migrate.load(), role=ROLE)
    database = Database(there)
    fill(database)
    database.close()
    return there


@pytest.fixture(scope="module")
def large(new_database: New, url: str, postgres: embedded.Server) -> str:
    """The URL of one with many templates and their log."""
    there = new_database()
    with working_on(there, afterwards=url):
        migrate.up(migrate.load(), role=ROLE)
    superuser = filling.Database(postgres.admin_url.replace("/postgres?", f"/{name_of(there)}?"))
    filling.fill(superuser, templates=SAVED_TEMPLATES, users=1_000)
    superuser.close()
    return there


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(base64.b64encode(os.urandom(32)))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "backups")


def made(folder: Folder, url: str, now: datetime | None = None, key: Path | None = None) -> Backup:
    # Each has a name of its own.
    now = now or NOW + timedelta(milliseconds=next(_numbers))
    saved = making.create(folder, url, None if key is None else read_key(key), now)
    return catalog.find(folder, saved.name)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the last line that a command printed; the log may come before."""
    return capsys.readouterr().out.splitlines()[-1]


def restore(folder: Folder, backup: Backup, url: str, key: Path | None = None, replaced: str | None = None) -> None:
    restoring.restore(folder, backup, url, None if key is None else read_key(key), role=ROLE, replaced=replaced)


def sample(api: Api) -> list[bytes]:
    """Return what some reads answer, byte by byte."""
    ids = random.Random(1).sample(range(1, SAVED_TEMPLATES), 50)
    answers: list[Message] = [
        api.templates.GetTemplate(GetTemplateRequest(id=filling.id_of("template", n))) for n in ids
    ]
    answers.append(api.templates.ListTemplates(ListTemplatesRequest(page_size=50)))
    answers += [
        api.selections.ResolveTemplate(
            ResolveTemplateRequest(user_id=filling.id_of("user", n), template_type=f"bench-type-{n}")
        )
        for n in range(1, 11)
    ]
    return [answer.SerializeToString(deterministic=True) for answer in answers]


@pytest.mark.soak
def test_a_backup_brings_everything_back(
    large: str, new_database: New, s3: Server, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert s3.url
    place = f"s3://bucket/{tmp_path.name}"
    with serving(large, tmp_path / "log") as service, connected(service.address) as api:
        before = sample(api)
        token = next(api.changes.WatchChanges(WatchChangesRequest())).resume_token
    command(settings(large, place, key), "create")
    name, size, _, rows, _ = printed(capsys).split()
    assert (int(size.replace(",", "")), int(rows.replace(",", ""))) > (100_000, 2 * SAVED_TEMPLATES)
    there = new_database()
    command(settings(there, place, key), "restore", "latest")
    assert printed(capsys).startswith(f"{name} was restored: {rows} rows, as of ")
    assert content(there) == content(large)
    assert content(there)["changes"][0] > SAVED_TEMPLATES
    ours, theirs = Database(there), Database(large)
    assert schema(ours) == schema(theirs)
    assert rights(ours) == WANTED
    ours.close()
    theirs.close()
    with serving(there, tmp_path / "log of the other") as service, connected(service.address) as api:
        assert sample(api) == before
        # It may be told first that the log was not read yet.
        failure = fails(list, api.changes.WatchChanges(WatchChangesRequest(resume_token=token), timeout=SECONDS))
        assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
        assert api.user().id


def test_a_service_that_runs_starts_over_when_its_database_is_replaced(
    new_database: New, folder: Folder, tmp_path: Path
) -> None:
    url = new_database()
    with serving(url, tmp_path / "log") as service, connected(service.address) as api:
        template = api.template(title="Before")
        backup = made(folder, url)
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id, title="After")))
        read = GetTemplateRequest(id=template.id)
        with watching(api.channel) as watcher:
            assert [api.templates.GetTemplate(read).title for _ in range(2)] == ["After", "After"]
            restore(folder, backup, url, replaced=name_of(url))
            eventually(lambda: api.templates.GetTemplate(read).title == "Before", within=SECONDS)
            eventually(lambda: ("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED") in watcher.ends, within=SECONDS)
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=Template(id=template.id, title="Again")))


def test_what_is_made_is_listed_and_verified(
    small: str, place: str, capsys: pytest.CaptureFixture[str], key: Path
) -> None:
    with_key, without = settings(small, place, key), settings(small, place)
    command(without, "list")
    assert capsys.readouterr() == ("", f"no backups in {place}\n")
    command(with_key, "create")
    name = printed(capsys).split()[0]
    command(without, "list")
    schema_version = f"{len(migrate.load()):04}"
    line = printed(capsys)
    assert line.startswith(f"{name}  good: ")
    assert line.endswith(f" rows, schema {schema_version}, encrypted, not verified")
    command(with_key, "verify")
    assert printed(capsys).startswith(f"{name} is good: all ")
    command(without, "list")
    assert f"verified {datetime.now(UTC):%Y-%m-%d}" in printed(capsys)
    command(without, "prune")
    assert capsys.readouterr().out == ""
    store = kept.store(without)
    catalog.note(store, name, NOW, "flipped")
    command(without, "list")
    assert printed(capsys) == f"{name}  damaged: flipped"
    with store.writing("20260101T000000Z-000000") as writer:
        writer.write(FILE, [b"cut"])
    command(with_key, "create")
    command(without, "prune")
    assert printed(capsys) == "deleted 20260101T000000Z-000000"
    database = Database(small)
    assert snapshots.databases(database._connection, "omniflo_scratch_") == []
    database.close()


def test_one_that_was_cut_anywhere_is_never_restored(
    small: str, new_database: New, folder: Folder, key: Path, tmp_path: Path
) -> None:
    empty = new_database()
    for with_key in (None, key):
        backup = made(folder, small, key=with_key)
        files = {file: tmp_path / "backups" / backup.name / file for file in (DUMP, FILE)}
        for path in files.values():
            whole = path.read_bytes()
            for at in sorted(random.Random(len(whole)).sample(range(len(whole) - 1), 13)):
                path.write_bytes(whole[:at])
                cut = catalog.find(folder, backup.name)
                assert not cut.is_good
                with pytest.raises(DamagedError, match=f"the backup {backup.name} is damaged"):
                    restore(folder, cut, empty, with_key)
                with pytest.raises(DamagedError):
                    restoring.verify(folder, cut, empty, None if with_key is None else read_key(with_key), NOW)
            path.write_bytes(whole)
        files[DUMP].rename(tmp_path / "elsewhere")
        assert catalog.find(folder, backup.name).damage == f"{DUMP} is missing"
    assert tables(empty) == 0


def test_a_byte_that_was_flipped_is_found(small: str, new_database: New, folder: Folder, tmp_path: Path) -> None:
    empty = new_database()
    backup = made(folder, small)
    path = tmp_path / "backups" / backup.name / DUMP
    whole = path.read_bytes()
    for at in sorted(random.Random(7).sample(range(len(whole)), 10)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamagedError, match=f"{DUMP} is not as it was written"):
            restore(folder, backup, empty)
    with pytest.raises(DamagedError):
        restoring.verify(folder, backup, small, None, NOW)
    assert catalog.find(folder, backup.name).damage == f"{DUMP} is not as it was written"
    path.write_bytes(whole)
    restoring.verify(folder, catalog.find(folder, backup.name), small, None, NOW)
    assert catalog.find(folder, backup.name).is_good, "it could not be read for a while"
    assert tables(empty) == 0


def test_rows_that_are_not_as_they_were_saved_undo_all(
    small: str, new_database: New, folder: Folder, tmp_path: Path
) -> None:
    backup = made(folder, small)
    path = tmp_path / "backups" / backup.name / FILE
    saved = decode(path.read_bytes(), backup.name)
    forged = saved.model_copy(update={"tables": {**saved.tables, "users": Table(rows=2, checksum="17")}})
    path.write_bytes(forged.encode())
    empty = new_database()
    for target, replaced in ((empty, None), (small, name_of(small))):
        before = content(small)
        with pytest.raises(DamagedError, match="the table users is not as it was saved: it has 2 rows"):
            restore(folder, catalog.find(folder, backup.name), target, replaced=replaced)
        assert content(small) == before
    assert tables(empty) == 0


class Vanishing(Folder):
    """A disk that cannot be read to the end a second time."""

    reads = 0

    def read(self, name: str, file: str) -> Iterator[bytes]:
        chunks = super().read(name, file)
        if file == DUMP:
            self.reads += 1
        if file != DUMP or self.reads < 2:
            yield from chunks
            return
        yield b"".join(chunks)[:-3000]
        raise BackupError("the disk is gone")


def test_a_restore_that_ends_in_the_middle_leaves_nothing(small: str, new_database: New, tmp_path: Path) -> None:
    store = Vanishing(tmp_path)
    backup = made(store, small)
    empty = new_database()
    with pytest.raises(BackupError, match="the disk is gone"):
        restore(store, backup, empty)
    assert tables(empty) == 0


class Changing(Folder):
    """A disk that has another file when it is read a second time."""

    reads: list[bytes]

    def read(self, name: str, file: str) -> Iterator[bytes]:
        return iter([self.reads.pop(0)]) if file == DUMP else super().read(name, file)


def test_a_file_that_changes_while_it_is_read_is_not_restored(
    small: str, large: str, new_database: New, tmp_path: Path
) -> None:
    store, empty = Changing(tmp_path), new_database()
    backup, other = made(store, small), made(store, large)
    store.reads = [(tmp_path / one.name / DUMP).read_bytes() for one in (backup, other)]
    with pytest.raises(DamagedError, match=f"{DUMP} changed while it was read"):
        restore(store, backup, empty)
    assert tables(empty) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"postgresql": 99}, "is of PostgreSQL 99, and the server is 1"),
        ({"namespace": "elsewhere"}, "is of the schema elsewhere, and the database's URL leads to public"),
    ],
)
def test_a_backup_that_is_for_another_server_or_schema_is_refused(
    small: str, new_database: New, folder: Folder, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    backup, empty = made(folder, small), new_database()
    path = tmp_path / "backups" / backup.name / FILE
    path.write_bytes(backup.required().model_copy(update=change).encode())
    with pytest.raises(BackupError, match=said):
        restore(folder, catalog.find(folder, backup.name), empty)
    assert tables(empty) == 0


@pytest.mark.parametrize(
    ("saved_with", "read_with", "said"),
    [
        ("a", "b", "is encrypted with another key: [0-9a-f]{16}, and OMNIFLO_BACKUP_KEY_FILE has [0-9a-f]{16}"),
        ("a", None, "is encrypted: set OMNIFLO_BACKUP_KEY_FILE to the file with the key"),
        (None, "b", "is not encrypted, and OMNIFLO_BACKUP_KEY_FILE is set: somebody without the key may have made it"),
    ],
)
def test_the_key_of_another_backup_is_refused(
    small: str,
    new_database: New,
    folder: Folder,
    tmp_path: Path,
    saved_with: str | None,
    read_with: str | None,
    said: str,
) -> None:
    paths: dict[str | None, Path | None] = {None: None}
    for name in ("a", "b"):
        path = tmp_path / name
        path.write_bytes(base64.b64encode(name.encode() * 32))
        paths[name] = path
    backup = made(folder, small, key=paths[saved_with])
    empty = new_database()
    with pytest.raises(BackupError, match=said) as caught:
        restore(folder, backup, empty, paths[read_with])
    assert not isinstance(caught.value, DamagedError)
    assert tables(empty) == 0


def test_a_database_that_is_not_empty_is_replaced_only_by_name(
    small: str, new_database: New, folder: Folder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    backup = made(folder, small)
    target = new_database()
    database = Database(target)
    # Of every kind that there is, and each needs others.
    database.query(
        "create type mood as enum ('good'); create domain short as text; create type pair as (a int, b mood);"
        "create table users (id serial, mood mood, pair pair); create view people as select * from users;"
        "create materialized view seen as select * from people; create sequence numbers;"
        "create function older(users) returns pair language sql as 'select $1.pair';"
        "create table parts (id int) partition by range (id); create table part partition of parts default;"
        "insert into users (mood) values ('good')"
    )
    for replaced, said in (
        (None, f"is not empty: add --replace {name_of(target)} if all that is in it is to be deleted"),
        ("omniflo", f"--replace names omniflo, and the database is {name_of(target)}: nothing was restored"),
    ):
        with pytest.raises(BackupError, match=said):
            restore(folder, backup, target, replaced=replaced)
    assert database.query("select mood::text from users") == [("good",)]
    command(settings(target, str(tmp_path / "backups")), "restore", backup.name, "--replace", name_of(target))
    assert f"{backup.name} was restored" in printed(capsys)
    assert content(target) == content(small)
    assert database.query("select to_regclass('people'), to_regtype('mood')") == [(None, None)]
    assert rights(database) == WANTED
    epochs = [Database(url).query("select epoch from registry") for url in (small, target)]
    assert epochs[0] != epochs[1]
    database.close()


def test_one_of_an_older_release_is_migrated_afterwards(
    new_database: New, url: str, folder: Folder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    older, target = new_database(), new_database()
    with working_on(older, afterwards=url):
        migrate.up(migrate.load(), to=24)
    made(folder, older)
    command(settings(target, str(tmp_path / "backups")), "restore", "latest")
    assert "Next: `python -m service migrate up`" in printed(capsys)
    with working_on(target, afterwards=url):
        migrate.up(migrate.load(), role=ROLE)
    database = Database(target)
    assert rights(database) == WANTED
    database.close()


def test_the_role_that_owns_the_tables_makes_backups(small: str, folder: Folder, postgres: embedded.Server) -> None:
    with pytest.raises(
        BackupError, match="OMNIFLO_DATABASE_OWNER_URL for the role that owns the tables, which is omniflo"
    ):
        made(folder, as_service(small))
    with pytest.raises(BackupError, match="nothing to save: `python -m service migrate up` was not run"):
        made(folder, postgres.url)
    with pytest.raises(BackupError, match="run `alter role omniflo_service createdb`"):
        restoring.require_databases(as_service(small), NOW)
    with pytest.raises(Unavailable):
        made(folder, small.replace(f"/{name_of(small)}?", "/no_such_database?"))
    assert folder.contents() == {}


def test_databases_of_verifications_that_were_killed_are_dropped_after_a_day(small: str) -> None:
    database = Database(small)
    old, young = (f"omniflo_scratch_{NOW - age:%Y%m%d%H%M%S}_abcdef" for age in (2 * DAY, DAY / 2))
    for name in (old, young):
        database.query(f"create database {name}")
    restoring.require_databases(small, NOW)
    assert snapshots.databases(database._connection, "omniflo_scratch_") == [young]
    database.query(f"drop database {young}")
    database.close()


class Lying(Folder):
    """A disk that keeps another byte than it was given."""

    def read(self, name: str, file: str) -> Iterator[bytes]:
        data = b"".join(super().read(name, file))
        yield data[:-1] + bytes([data[-1] ^ 1]) if file == DUMP else data


@pytest.mark.soak
def test_every_day_one_is_made_and_verified_and_only_then_old_ones_go(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = settings(small, str(tmp_path / "backups"), backup_days=2)
    names: list[str] = []
    for day in range(DAILY_BACKUPS):
        done = daily.run(ours, NOW + day * DAY)
        assert done.rows > 30
        assert done.deleted == names[day - 3 : day - 2] if day >= 3 else done.deleted == []
        names.append(done.name)
    backups = list(catalog.newest_first(Folder(tmp_path / "backups")))
    assert [backup.name for backup in backups] == names[:-4:-1]
    assert all(backup.verified is not None for backup in backups)
    monkeypatch.setattr(kept, "store", lambda _: Lying(tmp_path / "backups"))
    with pytest.raises(DamagedError):
        daily.run(ours, NOW + 100 * DAY)
    newest, *others = catalog.newest_first(Folder(tmp_path / "backups"))
    assert newest.damage == f"{DUMP} is not as it was written"
    assert others == backups, "nothing went"


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    path.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount or "false", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if umount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a disk of one megabyte takes somebody who may mount one")
    try:
        yield
    finally:
        subprocess.run([umount, path], check=True)


def test_a_full_disk_leaves_the_last_good_ones(small: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with small_disk(path):
        folder = Folder(path / "backups")
        good = made(folder, small)
        about = os.statvfs(path)
        (path / "others").write_bytes(bytes(about.f_bavail * about.f_frsize - good.required().size // 2))
        for hours in (1, 2, 3):
            with pytest.raises(BackupError, match="No space left on device"):
                made(folder, small, NOW + timedelta(hours=hours))
        assert list(catalog.newest_first(folder)) == [good]
        assert set(folder.contents()) == {good.name}
        (path / "others").unlink()
        restoring.verify(folder, good, small, None, NOW)


@pytest.mark.soak
def test_a_command_that_is_killed_leaves_no_good_one_that_is_none(large: str, tmp_path: Path) -> None:
    ours = {"database_url": as_service(large), "database_owner_url": large, "backup_dir": tmp_path / "backups"}
    folder = Folder(tmp_path / "backups")
    for number in range(KILLED_BACKUPS):
        before = len(folder.contents())
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "backup", "create"],
            cwd=ROOT,
            env=environment(ours),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda before=before: len(folder.contents()) > before, within=SECONDS)  # type: ignore[misc]
        # It has begun to write.
        time.sleep(0.2 * number / KILLED_BACKUPS)
        process.kill()
        process.wait()
    found = list(catalog.newest_first(folder))
    # Later ones may have come to their end, and that of their process was cut off.
    assert len(found) < KILLED_BACKUPS == len(folder.contents())
    for backup in found:
        restoring.verify(folder, backup, large, None, NOW)
    catalog.prune(folder, 14, datetime.now(UTC) + 2 * DAY)
    assert set(folder.contents()) == {backup.name for backup in found}


@contextmanager
def looking(ours: Settings) -> Iterator[LastBackup]:
    last = LastBackup(ours)
    last.start()
    try:
        yield last
    finally:
        last.stop()


def test_age_and_size_of_the_last_good_one_are_told(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.last_backup.READ_SECONDS", 0.05)

    def told(last: LastBackup) -> list[float]:
        return [metric.samples[0].value for metric in last.metrics()]

    ours = settings(small, str(tmp_path / "backups"))
    assert told(LastBackup(ours)) == []
    with looking(ours) as last:
        eventually(lambda: told(last) == [float("inf"), 0], within=SECONDS)
        saved = made(Folder(tmp_path / "backups"), small, datetime.now(UTC) - DAY)
        eventually(lambda: told(last)[1] == saved.required().size, within=SECONDS)
        assert DAY.total_seconds() <= told(last)[0] < DAY.total_seconds() + SECONDS
        (tmp_path / "backups").rename(tmp_path / "away")
        (tmp_path / "backups").write_text("no folder")
        time.sleep(0.2)
        assert told(last)[1] == saved.required().size, "what is known stays known"


def test_who_looks_for_backups_goes_on_after_a_fault(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.last_backup.READ_SECONDS", 0.05)
    ours = settings(small, str(tmp_path / "backups"))
    saved = made(Folder(tmp_path / "backups"), small, datetime.now(UTC))
    looks: list[object] = []
    last_good = catalog.last_good

    def fail_first(store: Folder) -> catalog.Backup | None:
        looks.append(store)
        if len(looks) == 1:
            raise LookupError("of what answers in a bucket's place")
        return last_good(store)

    monkeypatch.setattr(catalog, "last_good", fail_first)
    with looking(ours) as last:
        eventually(lambda: [metric.samples[0].value for metric in last.metrics()][1:], within=SECONDS)
        eventually(lambda: list(last.metrics())[1].samples[0].value == saved.required().size, within=SECONDS)


def test_a_folder_is_made_but_not_the_one_that_it_is_in(small: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="No such file or directory"):
        made(Folder(tmp_path / "mounted" / "backups"), small, datetime.now(UTC))
    assert list(tmp_path.iterdir()) == []


def test_where_no_backup_can_be_seen_from_the_start_there_is_none(small: str, tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("no folder")
    with looking(settings(small, str(tmp_path / "backups"))) as last:
        eventually(lambda: [metric.samples[0].value for metric in last.metrics()] == [float("inf"), 0], within=SECONDS)


def test_programs_have_to_be_of_the_version_of_the_server(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        BackupError, match=r"the server is PostgreSQL 99, .*; found 1\d\.\d+ in /.*: install the client"
    ):
        programs.fitting(small, 99)
    ours = embedded.all_binaries()[0]
    version = int(subprocess.check_output([ours / "psql", "--version"], text=True).split()[2].partition(".")[0])
    monkeypatch.setattr(embedded, "all_binaries", list)
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in programs.NAMES:
        (broken / name).write_text("#!/bin/sh\nexit 1")
        (broken / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{broken}:{ours}")
    assert programs.fitting(small, version).folder == ours
    monkeypatch.setenv("PATH", str(broken))
    with pytest.raises(BackupError, match=f"the server is PostgreSQL {version}, .*; found none"):
        programs.fitting(small, version)


def test_no_secret_is_among_the_arguments_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody-else")
    version = int(
        subprocess.check_output([embedded.binaries() / "psql", "--version"], text=True).split()[2].split(".")[0]
    )
    found = programs.fitting("postgresql://omniflo:hunter2%20@host:5433/db?sslmode=require", version)
    assert "hunter2" not in found.conninfo
    assert found.environment["PGPASSWORD"] == "hunter2 "
    assert "sk-of-nobody-else" not in found.environment.values()
    with pytest.raises(BackupError, match="sslpassword"):
        programs.fitting("postgresql://omniflo@host/db?sslpassword=hunter2", version)


def test_a_program_that_fails_says_why(small: str) -> None:
    version = snapshots_version(small)
    fitting = programs.fitting(small, version)
    with pytest.raises(BackupError, match=r"pg_dump failed: .*invalid snapshot identifier"):
        list(programs.dumped(fitting, "no such snapshot", "public"))
    with pytest.raises(BackupError, match=r"pg_restore failed: .*input file"):
        programs.restored(fitting, "public", before="begin;", dump=[b"no dump"], after=lambda: "commit;")
    with pytest.raises(BackupError, match=r'psql failed: .*syntax error at or near "nonsense"'):
        programs.restored(fitting, "public", before="nonsense;", dump=[bytes(1_000_000)] * 3, after=lambda: "")


def snapshots_version(url: str) -> int:
    with snapshots.opened(url) as connection:
        return snapshots.place(connection).postgresql


def pasted(script: str, settings: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Run a block of the documentation."""
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_embedded_postgresql_is_saved_and_brought_back(tmp_path: Path, url: str) -> None:
    first: dict[str, object] = {"data_dir": tmp_path / "first"}
    there: dict[str, object] = {
        "data_dir": tmp_path / "second",
        "backup_dir": tmp_path / "backups",
        "backup_key_file": tmp_path / "key",
    }
    script = "\n".join(blocks("docs/backup.md", "Encrypt", "Make"))
    for name, path in (("backup.key", "key"), ("/var/backups/omniflo", "backups")):
        script = script.replace(name, str(tmp_path / path))
    with embedded.running(tmp_path / "first") as urls:
        with working_on(urls.owner, afterwards=url):
            migrate.up(migrate.load(), role=ROLE)
        done = pasted(script, first)
    assert done.stdout.count("good") == 2, done.stdout
    # Here the command starts it.
    done = pasted("".join(blocks("docs/backup.md", "Restore")), there)
    assert "was restored" in done.stdout
    with embedded.running(tmp_path / "second") as urls:
        assert content(urls.owner)["schema_migrations"][0] == len(migrate.load())
        database = Database(urls.owner)
        assert rights(database) == WANTED
        database.close()
