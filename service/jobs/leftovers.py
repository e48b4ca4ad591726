"""What records have left at OpenAI: files that are deleted there, and responses that are cancelled."""

import threading
from collections.abc import Callable, Mapping

from service import errors
from service.actor import SYSTEM
from service.deadline import time_limit
from service.operations import processing_work

STEP_SECONDS = 60.0


def clear(undo: Mapping[str, Callable[[str], None]], stopped: threading.Event) -> dict[str, int]:
    """Undo what is left, each by its kind and its id; return how many are done, and how many are left for later."""
    done = failed = 0
    while not stopped.is_set():
        with time_limit(STEP_SECONDS):
            found = processing_work.leftovers(SYSTEM)
        if not found:
            break
        for leftover in found:
            if stopped.is_set():
                break
            with time_limit(STEP_SECONDS):
                try:
                    if not leftover.is_used:
                        undo[leftover.kind](leftover.id)
                except errors.Error:
                    failed += 1
                    if leftover.tries < processing_work.LEFTOVER_TRIES:
                        continue
                else:
                    done += 1
                processing_work.forget_leftover(SYSTEM, leftover)
    return {"done": done, "failed": failed}
