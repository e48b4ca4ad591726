"""What a backup says of itself: where it is from, and what must be there after it was restored."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from service.backups.faults import DamagedError

FILE = "manifest.json"
DUMP = "database.dump"
FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(_Part):
    rows: int
    checksum: str
    """Of all rows, in whatever order; it depends on what they hold and on nothing else."""


class File(_Part):
    size: int
    sha256: str


class Encryption(_Part):
    cipher: Literal["AES-256-GCM"]
    key: str
    """The id of the key."""


class Manifest(_Part):
    format: Literal[1]
    name: str
    release: str
    """Of the service that made it."""
    postgresql: int
    """The major version of the server, and of the programs that made it."""
    database: str
    namespace: str
    """The schema of the database that is saved."""
    schema_version: int
    """The newest migration in it."""
    epoch: str
    start_time: datetime
    """Of the snapshot, by the database's clock: what was committed before is in it."""
    seconds: float
    """How long it took."""
    tables: Mapping[str, Table]
    files: Mapping[str, File]
    encryption: Encryption | None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    def encode(self) -> bytes:
        body = self.model_dump(mode="json")
        return json.dumps(body | {"digest": _digest(body)}, indent=2).encode() + b"\n"


def decode(data: bytes, name: str) -> Manifest:
    """Read the manifest of the backup of that name; DamagedError where it is not as it was written."""
    try:
        body: dict[str, Any] = json.loads(data)
        digest, version = body.pop("digest"), body["format"]
        if digest != _digest(body) or body["name"] != name:
            raise DamagedError(f"{FILE} is not as it was written")
        if version != FORMAT:
            raise DamagedError(f"it has the format {version}, of a newer release")
        return Manifest.model_validate(body)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError, ValidationError):
        raise DamagedError(f"{FILE} cannot be read") from None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
