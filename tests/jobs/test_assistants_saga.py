"""Templates and their assistants while workers are killed again and again, and the server does what it should not."""

import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import SecretStr

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.template_pb2 import Template, Variable
from omniflo.templates.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    SyncTemplateRequest,
    UpdateTemplateRequest,
)
from service.jobs.assistant_copy import SYSTEM_NAME, metadata_of
from service.jobs.sweeping import sweep
from service.openai_assistants import Assistants
from service.openai_gateway import Gateway
from tests.conftest import Api, Database, as_service
from tests.e2e.serving import eventually
from tests.jobs.copying import copying, is_in_step, killed_again_and_again, live
from tests.openai_stand_in import KEY, Fault, StandIn
from tests.scale import COPIED_TEMPLATES, FOREIGN_ASSISTANTS

SECONDS = 120.0
CALLERS = 4
CHANGES = 4
"""Of each template."""
CHANCES = {
    Fault.RATE_LIMITED: 0.04,
    Fault.SERVER_ERROR: 0.04,
    Fault.LOST: 0.15,
    Fault.BAD_GATEWAY: 0.03,
    Fault.CUT: 0.03,
    Fault.TRUNCATED: 0.03,
    Fault.BROKEN: 0.03,
    Fault.UNAUTHORIZED: 0.02,
    Fault.SILENT: 0.01,
    Fault.SLOW: 0.03,
}


def live_through(api: Api, number: int, made: dict[str, Any]) -> None:
    """Create a template and change it; delete some in the end."""
    random_ = random.Random(number)
    template = api.template(title=f"Template {number}", **made)
    for change in range(CHANGES):
        fields: list[dict[str, Any]] = [
            {"title": f"Change {change}"},
            {"instructions": f"Do it {change} times.", "variables": []},
            {"temperature": random_.random()},
            {"model": random_.choice(["gpt-4o", "gpt-5"])},
            {"instructions": "{{a}}", "variables": [Variable(name="a", required=random_.random() < 0.5)]},
            {"instructions": "Do it.", "variables": []},
        ]
        chosen = random_.choice(fields)
        body = Template(id=template.id, **chosen)
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, update_mask=FieldMask(paths=list(chosen))))
        api.templates.SyncTemplate(SyncTemplateRequest(id=template.id))
        Event().wait(random_.uniform(0, 0.5))
    if random_.random() < 0.4:
        api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))


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
        told = stand_in.assistants.write("", {"model": "gpt-4o", "name": "Template 1", "metadata": metadata})
        assert told is not None
        stand_in.assistants.age(told["id"], 1)
    return [each.told for each in stand_in.assistants]


@pytest.mark.soak
def test_each_template_has_one_assistant_and_nothing_else_is_touched_whatever_happens(
    api: Api, database: Database, stand_in: StandIn
) -> None:
    for model in ("gpt-4o", "gpt-5"):
        api.models.CreateModel(CreateModelRequest(model=Model(openai_id=model, name=model)))
    kinds, user = [api.type().name for _ in range(3)], api.user().id
    ((epoch,),) = database.query("select epoch::text from registry")
    foreign = others(stand_in, epoch)
    faults = stand_in.faults
    faults.retry_after, faults.silent_seconds, faults.slow_seconds, stand_in.assistants.late_seconds = (
        "0",
        0.3,
        0.2,
        0.2,
    )
    faults.by_chance(1, CHANCES)
    context = multiprocessing.get_context("spawn")

    def start() -> SpawnProcess:
        process = context.Process(target=live, args=(as_service(database.url), stand_in.url), daemon=True)
        process.start()
        return process

    def caller(number: int) -> None:
        live_through(api, number, {"model": "gpt-4o", "user_id": user, "template_type": kinds[number % 3]})

    with killed_again_and_again(start, pause=2.0) as kills:
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(caller, range(COPIED_TEMPLATES)))
        eventually(lambda: len(kills) > 1, within=SECONDS)
    faults.by_chance(1, {})
    with copying(as_service(database.url), stand_in.url):
        eventually(lambda: is_in_step(stand_in, database), within=SECONDS)
    # There was nothing to sweep: what has settled was found and adopted.
    for each in stand_in.assistants:
        stand_in.assistants.age(each.told["id"], 100)
    before = [each.told for each in stand_in.assistants]
    gateway = Gateway(SecretStr(KEY), stand_in.url)
    try:
        for _ in range(2):
            assert sweep(Assistants(gateway), Event(), age_seconds=5)["deleted"] == 0
    finally:
        gateway.stop()
    assert [each.told for each in stand_in.assistants] == before
    after = {told["id"]: told for told in before}
    assert all(after[told["id"]] | {"created_at": told["created_at"]} == told for told in foreign)
    print(f"{COPIED_TEMPLATES} templates, {len(kills)} workers killed, {len(stand_in.assistants.deleted)} deleted")
