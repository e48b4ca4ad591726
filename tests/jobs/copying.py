"""Templates copied by a part in this process, or by processes that are killed."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from service import logs
from service.actor import SYSTEM
from service.database import handle
from service.jobs import assistants as part
from service.jobs.assistants import SYSTEM_NAME, Copying, Pace
from service.openai_assistants import Assistants
from service.openai_gateway import Gateway
from service.operations import assistants as operations
from tests.conftest import Database
from tests.openai_stand_in import KEY, StandIn

PACE = Pace(tick=0.02, hold=1.5, longest=0.3, failed=0.5, counts=0.1)
SETTLE_SECONDS = 0.4
SETTLED = "select count(*) from assistants where check_time is not null or try_time is not null"
"""How many copies there is something to do of."""


@contextmanager
def copying(url: str, openai_url: str, **fields: Any) -> Iterator[Copying]:
    gateway = Gateway(SecretStr(KEY), openai_url)
    running = Copying(Assistants(gateway), url, **{"settle_seconds": SETTLE_SECONDS, "pace": PACE, **fields})
    running.start()
    try:
        yield running
    finally:
        running.stop()
        gateway.stop()


def live(url: str, openai_url: str) -> None:
    """Copy in a process of its own, until it is killed."""
    logs.configure("json", "error")
    handle.database.configure(url)
    part.STORE_SECONDS = 0.1
    with copying(url, openai_url):
        while threading.main_thread().is_alive():
            time.sleep(1)


def kept(stand_in: StandIn) -> dict[str, list[dict[str, Any]]]:
    """Answer the assistants that are ours, by the templates that their metadata name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in stand_in.assistants:
        if each.told["metadata"].get("system") == SYSTEM_NAME:
            found.setdefault(each.told["metadata"]["template_id"], []).append(each.told)
    return found


def is_in_step(stand_in: StandIn, database: Database) -> bool:
    """Whether each template has one assistant that says what it says, there is no other of ours, and nothing to do."""
    ids = [id for (id,) in database.query("select id from templates")]
    is_settled = database.query(SETTLED) == [(0,)]
    wanted = {id: found for id in ids if (found := operations.wanted(SYSTEM, id)) is not None}
    there = kept(stand_in)
    return (
        is_settled
        and there.keys() == wanted.keys()
        and all(len(found) == 1 and says(found[0], wanted[id].members) for id, found in there.items())
    )


def says(told: Mapping[str, Any], members: Mapping[str, str]) -> bool:
    """Whether an assistant says what it should; what is left to the model may be what the server takes for it."""
    defaults = {"temperature": (None, 1.0), "top_p": (None, 1.0), "response_format": (None, "auto")}
    return all(
        told.get(name) in defaults.get(name, (None,)) if text == "null" else told.get(name) == json.loads(text)
        for name, text in members.items()
    )
