"""Encrypted files: what was sealed comes back, and nothing else does."""

import base64
import random
from pathlib import Path

import pytest

from service.backups import chunks
from service.backups.faults import BackupError, DamagedError
from service.backups.sealing import Key, read_key, seal, unseal

PIECE = 64
HEAD = 49
SEALED_PIECE = PIECE + 16


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SIZE", PIECE)


def key(path: Path, secret: bytes = b"k" * 32) -> Key:
    path.write_bytes(base64.b64encode(secret) + b"\n")
    return read_key(path)


@pytest.fixture
def ours(tmp_path: Path) -> Key:
    return key(tmp_path / "key")


def opened(sealed: bytes, key: Key, name: str = "a") -> bytes:
    return b"".join(unseal([sealed[:5], sealed[5:]], key, name))


def closed(plain: bytes, key: Key) -> bytes:
    return b"".join(seal(iter([plain[:7], b"", plain[7:]]), key, "a"))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 3])
def test_what_is_sealed_comes_back(ours: Key, size: int) -> None:
    plain = random.Random(size).randbytes(size)
    sealed = closed(plain, ours)
    assert opened(sealed, ours) == plain
    assert size < PIECE or plain[:PIECE] not in sealed
    assert sealed != closed(plain, ours), "each file has a key of its own"


def test_no_byte_can_be_changed_left_out_moved_or_added(ours: Key) -> None:
    sealed = closed(bytes(3 * PIECE), ours)
    parts = [sealed[HEAD + n * SEALED_PIECE : HEAD + (n + 1) * SEALED_PIECE] for n in range(3)]
    assert sealed == sealed[:HEAD] + b"".join(parts)
    forged = {f"cut at {at}": sealed[:at] for at in range(0, len(sealed), 3)}
    forged |= {
        f"flipped at {at}": sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))
    }
    forged |= {
        "without the last piece": sealed[:-SEALED_PIECE],
        "without the first piece": sealed[:HEAD] + parts[1] + parts[2],
        "in another order": sealed[:HEAD] + parts[1] + parts[0] + parts[2],
        "twice the last piece": sealed + parts[2],
        "a byte more": sealed + b"x",
        "another salt": sealed[:17] + bytes(32) + sealed[HEAD:],
    }
    for what, bytes_ in forged.items():
        with pytest.raises(DamagedError):
            print(what, opened(bytes_, ours))


def test_no_piece_is_given_out_that_was_changed(ours: Key) -> None:
    sealed = bytearray(closed(b"x" * 3 * PIECE, ours))
    sealed[HEAD + SEALED_PIECE] ^= 1
    found: list[bytes] = []
    with pytest.raises(DamagedError):
        found.extend(unseal([bytes(sealed)], ours, "a"))
    assert found == [b"x" * PIECE]
    sealed[HEAD] ^= 1
    with pytest.raises(DamagedError):
        next(unseal([bytes(sealed)], ours, "a"))


def test_another_key_and_another_name_open_nothing(ours: Key, tmp_path: Path) -> None:
    sealed = closed(b"secret", ours)
    other = key(tmp_path / "other", b"o" * 32)
    assert other.id != ours.id
    for wrong, name in ((other, "a"), (ours, "b")):
        with pytest.raises(DamagedError):
            opened(sealed, wrong, name)


def test_a_key_says_nothing_of_itself(ours: Key) -> None:
    assert "kkkk" not in f"{ours!r} {ours}"
    assert ours.id not in b"k".hex() * 32


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(31)).decode(), "é" * 44, "x" * 44])
def test_what_is_no_key_is_refused_with_how_to_make_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(BackupError, match=r"OMNIFLO_BACKUP_KEY_FILE: .*`openssl rand -base64 32`") as caught:
        read_key(path)
    assert not text or text not in str(caught.value)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"OMNIFLO_BACKUP_KEY_FILE: .*nowhere: No such file"):
        read_key(tmp_path / "nowhere")
