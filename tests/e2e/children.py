"""Kinds of children for a supervisor, which note in a folder what becomes of them."""

import os
import time
from pathlib import Path

from service.server.processes import Life


def note(folder: Path, life: Life, what: str) -> None:
    """Leave a file that is named after the child, its process, and what happened."""
    (folder / f"{life.name} {os.getpid()} {what}").touch()


def live(life: Life, folder: Path) -> None:
    """Live until the end is asked for."""
    note(folder, life, "started")
    life.ready()
    life.wait()
    note(folder, life, "ended")


def live_quietly(life: Life, folder: Path) -> None:
    """Live, and never say to be ready."""
    note(folder, life, "started")
    life.wait()
    note(folder, life, "ended")


def fall(life: Life, folder: Path) -> None:
    """Die at once."""
    note(folder, life, "started")
    os._exit(7)


def fall_before_ready(life: Life, folder: Path) -> None:
    """Die before saying to be ready, though that is waited for."""
    fall(life, folder)


def hang(life: Life, folder: Path) -> None:
    """Go on, whatever is asked."""
    note(folder, life, "started")
    life.ready()
    time.sleep(600)
