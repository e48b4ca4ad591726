"""The environment: what is read from it, but for what pydantic-settings reads. Nothing else reads it."""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

MOST_BYTES = 65_536
"""Of a secret in a file."""


class SecretError(Exception):
    """A file with a secret is of no use; the message names the variable, and not its value, which may be the secret."""


def file_of(name: str) -> str:
    """Return the variable that names a file with the value of another one."""
    return f"{name}_FILE"


def from_files(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the values of those variables that are in files; SecretError names those that cannot be had."""
    paths = {name: path for name, variable in secrets.items() if (path := os.environ.get(file_of(variable)))}
    both = [secrets[name] for name in paths if os.environ.get(secrets[name])]
    if both:
        raise SecretError("\n".join(f"{name} and {file_of(name)} are both set: unset one of them" for name in both))
    return {name: _content(Path(path), file_of(secrets[name])) for name, path in paths.items()}


def unknown(prefix: str, known: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the variables that begin like settings and are none, each with the setting that has the nearest name."""
    names = {name.removeprefix(prefix): name for name in known}
    for name in sorted(os.environ):
        text = name.upper().removeprefix(prefix)
        if name.upper().startswith(prefix) and prefix + text not in names.values():
            yield name, next((names[near] for near in difflib.get_close_matches(text, names, 1)), None)


def of_postgresql() -> dict[str, str]:
    """Return what PostgreSQL's programs may know of the environment: what its library reads, and no secret of ours."""
    names = ("HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH")
    inherited = {key: value for key, value in os.environ.items() if key.startswith("PG") or key in names}
    return inherited | {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def value(name: str) -> str | None:
    return os.environ.get(name)


def _content(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SecretError(f"{name}: the file cannot be read: {error.strerror}") from None
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text or len(content) > MOST_BYTES:
        raise SecretError(f"{name}: the file must have a text of 1 to {MOST_BYTES} bytes in UTF-8")
    return text
