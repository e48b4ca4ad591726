"""Sixteen clients that want the same rows at the same time."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from google.protobuf.field_mask_pb2 import FieldMask
from grpc import RpcError, StatusCode

from omniflo.templates.v1.selection_service_pb2 import (
    ResolutionReason,
    ResolveTemplateRequest,
    SetSelectionRequest,
)
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, UpdateTemplateRequest
from tests.conftest import Api, Database, Failure
from tests.e2e.clients import at_once, beside, say

CLIENTS = 16
EACH = 100
INCREMENTS = 10


def at_once_in(address: str, work: Callable[[int, Api], None]) -> float:
    """Do the work in all clients and answer how many seconds it took."""
    start = time.monotonic()
    at_once(address, CLIENTS, work)
    return time.monotonic() - start


def test_1600_switches_of_a_default_all_succeed_and_every_reader_sees_exactly_one(
    api: Api, address: str, url: str
) -> None:
    user, type_, model = api.user(), api.type(), api.model()
    ids = [
        api.template(user_id=user.id, template_type=type_.name, model=model.openai_id, is_default=number == 0).id
        for number in range(CLIENTS)
    ]
    looker = Database(url)

    def switch(number: int, client: Api) -> None:
        turns = random.Random(number)
        for _ in range(EACH):
            body = Template(id=turns.choice(ids), is_default=True)
            answer = client.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
            assert (answer.id, answer.is_default) == (body.id, True)

    def count(_: Api) -> int:
        ((defaults,),) = looker.query("select count(*) from templates where is_default")
        return int(defaults)

    def resolve(client: Api) -> str:
        # Without a default this is refused, and the test fails.
        answer = client.selections.ResolveTemplate(
            ResolveTemplateRequest(user_id=user.id, template_type=type_.name), timeout=10
        )
        assert answer.reason == ResolutionReason.RESOLUTION_REASON_DEFAULT
        assert answer.template.is_default
        return answer.template.id

    with beside(address, count) as counts, beside(address, resolve) as resolved:
        seconds = at_once_in(address, switch)
    looker.close()
    say(f"{CLIENTS * EACH / seconds:.0f} switches/s beside {len(counts)} and {len(resolved)} reads")
    assert set(counts) == {1}
    assert len(counts) > EACH
    assert len(set(resolved)) > CLIENTS / 2, "the reader saw the default move"


def test_1600_selections_all_succeed_and_leave_one_row_for_each_user_and_type(
    api: Api, address: str, database: Database
) -> None:
    users, types, model = [api.user() for _ in range(4)], [api.type() for _ in range(2)], api.model()
    templates = [
        api.template(user_id=users[0].id, template_type=type_.name, model=model.openai_id)
        for type_ in types
        for _ in range(4)
    ]
    lock = threading.Lock()
    written: Counter[tuple[str, str]] = Counter()

    def select(number: int, client: Api) -> None:
        turns = random.Random(number)
        for _ in range(EACH):
            user, template = turns.choice(users), turns.choice(templates)
            answer = client.selections.SetSelection(
                SetSelectionRequest(user_id=user.id, template_type=template.template_type, template_id=template.id)
            )
            assert answer.template_id == answer.template.id == template.id
            with lock:
                written[user.id, template.template_type] += 1

    seconds = at_once_in(address, select)
    say(f"{CLIENTS * EACH / seconds:.0f} selections/s")
    assert written.total() == CLIENTS * EACH
    rows = database.query("""
        select s.user_id, tt.name, count(*)
        from user_template_selections s join template_types tt on tt.id = s.template_type_id
        group by 1, 2
    """)
    assert {(user, name): count for user, name, count in rows} == dict.fromkeys(written, 1)
    assert len(written) == len(users) * len(types)


def test_of_16_editors_with_etags_every_loser_is_told_and_no_edit_is_lost(api: Api, address: str) -> None:
    id = api.template(description="0").id

    def edit(_: int, client: Api) -> int:
        losses = wins = 0
        while wins < INCREMENTS:
            read = client.templates.GetTemplate(GetTemplateRequest(id=id))
            body = Template(id=id, etag=read.etag, description=str(int(read.description) + 1))
            mask = FieldMask(paths=["description"])
            try:
                client.templates.UpdateTemplate(UpdateTemplateRequest(template=body, update_mask=mask))
            except RpcError as error:
                failure = Failure(error)
                assert (failure.code, failure.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
                assert failure.metadata["etag"] != read.etag
                losses += 1
            else:
                wins += 1
        return losses

    losses = at_once(address, CLIENTS, edit)
    say(f"{CLIENTS * INCREMENTS} edits, {sum(losses)} refused")
    assert sum(losses) > 0, "the editors met"
    assert api.templates.GetTemplate(GetTemplateRequest(id=id)).description == str(CLIENTS * INCREMENTS)
