"""The sweep: deletes assistants of ours that belong to no template."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from service.actor import SYSTEM
from service.deadline import time_limit
from service.jobs.assistant_copy import is_of
from service.jobs.assistants import LONGEST_SECONDS
from service.openai_assistants import Assistants, GoneError, Missing
from service.operations import assistant_states, assistant_sweeps


def sweep(openai: Assistants, stopped: threading.Event, *, age_seconds: float) -> Mapping[str, Any]:
    """List all, and delete some of ours that are so old and were listed in the last sweep as well; count them."""
    with time_limit(LONGEST_SECONDS):
        if not assistant_states.is_on(SYSTEM):
            return {"is_on": False}
        epoch = assistant_sweeps.epoch(SYSTEM)
    try:
        ours = [listed for listed in openai.newest() if is_of(listed, epoch)]
    except GoneError:
        # The part that copies says so, and ends.
        return {"is_on": False}
    latest = time.time() - age_seconds
    attempts = {listed.id: str(listed.metadata["attempt_id"]) for listed in ours}
    with time_limit(LONGEST_SECONDS):
        doomed = assistant_sweeps.note(SYSTEM, attempts, [each.id for each in ours if each.created_at <= latest])
    deleted = 0
    for id in doomed:
        if stopped.is_set():
            break
        with time_limit(LONGEST_SECONDS):
            try:
                openai.delete(id)
            except Missing:
                pass
            else:
                deleted += 1
            assistant_sweeps.forget(SYSTEM, id)
    return {"ours": len(ours), "deleted": deleted}
