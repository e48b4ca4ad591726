"""Encryption of a file in pieces: none of them can be changed, left out, put elsewhere or added, not even at the end.

Each file has a key of its own, derived from the operator's, a random salt and the names of backup and file. Each piece
is sealed by AES-256-GCM under its number, and the last one as the last: the construction called STREAM.
"""

import base64
import binascii
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.backups import chunks
from service.backups.faults import BackupError, DamagedError

CIPHER = "AES-256-GCM"
_MAGIC = b"omniflo-sealed-1\n"
_SALT_SIZE = 32
_KEY_SIZE = 32
_TAG_SIZE = 16


class Key(NamedTuple):
    """The operator's key."""

    secret: bytes
    id: str
    """Tells it from others, and nothing about it."""

    def __repr__(self) -> str:
        return f"Key({self.id})"


def read_key(path: Path) -> Key:
    """Read a key of 32 bytes in base64; BackupError where there is none."""
    try:
        secret = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise BackupError(f"OMNIFLO_BACKUP_KEY_FILE: {path}: {error.strerror}") from None
    except binascii.Error:
        secret = b""
    if len(secret) != _KEY_SIZE:
        raise BackupError(
            f"OMNIFLO_BACKUP_KEY_FILE: {path} must hold {_KEY_SIZE} random bytes in base64, such as"
            f" `openssl rand -base64 {_KEY_SIZE}` makes"
        )
    return Key(secret, _derived(secret, b"", b"id", 8).hex())


def seal(plain: Iterable[bytes], key: Key, name: str) -> Iterator[bytes]:
    """Yield a file sealed, which only `unseal` with the same key and name opens."""
    salt = secrets.token_bytes(_SALT_SIZE)
    yield _MAGIC + salt
    cipher = _cipher(key, salt, name)
    for number, piece, is_last in _numbered(chunks.pieces(plain, chunks.SIZE)):
        yield cipher.encrypt(_nonce(number, is_last), piece, None)


def unseal(sealed: Iterable[bytes], key: Key, name: str) -> Iterator[bytes]:
    """Yield what was sealed, no piece before it is known to be as it was; DamagedError where one is not."""
    stream = iter(sealed)
    head, size = b"", len(_MAGIC) + _SALT_SIZE
    while len(head) < size and (chunk := next(stream, b"")):
        head += chunk
    if len(head) < size or not head.startswith(_MAGIC):
        raise DamagedError(f"{name} does not begin as an encrypted file does")
    cipher = _cipher(key, head[len(_MAGIC) : size], name)
    for number, piece, is_last in _numbered(chunks.pieces(_after(head[size:], stream), chunks.SIZE + _TAG_SIZE)):
        try:
            yield cipher.decrypt(_nonce(number, is_last), piece, None)
        except InvalidTag:
            raise DamagedError(f"{name} cannot be decrypted: its bytes are not those that were written") from None


def _numbered(parts: Iterator[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Yield each piece with its number and whether it is the last one, which there always is, if only an empty one."""
    number, piece = 0, next(parts, b"")
    for following in parts:
        yield number, piece, False
        number, piece = number + 1, following
    yield number, piece, True


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11) + bytes([is_last])


def _cipher(key: Key, salt: bytes, name: str) -> AESGCM:
    return AESGCM(_derived(key.secret, salt, name.encode(), _KEY_SIZE))


def _derived(secret: bytes, salt: bytes, purpose: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, salt, b"omniflo backup " + purpose).derive(secret)
