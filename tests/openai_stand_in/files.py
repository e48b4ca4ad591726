"""`/v1/files`: what is known of each file. Its content is counted and thrown away."""

import hashlib
import re
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from openai.types.file_create_params import FileCreateParams
from pydantic import ConfigDict, TypeAdapter

_PARAMS = TypeAdapter(list[FileCreateParams], config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
PIECE = 64 * 1024


class File(NamedTuple):
    id: str
    filename: str
    mime: str
    bytes: int
    digest: str
    """SHA-256, in hexadecimal."""
    purpose: str
    created_at: int
    expires_at: int | None

    def told(self) -> dict[str, Any]:
        """Return it as the API spells it."""
        told = {
            name: getattr(self, name) for name in ("id", "filename", "bytes", "purpose", "created_at", "expires_at")
        }
        return {**told, "object": "file", "status": "processed"}


class Files:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, File] = {}
        self.deleted: set[str] = set()

    def __iter__(self) -> Iterator[File]:
        with self._lock:
            return iter(list(self._files.values()))

    def get(self, id: str) -> File | None:
        with self._lock:
            return self._files.get(id)

    def delete(self, id: str) -> bool:
        with self._lock:
            if self._files.pop(id, None) is None:
                return False
            self.deleted.add(id)
            return True

    def receive(self, content_type: str, body: Iterator[bytes]) -> File:
        """Take a form, and keep what it says of its file; ValueError for what OpenAI would refuse."""
        fields: dict[str, Any] = {}
        file: tuple[str, str, int, str] | None = None
        for headers, content in _parts(content_type, body):
            name = _parameter(headers, "name")
            filename = _parameter(headers, "filename")
            if filename is None:
                outer, _, inner = name.rstrip("]").partition("[") if name else ("", "", "")
                value = b"".join(content).decode()
                fields[outer] = {**fields.get(outer, {}), inner: value} if inner else value
                continue
            if name != "file" or file is not None:
                raise ValueError("a form has one file, by the name of `file`")
            count, digest = 0, hashlib.sha256()
            for piece in content:
                count += len(piece)
                digest.update(piece)
            mime = re.search(r"(?mi)^content-type: (.*?)\r?$", headers)
            file = filename, mime[1] if mime else "", count, digest.hexdigest()
        _PARAMS.validate_python([{**fields, "file": b""}])
        if file is None or not file[2]:
            raise ValueError("File is empty.")
        now = int(time.time())
        seconds = int(fields.get("expires_after", {}).get("seconds", 0))
        if seconds and not 3600 <= seconds <= 2_592_000:
            raise ValueError("expires_after.seconds must be 3600 to 2592000")
        kept = File(f"file-{uuid.uuid4().hex}", *file, fields["purpose"], now, now + seconds if seconds else None)
        with self._lock:
            self._files[kept.id] = kept
        return kept

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of the list, the newest first unless the query says otherwise."""
        found = [file for file in self if query.get("purpose") in {None, file.purpose}]
        if query.get("order", "desc") == "desc":
            found.reverse()
        after = [file.id for file in found].index(query["after"]) + 1 if query.get("after") else 0
        page = found[after : after + int(query.get("limit", 10_000))]
        return {"object": "list", "data": [file.told() for file in page], "has_more": after + len(page) < len(found)}


def _parts(content_type: str, body: Iterator[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the headers of each part of a form, and its content, which must be read before the next."""
    kind, _, boundary = content_type.partition("; boundary=")
    if kind != "multipart/form-data" or not boundary:
        raise ValueError(f"a file comes in multipart/form-data, and this is {content_type}")
    mark = b"\r\n--" + boundary.encode()
    reader = _Reader(body)
    reader.held = b"\r\n"
    if b"".join(islice(reader.until(mark), 2)):
        raise ValueError("a form begins with its boundary")
    while (end := reader.take(2)) == b"\r\n":
        headers = b"".join(reader.until(b"\r\n\r\n"))
        yield headers.decode(), reader.until(mark)
    if end != b"--" or reader.rest() not in {b"", b"\r\n"}:
        raise ValueError("a form ends with its boundary")


class _Reader:
    """Reads a body piece by piece."""

    def __init__(self, body: Iterator[bytes]) -> None:
        self._body = body
        self.held = b""

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Yield what comes before a mark, which is left out."""
        while (at := self.held.find(mark)) < 0:
            # The rest may be the beginning of the mark.
            cut = len(self.held) - len(mark) + 1
            if cut > 0:
                yield self.held[:cut]
                self.held = self.held[cut:]
            self._more()
        yield self.held[:at]
        self.held = self.held[at + len(mark) :]

    def take(self, count: int) -> bytes:
        while len(self.held) < count:
            self._more()
        taken, self.held = self.held[:count], self.held[count:]
        return taken

    def rest(self) -> bytes:
        return self.held + b"".join(islice(self._body, 2))

    def _more(self) -> None:
        piece = next(self._body, None)
        if piece is None:
            raise ValueError("a form ends before its boundary")
        self.held += piece


def _parameter(headers: str, name: str) -> str | None:
    """Return a parameter of the Content-Disposition, as browsers and the SDK write it."""
    found = re.search(rf'(?mi)^content-disposition: form-data;.*? {name}="((?:[^"\\]|\\.)*)"', headers)
    if found is None:
        return None
    text = re.sub(r"\\(.)", r"\1", found[1])
    return re.sub("%(22|[01][0-9A-F])", lambda code: chr(int(code[1], 16)), text)
