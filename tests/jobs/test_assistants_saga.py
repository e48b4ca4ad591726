"""Templates and their assistants while workers and PostgreSQL are killed, and the server does what it should not."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from pydantic import SecretStr

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.template_pb2 import Template, Variable
from omniflo.templates.v1.template_service_pb2 import (
    CreateTemplateRequest,
    DeleteTemplateRequest,
    SyncTemplateRequest,
    UndeleteTemplateRequest,
    UpdateTemplateRequest,
)
from service import errors
from service.database import embedded, handle, migrate
from service.jobs.assistant_copy import SYSTEM_NAME, metadata_of
from service.jobs.sweeping import sweep
from service.openai_assistants import Assistants
from service.openai_gateway import Gateway
from tests.conftest import Api, Database, Failure, as_service
from tests.e2e.clients import connected, say
from tests.e2e.serving import eventually, serving
from tests.e2e.test_faults import dead
from tests.jobs.copying import copying, is_in_step, killed_while_copying
from tests.migrations.conftest import working_on
from tests.openai_stand_in import KEY, Fault, StandIn
from tests.scale import (
    COPIED_TEMPLATES,
    COPYING_KILLS,
    COPYING_WORKERS,
    FOREIGN_ASSISTANTS,
    LATE_SECONDS,
    POSTGRESQL_KILLS,
)

SECONDS = 120.0
CALLERS = 8
SETTLE_SECONDS = 1.5 * LATE_SECONDS
SWEEP_AGE_SECONDS = 5.0
CHANCES = {
    Fault.RATE_LIMITED: 0.04,
    Fault.SERVER_ERROR: 0.04,
    Fault.BUSY: 0.03,
    Fault.LOST: 0.15,
    Fault.BAD_GATEWAY: 0.03,
    Fault.CUT: 0.03,
    Fault.TRUNCATED: 0.03,
    Fault.BROKEN: 0.03,
    Fault.UNAUTHORIZED: 0.02,
    Fault.SILENT: 0.01,
    Fault.SLOW: 0.03,
}


@pytest.fixture
def own_postgres(tmp_path: Path, url: str) -> Iterator[embedded.Server]:
    """A PostgreSQL that may be killed, whose migrated database this thread works on."""
    running = embedded.Server(tmp_path, ["-c", "fsync=off", "-c", "max_connections=200"])
    running.start()
    with working_on(running.url, afterwards=url):
        migrate.up(migrate.load(), role="omniflo_service")
        yield running
    running.stop()


def insist(method: Any, request: Message) -> Any:
    """Make a call until PostgreSQL is there; answer None for a template that is deleted or is not."""
    give_up = time.monotonic() + SECONDS
    while True:
        try:
            return method(request, timeout=SECONDS)
        except grpc.RpcError as error:
            failure = Failure(error)
            if failure.code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}:
                return None
            assert failure.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}, failure.message
            assert time.monotonic() < give_up
            time.sleep(0.1)


def change(api: Api, id: str, dice: random.Random) -> None:
    """Change a template, have it copied again, delete it, or undelete it."""
    changes: list[dict[str, Any]] = [
        {"title": f"Change {dice.random()}"},
        {"instructions": f"Do it {dice.random()} times.", "variables": []},
        {"temperature": dice.random()},
        {"model": dice.choice(["gpt-4o", "gpt-5"])},
        {"instructions": "{{a}}", "variables": [Variable(name="a", required=True)]},
        {"instructions": "Do it.", "variables": []},
    ]
    match dice.randrange(10):
        case 0:
            insist(api.templates.DeleteTemplate, DeleteTemplateRequest(id=id))
        case 1:
            insist(api.templates.UndeleteTemplate, UndeleteTemplateRequest(id=id))
        case 2 | 3:
            insist(api.templates.SyncTemplate, SyncTemplateRequest(id=id))
        case _:
            fields = dice.choice(changes)
            template, mask = Template(id=id, **fields), FieldMask(paths=list(fields))
            insist(api.templates.UpdateTemplate, UpdateTemplateRequest(template=template, update_mask=mask))


@contextmanager
def changing(api: Api, made: dict[str, Any], kinds: list[str]) -> Iterator[list[str]]:
    """Create and change templates for the time of the block, by many callers; yield the ids of those that are there."""
    over, ids, last = threading.Event(), list[str](), iter(range(COPIED_TEMPLATES))

    def call(number: int) -> None:
        dice = random.Random(number)
        while not over.is_set():
            if (title := next(last, None)) is not None:
                template = Template(title=f"Template {title}", template_type=kinds[title % len(kinds)], **made)
                ids.append(insist(api.templates.CreateTemplate, CreateTemplateRequest(template=template)).id)
            change(api, dice.choice(ids), dice)
            over.wait(dice.uniform(0, 0.2))

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call, number) for number in range(CALLERS)]
        try:
            yield ids
        finally:
            over.set()
        for caller in callers:
            caller.result()


@contextmanager
def sweeping(openai_url: str) -> Iterator[list[int]]:
    """Sweep again and again for the time of the block; yield how many each has deleted."""
    over, deleted = threading.Event(), list[int]()

    def go_on() -> None:
        while not over.wait(1.0):
            # PostgreSQL may be away, and the server misbehaves.
            with suppress(errors.Error):
                deleted.append(swept(openai_url))
        handle.database.drop()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield deleted
    finally:
        over.set()
        thread.join()


def swept(openai_url: str) -> int:
    gateway = Gateway(SecretStr(KEY), openai_url)
    try:
        return int(sweep(Assistants(gateway), threading.Event(), age_seconds=SWEEP_AGE_SECONDS).get("deleted", 0))
    finally:
        gateway.stop()


def others(stand_in: StandIn, epoch: str) -> list[dict[str, Any]]:
    """Have assistants of somebody else, some of which look as if they were ours."""
    ours = metadata_of(epoch, "a-template", "an-attempt")
    forged = [
        {**ours, "epoch": str(uuid4())},
        {**ours, "system": f"{SYSTEM_NAME}-2"},
        {name: text for name, text in ours.items() if name != "attempt_id"},
        {name: text for name, text in ours.items() if name != "template_id"},
        {"epoch": epoch},
    ]
    for metadata in [*forged, *[{"n": str(n)} for n in range(FOREIGN_ASSISTANTS)]]:
        make(stand_in, metadata)
    return [each.told for each in stand_in.assistants]


def make(stand_in: StandIn, metadata: dict[str, str]) -> str:
    """Have an assistant that somebody made an hour ago."""
    told = stand_in.assistants.write("", {"model": "gpt-4o", "name": "Template 1", "metadata": metadata})
    assert told is not None
    stand_in.assistants.age(told["id"], 3600)
    return str(told["id"])


def came_with(api: Api, database: Database, made: dict[str, Any], assistant_id: str) -> str:
    """Have a template that names an assistant."""
    template = api.template(**made)
    database.query("update templates set assistant_id = %s where id = %s", (assistant_id, template.id))
    return template.id


@pytest.mark.soak
@pytest.mark.parametrize("workers", COPYING_WORKERS)
def test_each_template_has_one_assistant_and_nothing_else_is_touched_whatever_happens(
    workers: int, own_postgres: embedded.Server, stand_in: StandIn, tmp_path: Path
) -> None:
    url, faults = as_service(own_postgres.url), stand_in.faults
    faults.retry_after, faults.silent_seconds, faults.slow_seconds = "0", 0.3, 0.2
    stand_in.assistants.late_seconds = LATE_SECONDS
    database = Database(own_postgres.url)
    with serving(own_postgres.url, tmp_path / "log") as service, connected(service.address) as api:
        for model in ("gpt-4o", "gpt-5"):
            api.models.CreateModel(CreateModelRequest(model=Model(openai_id=model, name=model)))
        kinds, made = [api.type().name for _ in range(3)], {"model": "gpt-4o", "user_id": api.user().id}
        made["instructions"] = "Do it."
        ((epoch,),) = database.query("select epoch::text from registry")
        foreign = others(stand_in, epoch)
        of_ours = {"template_type": kinds[0], **made}
        for told in (foreign[0], foreign[2], foreign[3]):
            came_with(api, database, of_ours, told["id"])
        brought = make(stand_in, {})
        adopting = came_with(api, database, of_ours, brought)
        database.close()
        faults.by_chance(1, CHANCES)
        with (
            killed_while_copying(url, stand_in.url, settle_seconds=SETTLE_SECONDS, workers=workers) as kills,
            changing(api, made, kinds) as ids,
            sweeping(stand_in.url) as deleted,
        ):
            for number in range(1, POSTGRESQL_KILLS + 1):
                wanted = number * COPYING_KILLS // (POSTGRESQL_KILLS + 1)
                eventually(lambda wanted=wanted: len(kills) >= wanted, within=10 * SECONDS)  # type: ignore[misc]
                with dead(own_postgres):
                    pass
            eventually(lambda: len(kills) >= COPYING_KILLS, within=10 * SECONDS)
            eventually(lambda: len(ids) == COPIED_TEMPLATES, within=SECONDS)
    faults.by_chance(1, {})
    database, began = Database(own_postgres.url), time.monotonic()
    with copying(url, stand_in.url, settle_seconds=SETTLE_SECONDS):
        eventually(lambda: is_in_step(stand_in, database), within=SECONDS)
    say(
        f"{workers} workers at once, {len(kills)} killed, PostgreSQL {POSTGRESQL_KILLS} times, {len(ids)} templates,"
        f" {sum(stand_in.calls.values())} requests, {len(stand_in.assistants.deleted)} deleted,"
        f" in step {time.monotonic() - began:.1f} s afterwards"
    )
    assert database.query("select template_id from assistants where assistant_id = %s", (brought,)) == [(adopting,)]
    database.close()
    # There was nothing to sweep: what has settled was found and adopted.
    assert deleted
    for each in stand_in.assistants:
        stand_in.assistants.age(each.told["id"], 100)
    stray = make(stand_in, metadata_of(epoch, "a-template", "a-lost-attempt"))
    before = [each.told for each in stand_in.assistants]
    deleted += [swept(stand_in.url), swept(stand_in.url)]
    assert (sum(deleted[:-1]), deleted[-1]) == (0, 1), "only what was listed twice"
    after = [each.told for each in stand_in.assistants]
    assert after == [told for told in before if told["id"] != stray]
    there = {told["id"]: told for told in after}
    assert all(there[told["id"]] | {"created_at": told["created_at"]} == told for told in foreign)
