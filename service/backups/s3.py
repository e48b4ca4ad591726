"""Backups in a bucket of S3, or of what speaks its protocol, under a prefix.

boto3 finds credentials, the region and the address in the environment or in AWS's files.
"""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from service.backups import chunks, manifest
from service.backups.faults import BackupError
from service.backups.store import Contents

try:
    import boto3
    from boto3.exceptions import Boto3Error
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
except ImportError:
    raise BackupError("backups in S3 need boto3: install omniflo-templates[server,s3]") from None

_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 5},
    # The manifest has checksums, and not everything that speaks the protocol takes these.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
# A file may have 10,000 parts, each of which is in memory once.
_TRANSFER = TransferConfig(
    multipart_threshold=32 * chunks.SIZE, multipart_chunksize=32 * chunks.SIZE, use_threads=False
)


class S3:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._bucket = parts.netloc
        self._prefix = f"{path}/" if (path := parts.path.strip("/")) else ""
        self._place = f"s3://{self._bucket}/{self._prefix}"
        with self._told():
            # The session that all would share knows credentials of before.
            self._client: Any = boto3.Session().client("s3", config=_CONFIG)

    def contents(self) -> Contents:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for key, size in self._keys(self._prefix):
            name, _, file = key.removeprefix(self._prefix).rpartition("/")
            found[name][file] = size
        return found

    def read(self, name: str, file: str) -> Iterator[bytes]:
        with self._told():
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(name, file))["Body"]
            yield from body.iter_chunks(chunks.SIZE)

    @contextmanager
    def writing(self, name: str) -> Iterator["_Writer"]:
        try:
            yield _Writer(lambda file, data: self._write(name, file, data))
        except BaseException:
            # Where it cannot be reached, this is swept later.
            with suppress(BackupError):
                self.delete(name)
            raise

    def note(self, name: str, file: str, data: bytes) -> None:
        with self._told():
            self._client.put_object(Bucket=self._bucket, Key=self._key(name, file), Body=data)

    def delete(self, name: str) -> None:
        # Without its manifest it is none, however long the rest takes.
        keys = [key for key, _ in self._keys(self._key(name, ""))]
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{manifest.FILE}")):
            with self._told():
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def sweep(self, before: datetime) -> None:
        """Remove the parts of files that nobody goes on writing."""
        with self._told(), _none_found():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )

    def _keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        with self._told():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                yield from ((item["Key"], item["Size"]) for item in page.get("Contents", ()))

    def _write(self, name: str, file: str, data: Iterable[bytes]) -> None:
        stream = io.BufferedReader(_Stream(data), chunks.SIZE)
        with self._told():
            self._client.upload_fileobj(stream, self._bucket, self._key(name, file), Config=_TRANSFER)

    def _key(self, name: str, file: str) -> str:
        return f"{self._prefix}{name}/{file}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError, ResponseParserError, OSError) as error:
            raise BackupError(f"{self._place}: {error}") from None


@contextmanager
def _none_found() -> Iterator[None]:
    """Let pass what some servers answer where no upload is open."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise


class _Writer:
    def __init__(self, write: Callable[[str, Iterable[bytes]], None]) -> None:
        self.write = write


class _Stream(io.RawIOBase):
    """Chunks as a file to read."""

    def __init__(self, data: Iterable[bytes]) -> None:
        self._chunks = iter(data)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
