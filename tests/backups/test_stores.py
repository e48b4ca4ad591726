"""Where backups are kept: what is there is whole, what is not whole is not there, and what may go goes."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.backups import catalog, kept
from service.backups.chunks import SIZE
from service.backups.faults import BackupError, DamagedError
from service.backups.folder import Folder
from service.backups.manifest import DUMP, FILE, File, Manifest, Table, _digest
from service.backups.store import Store
from service.config import Settings
from tests.backups.s3_server import Server

NOW = datetime(2026, 6, 20, 3, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def saved(store: Store, time: datetime = NOW, data: bytes = b"dump") -> str:
    """Write what looks like a backup made then."""
    name = catalog.new_name(time)
    manifest = Manifest(
        format=1,
        name=name,
        release="1",
        postgresql=18,
        database="omniflo",
        namespace="public",
        schema_version=25,
        epoch="e",
        start_time=time,
        seconds=1,
        tables={"users": Table(rows=1, checksum="17")},
        files={DUMP: File(size=len(data), sha256="s")},
        encryption=None,
    )
    with store.writing(name) as writer:
        writer.write(DUMP, [data[:1], data[1:]])
        writer.write(FILE, [manifest.encode()])
    return name


def newer(manifest: bytes) -> bytes:
    """Answer the manifest as a later release might write it."""
    body = json.loads(manifest) | {"format": 2}
    del body["digest"]
    return json.dumps(body | {"digest": _digest(body)}).encode()


def failing(data: bytes) -> Iterator[bytes]:
    yield data
    raise BackupError("no more")


def test_what_is_written_can_be_read(store: Store) -> None:
    assert store.contents() == {}
    big = os.urandom(65 * SIZE)
    name = saved(store, data=big)
    assert store.contents()[name][DUMP] == len(big)
    assert b"".join(store.read(name, DUMP)) == big
    (backup,) = catalog.newest_first(store)
    assert (backup.name, backup.time, backup.is_good, backup.verified) == (name, NOW, True, None)
    catalog.note(store, name, NOW + DAY, "")
    assert catalog.find(store, "latest").verified == NOW + DAY
    catalog.note(store, name, NOW + DAY, "a table is not as it was")
    with pytest.raises(DamagedError, match=f"the backup {name} is damaged: a table is not as it was"):
        catalog.find(store, name).required()
    with pytest.raises(BackupError, match="there is no good backup"):
        catalog.find(store, "latest")
    store.delete(name)
    assert store.contents() == {}


@pytest.mark.parametrize("size", [10, 40 * SIZE])
def test_nothing_stays_of_one_that_failed(store: Store, size: int) -> None:
    name = saved(store)
    with pytest.raises(BackupError, match="no more"), store.writing(catalog.new_name(NOW + DAY)) as writer:
        writer.write(DUMP, failing(bytes(size)))
    assert set(store.contents()) == {name}


def test_one_without_a_manifest_is_none_and_goes_after_a_day(store: Store) -> None:
    good = saved(store)
    young, old = catalog.new_name(NOW - DAY / 2), catalog.new_name(NOW - 2 * DAY)
    # As processes that were killed leave them.
    killed = [store.writing(name) for name in (young, old)]
    for writing in killed:
        writing.__enter__().write(DUMP, [b"cut"])
    assert [backup.name for backup in catalog.newest_first(store)] == [good]
    assert catalog.prune(store, 14, NOW) == []
    left = {name.removesuffix(".partial") for name in store.contents()}
    assert left == {good, young}


def test_parts_of_a_file_that_nobody_goes_on_writing_are_removed(s3: Server) -> None:
    store = kept.store(Settings(backup_dir="s3://bucket/parts"))
    client = store._client  # type: ignore[attr-defined]
    client.create_multipart_upload(Bucket="bucket", Key="parts/a/database.dump")
    store.sweep(NOW - 3650 * DAY)
    assert len(client.list_multipart_uploads(Bucket="bucket")["Uploads"]) == 1
    store.sweep(datetime.now(UTC) + DAY)
    assert not client.list_multipart_uploads(Bucket="bucket").get("Uploads")
    assert s3.folder.exists()


def test_two_of_one_second_are_in_their_order(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    names = [saved(store, NOW + timedelta(milliseconds=number)) for number in (0, 1, 20, 300, 999)]
    assert [backup.name for backup in catalog.newest_first(store)] == names[::-1]


def test_twenty_days_leave_fourteen(store: Store) -> None:
    names = []
    for day in range(20):
        now = NOW + day * DAY
        names.append(saved(store, now))
        catalog.prune(store, 14, now)
    assert [backup.name for backup in catalog.newest_first(store)] == names[:5:-1]
    # Nobody makes one any more.
    assert catalog.prune(store, 14, NOW + 400 * DAY) == []


def test_the_last_three_good_ones_stay_however_old_they_are(store: Store) -> None:
    old = [saved(store, NOW - days * DAY) for days in (90, 80, 70, 60)]
    bad = saved(store, NOW - 50 * DAY)
    catalog.note(store, bad, NOW, "flipped")
    newest = saved(store, NOW)
    assert catalog.prune(store, 14, NOW) == [old[0], old[1], bad]
    assert [backup.name for backup in catalog.newest_first(store)] == [newest, old[3], old[2]]
    # Without a good one, nothing goes.
    for name in (newest, old[3], old[2]):
        catalog.note(store, name, NOW, "flipped")
    assert catalog.prune(store, 14, NOW) == []
    assert len(store.contents()) == 3


def test_what_is_not_ours_is_left_alone(store: Store) -> None:
    with store.writing("notes") as writer:
        writer.write("manifest.json", [b"mine"])
    assert list(catalog.newest_first(store)) == []
    assert catalog.prune(store, 1, NOW + 100 * DAY) == []
    assert "notes" in store.contents()


def test_a_cut_or_changed_manifest_is_none(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    name = saved(store)
    path = tmp_path / name / FILE
    whole = path.read_bytes()
    assert catalog.find(store, name).is_good
    for at in range(0, len(whole) - 1, 7):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            # A space elsewhere says the same.
            assert not catalog.find(store, name).is_good or damaged.split() == whole.split(), damaged
    for damaged, said in ((b"[]", "cannot be read"), (newer(whole), "it has the format 2, of a newer release")):
        path.write_bytes(damaged)
        assert said in catalog.find(store, name).damage
    path.write_bytes(whole)
    store.note(name, catalog.VERIFICATION, b'{"time": ')
    assert catalog.find(store, name).is_good, "it is only a note"
    (tmp_path / name).rename(tmp_path / catalog.new_name(NOW + DAY))
    assert not next(catalog.newest_first(store)).is_good, "it is under another name"


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Folder(tmp_path / "backups")
        catalog.note(store, saved(store), NOW, "")
    finally:
        os.umask(before)
    kept_there = list(tmp_path.rglob("*"))
    assert len(kept_there) > 2
    for path in kept_there:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/dev/null/backups", "Not a directory"),
        ("s3://nobucket/prefix", "s3://nobucket/prefix/: .*NoSuchBucket"),
    ],
)
def test_a_place_that_is_none_is_named(s3: Server, place: str, said: str) -> None:
    store = kept.store(Settings(backup_dir=place))
    assert s3.url
    with pytest.raises(BackupError, match=said):
        saved(store)


def test_a_wrong_secret_of_s3_is_not_repeated(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3.url
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(BackupError, match=r"s3://bucket/: .*") as caught:
        saved(kept.store(Settings(backup_dir="s3://bucket")))
    assert "another-secret" not in str(caught.value)


def test_without_a_place_there_are_none() -> None:
    with pytest.raises(
        BackupError, match="OMNIFLO_BACKUP_DIR is not set: set it to a folder, or to s3://bucket/prefix"
    ):
        kept.store(Settings())


def test_what_somebody_else_puts_beside_the_backups_is_none_and_hides_none(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    name = saved(store)
    # A month that no year has, and a text that no parser reads to its end.
    for other, text in (("99991399T000000Z-abcdef", "{}"), ("20260621T030000Z-abcdef", "[" * 5000)):
        (tmp_path / other).mkdir()
        (tmp_path / other / FILE).write_text(text)
    assert [(backup.name, backup.is_good) for backup in catalog.newest_first(store)] == [
        ("20260621T030000Z-abcdef", False),
        (name, True),
    ]
    assert catalog.find(store, catalog.LATEST).name == name
    assert catalog.prune(store, 14, NOW + DAY) == []
