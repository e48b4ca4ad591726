"""Who the embedded PostgreSQL runs as: whoever starts it, and where that is root, a user that nothing else runs as."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

UID = 65_523
"""Of a new data folder that root makes, or the next lower one that no user has. It needs no name, so that no user is
added: a number that is in no range from which systems give out numbers."""

_PRIVATE = ("--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all")
_MODE_FOR_GROUP = 0o710


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be had; the message says what to do."""


def unusable(data_dir: Path, why: object) -> EmbeddedError:
    """Return the error for a data folder that cannot be used."""
    return EmbeddedError(
        f"the embedded PostgreSQL cannot make its data folder {data_dir}; set OMNIFLO_DATA_DIR to another,"
        f" or OMNIFLO_DATABASE_URL to a server:\n{why}"
    )


class Account(NamedTuple):
    """A user, who may have no name."""

    uid: int
    gid: int

    def wrap(self, *arguments: str) -> list[str]:
        """Return what runs a command as this user, without a capability, and with these arguments of setpriv's."""
        setpriv = shutil.which("setpriv")
        if os.geteuid() != 0:
            return [setpriv, *_PRIVATE, *arguments] if setpriv else []
        if setpriv is None:
            raise EmbeddedError(
                "PostgreSQL refuses to run as root and there is no setpriv to change the user;"
                " run as another user, or set OMNIFLO_DATABASE_URL"
            )
        change = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        return [setpriv, *change, *_PRIVATE, *arguments]


def prepare(data_dir: Path) -> Account:
    """Make the data folder where there is none, and return who runs PostgreSQL in it: its owner.

    As root, what belongs to root or to `nobody`, as which earlier releases ran it, is handed to a user of its own.
    """
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        data_dir.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() != 0:
            return _ourselves(data_dir)
        # Whoever owns the folder above may have put a link there.
        with opened(data_dir) as folder:
            return _owner(folder)
    except (OSError, ValueError) as error:
        raise unusable(data_dir, error.strerror if isinstance(error, OSError) else error) from None


def names(account: Account) -> list[str]:
    """Return the names of those who may connect: root, whoever runs this, and the owner of the data."""
    found = {uid: _name(uid) for uid in (0, os.geteuid(), account.uid)}
    if found[os.geteuid()] is None:
        raise EmbeddedError(
            f"the user {os.geteuid()} has no name in /etc/passwd, by which PostgreSQL knows who connects;"
            " run as another user, or set OMNIFLO_DATABASE_URL"
        )
    return [name for name in found.values() if name is not None]


def runtime_folder(account: Account) -> Path:
    """Make a folder in which nobody but this user and the account can go anywhere."""
    if os.geteuid() != 0:
        return Path(tempfile.mkdtemp(prefix="omniflo-"))
    places = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - its name is made up, and new
    for place in places:
        if is_open(place):
            folder = Path(tempfile.mkdtemp(prefix="omniflo-", dir=place))
            os.chown(folder, 0, account.gid)
            folder.chmod(_MODE_FOR_GROUP)
            return folder
    raise EmbeddedError(
        f"other users than root cannot enter {places[0]}, so PostgreSQL cannot have its socket there;"
        " set TMPDIR to another folder, or OMNIFLO_DATABASE_URL to a server"
    )


def is_open(folder: Path) -> bool:
    """Whether everybody may go to the folder."""
    return all(above.stat().st_mode & 0o001 for above in (folder, *folder.parents))


@contextmanager
def opened(path: Path | str, *, inside: int | None = None) -> Iterator[int]:
    """Open a folder, and no link to one; it stays the same one whatever is put in its place."""
    found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=inside)
    try:
        yield found
    finally:
        os.close(found)


@contextmanager
def staging(data_dir: Path, account: Account) -> Iterator[tuple[int, Account]]:
    """As root, yield an empty folder and who is to fill it; afterwards it belongs to the account, as the data folder.

    initdb refuses to be somebody without a name. So `nobody` lends its own, for a moment, in a group and a folder that
    no other process of that user gets into: the group of a process also decides who may look into it.
    """
    borrowed = Account(account.uid if _name(account.uid) is not None else _nobody(), account.gid)
    with opened(data_dir.parent) as above:
        outer = tempfile.mkdtemp(prefix=".postgresql-", dir=data_dir.parent)
        try:
            with opened(outer) as place:
                os.fchown(place, 0, account.gid)
                os.fchmod(place, _MODE_FOR_GROUP)
                os.mkdir("data", 0o700, dir_fd=place)
                with opened("data", inside=place) as folder:
                    os.fchown(folder, *borrowed)
                    yield folder, borrowed
                    _hand_over(folder, borrowed.uid, account)
                # It is empty, or this fails.
                os.rename("data", data_dir.name, src_dir_fd=place, dst_dir_fd=above)
        finally:
            shutil.rmtree(outer, ignore_errors=True)


def _ourselves(data_dir: Path) -> Account:
    uid = data_dir.stat().st_uid
    if uid != os.geteuid():
        raise ValueError(f"it belongs to another user, {_name(uid) or uid}")
    return Account(uid, os.getegid())


def _owner(folder: int) -> Account:
    uid = os.fstat(folder).st_uid
    if uid in {0, _nobody()}:
        of_before, uid = uid, next(number for number in range(UID, 0, -1) if _name(number) is None)
        content = os.listdir(folder)
        if content and "PG_VERSION" not in content:
            raise ValueError("it is not empty")
        _hand_over(folder, of_before, Account(uid, uid))
    return Account(uid, _group(uid))


def _hand_over(folder: int, uid: int, account: Account) -> None:
    """Give an account what a user has in the folder, and the folder itself. Links are not followed."""
    # First, so that the user finds the way no more.
    os.fchown(folder, *account)
    for _, folders, files, inside in os.fwalk(".", dir_fd=folder):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=inside, follow_symlinks=False).st_uid == uid:
                os.chown(name, *account, dir_fd=inside, follow_symlinks=False)


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65_534
