"""Templates copied as assistants: what is said of them, and what happens when something goes wrong."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import SecretStr
from structlog.testing import capture_logs

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.selection_service_pb2 import GetSelectionRequest, ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import AssistantState, ReasoningEffort, Template, Variable
from omniflo.templates.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    SyncTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import (
    CodeInterpreterConfig,
    FileSearchConfig,
    OpenAIToolType,
    TemplateTool,
)
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateToolRequest
from service.actor import SYSTEM
from service.config import Settings
from service.deadline import time_limit
from service.job_metrics import Copies as Counted
from service.jobs.assistant_copy import Copier, metadata_of
from service.jobs.assistants import Off
from service.jobs.sweeping import sweep
from service.jobs.tasks import TASKS, Run, schedule
from service.models.assistants import Copies
from service.openai_assistants import Assistants
from service.openai_gateway import Gateway
from service.operations import assistant_states
from service.operations import assistants as operations
from service.operations.assistants import Held, Hints
from tests.conftest import Api, Database, as_service
from tests.contract.tables import taken_for_small
from tests.e2e.serving import eventually
from tests.jobs.copying import copying, is_in_step, kept
from tests.openai_stand_in import KEY, Fault, StandIn
from tests.scale import TEMPLATES_OF_A_TYPE

SECONDS = 120.0
SCHEMA = '{"type":"object", "properties" : {"a": {"type": "string", "const": 1.50}},\n"required":[]}'

Start = Callable[..., AbstractContextManager[Any]]
Wait = Callable[[], None]


@pytest.fixture
def start(api: Api, database: Database, stand_in: StandIn) -> Start:
    """Start the copying; with other settings than usual, if they are given."""
    del api
    stand_in.faults.retry_after, stand_in.faults.silent_seconds = "0", 0.3
    return partial(copying, as_service(database.url), stand_in.url)


@pytest.fixture
def in_step(database: Database, stand_in: StandIn) -> Wait:
    """Wait until each template has its assistant."""

    def wait() -> None:
        eventually(lambda: is_in_step(stand_in, database), within=SECONDS)

    return wait


@pytest.fixture
def made(api: Api) -> dict[str, Any]:
    """What most templates have: models that the stand-in knows."""
    api.models.CreateModel(CreateModelRequest(model=Model(openai_id="gpt-4o", name="GPT-4o")))
    api.models.CreateModel(CreateModelRequest(model=Model(openai_id="gpt-5", name="GPT-5")))
    return {"model": "gpt-4o", "template_type": api.type().name, "user_id": api.user().id}


@pytest.fixture
def there(stand_in: StandIn) -> Iterator[Assistants]:
    gateway = Gateway(SecretStr(KEY), stand_in.url)
    yield Assistants(gateway)
    gateway.stop()


def update(api: Api, template: Template, **fields: Any) -> Template:
    changed = Template(id=template.id, **fields)
    return api.templates.UpdateTemplate(
        UpdateTemplateRequest(template=changed, update_mask=FieldMask(paths=list(fields)))
    )


def delete(api: Api, template: Template) -> None:
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))


def make(stand_in: StandIn, metadata: dict[str, str]) -> dict[str, Any]:
    """Have somebody else create an assistant."""
    told = stand_in.assistants.write("", {"model": "gpt-4o", "metadata": metadata})
    assert told is not None
    return told


def states(database: Database) -> dict[str, str]:
    return dict(database.query("select template_id, state::text from assistants"))


def the_one(stand_in: StandIn, template: Template) -> dict[str, Any]:
    (told,) = kept(stand_in)[template.id]
    return told


def test_an_assistant_says_what_its_template_says_and_goes_with_it(
    api: Api, start: Start, in_step: Wait, stand_in: StandIn, made: dict[str, Any], database: Database
) -> None:
    kind = OpenAIToolType
    find, run = FileSearchConfig(vector_store_ids=["vs_1"]), CodeInterpreterConfig(file_ids=["file-1"])
    tools = [
        TemplateTool(name="find", type=kind.OPEN_AI_TOOL_TYPE_FILE_SEARCH, file_search=find),
        TemplateTool(name="run", type=kind.OPEN_AI_TOOL_TYPE_CODE_INTERPRETER, code_interpreter=run),
        TemplateTool(name="write", type=kind.OPEN_AI_TOOL_TYPE_FUNCTION, description="Writes.", schema=SCHEMA),
    ]
    for tool in tools:
        tool.template_type = made["template_type"]
        api.types.CreateTemplateTool(CreateTemplateToolRequest(template_tool=tool))
    template = api.template(title="One", temperature=0.5, **made)
    variables = [Variable(name="tone", default_value="prose")]
    other = api.template(
        **made | {"model": "gpt-5"},
        instructions="In {{tone}}.",
        variables=variables,
        temperature=0.5,
        reasoning_effort=ReasoningEffort.REASONING_EFFORT_LOW,
    )
    with start():
        in_step()
        told = the_one(stand_in, template)
        assert (told["name"], told["instructions"], told["temperature"]) == ("One", "Do it.", 0.5)
        assert [tool["type"] for tool in told["tools"]] == ["file_search", "code_interpreter", "function"]
        assert told["tool_resources"]["file_search"] == {"vector_store_ids": ["vs_1"]}
        assert told["tool_resources"]["code_interpreter"] == {"file_ids": ["file-1"]}
        (body,) = [each.body for each in stand_in.assistants if each.told == told]
        assert SCHEMA in body, "byte for byte"
        second = the_one(stand_in, other)
        assert (second["instructions"], second["reasoning_effort"]) == ("In prose.", "low")
        assert second["temperature"] == 1.0, "the model does not take it"
        # What changes below a template reaches it, also by SQL.
        database.query("update template_tools set description = 'Writes it.' where name = 'write'")
        update(api, template, title="Two", instructions="Do it well.")
        in_step()
        assert the_one(stand_in, template)["id"] == told["id"]
        assert the_one(stand_in, template)["tools"][2]["function"]["description"] == "Writes it."
        database.query("update openai_models set openai_id = 'gpt-4.1' where openai_id = 'gpt-4o'")
        database.query("update templates set temperature = null")
        in_step()
        assert the_one(stand_in, template)["model"] == "gpt-4.1"
        assert set(states(database).values()) == {"synced"}
        # A copy could not fill in what is required.
        update(api, other, variables=[Variable(name="tone", required=True)])
        in_step()
        assert states(database)[other.id] == "none"
        delete(api, template)
        eventually(lambda: not states(database).keys() - {other.id}, within=SECONDS)
    assert not list(stand_in.assistants)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.RATE_LIMITED,
        Fault.SERVER_ERROR,
        Fault.LOST,
        Fault.BAD_GATEWAY,
        Fault.CUT,
        Fault.TRUNCATED,
        Fault.BROKEN,
        Fault.UNAUTHORIZED,
        Fault.SILENT,
    ],
    ids=str,
)
def test_each_template_has_one_assistant_whatever_goes_wrong_once(
    fault: Fault, api: Api, start: Start, in_step: Wait, stand_in: StandIn, made: dict[str, Any], database: Database
) -> None:
    stand_in.assistants.late_seconds = 0.2
    foreign = make(stand_in, {"attempt_id": "somebody's"})
    template = api.template(**made)
    stand_in.faults.next.append(fault)
    with start():
        in_step()
        acts: list[Callable[[], object]] = [
            lambda: update(api, template, title="Another"),
            lambda: delete(api, template),
        ]
        for act in acts:
            stand_in.faults.next.append(fault)
            act()
            in_step()
            eventually(lambda: not stand_in.faults.next, within=SECONDS)
            in_step()
    assert database.query("select * from assistants") == []
    assert [each.told for each in stand_in.assistants] == [foreign]


def test_an_attempt_is_marked_before_it_is_made_and_looked_up_only_after_it_has_settled(
    api: Api,
    start: Start,
    in_step: Wait,
    stand_in: StandIn,
    made: dict[str, Any],
    database: Database,
    there: Assistants,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in.assistants.late_seconds = 0.3
    template = api.template(**made)
    seen: list[Any] = []
    write = stand_in.assistants.write

    def noting(id: str, request: dict[str, Any], *rest: Any) -> Any:
        if not id:
            # On another thread than the test's.
            with closing(Database(database.url)) as other:
                row = other.query("select attempt_id, assistant_id from assistants")
            seen.append((request["metadata"]["attempt_id"], *row))
        return write(id, request, *rest)

    monkeypatch.setattr(stand_in.assistants, "write", noting)
    stand_in.faults.next.append(Fault.LOST)
    with start():
        in_step()
    (attempt_id, row), *more = seen
    assert (row, more) == ((attempt_id, None), []), "marked first, and made once"
    assert database.query("select attempt_id from assistants") == [(attempt_id,)]
    # What was made twice: the recorded one stays, and the other one goes when it was listed twice.
    ((epoch,),) = database.query("select epoch::text from registry")
    metadata = metadata_of(epoch, template.id, "another")
    twin = make(stand_in, metadata)
    stand_in.assistants.age(twin["id"], 100)
    swept = [sweep(there, Event(), age_seconds=10)["deleted"] for _ in range(2)]
    assert (swept, stand_in.assistants.deleted) == ([0, 1], [twin["id"]])


def test_who_is_about_to_create_an_assistant_may_not_once_none_is_wanted(api: Api, made: dict[str, Any]) -> None:
    template = api.template(**made)

    def compared(before: str | None, after: str) -> None:
        assert operations.note(SYSTEM, Hints([template.id]), before=before, after=after)
        operations.compare(SYSTEM)

    compared(operations.switch(SYSTEM, is_on=True), "1")
    held = operations.take(SYSTEM, 60)
    assert held is not None
    update(api, template, instructions="In {{tone}}.", variables=[Variable(name="tone", required=True)])
    compared("1", "2")
    # Should it be killed after the request, nobody would look for what it has made.
    assert not operations.mark(SYSTEM, held, "an-attempt")
    assert operations.take(SYSTEM, 60) is None
    update(api, template, instructions="Do it.", variables=[])
    compared("2", "3")
    assert operations.take(SYSTEM, 60) is not None


def test_a_copy_that_is_put_off_keeps_its_place(api: Api, made: dict[str, Any]) -> None:
    templates = [api.template(**made).id for _ in range(4)]
    assert operations.note(SYSTEM, Hints(templates), before=operations.switch(SYSTEM, is_on=True), after="1")
    operations.compare(SYSTEM)

    def taken() -> Held:
        found = operations.take(SYSTEM, 60)
        assert found is not None
        return found

    first = taken()
    operations.put_off(SYSTEM, first, 0.3, "OPENAI_UNAVAILABLE")
    second = taken()
    assert first.template_id != second.template_id, "the first one has to wait"
    time.sleep(0.4)
    assert taken().template_id == first.template_id
    # What changes meanwhile is not put off any more, and keeps its place too.
    operations.put_off(SYSTEM, second, 60, "OPENAI_UNAVAILABLE")
    update(api, api.templates.GetTemplate(GetTemplateRequest(id=second.template_id)), title="Another")
    assert operations.note(SYSTEM, Hints([second.template_id]), before="1", after="2")
    operations.compare(SYSTEM)
    assert taken().template_id == second.template_id
    # No worker asks a server that wants to be left alone; whoever starts asks anew.
    operations.leave_alone(SYSTEM, 60)
    operations.leave_alone(SYSTEM, 0)
    assert operations.take(SYSTEM, 60) is None
    operations.switch(SYSTEM, is_on=True)
    assert taken().template_id not in {first.template_id, second.template_id}


def test_what_an_attempt_has_left_is_looked_for_once_it_is_settled(
    api: Api, stand_in: StandIn, there: Assistants, database: Database, made: dict[str, Any]
) -> None:
    template = api.template(**made)
    assert operations.note(SYSTEM, Hints([template.id]), before=operations.switch(SYSTEM, is_on=True), after="1")
    operations.compare(SYSTEM)
    held = operations.take(SYSTEM, 60)
    assert held is not None
    assert operations.mark(SYSTEM, held, "attempt")
    left = [make(stand_in, metadata_of(held.epoch, template.id, attempt))["id"] for attempt in ("other", "attempt")]
    held = held._replace(attempt_id="attempt", attempt_seconds=1.0, attempted_at=time.time() - 1)
    with time_limit(SECONDS):
        Copier(there, settle_seconds=60).bring_in_step(held)
        assert database.query("select assistant_id, error_code from assistants") == [(None, "OPENAI_OUTCOME_UNKNOWN")]
        database.query("update assistants set holder = %s", (held.holder,))
        Copier(there, settle_seconds=0).bring_in_step(held)
        assert database.query("select assistant_id, state::text from assistants") == [(left[1], "synced")]
        # Somebody else has deleted one.
        Copier(there, settle_seconds=0).bring_in_step(held._replace(assistant_id="asst_gone"))
        # What two attempts have made for a template that is gone goes with it.
        api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
        Copier(there, settle_seconds=60).bring_in_step(held)
        assert stand_in.assistants.deleted == []
        Copier(there, settle_seconds=0).bring_in_step(held._replace(assistant_id="asst_gone"))
        Copier(there, settle_seconds=0).bring_in_step(held)
    assert sorted(stand_in.assistants.deleted) == sorted(left)


def test_one_copy_is_taken_at_a_time_however_postgresql_joins(
    api: Api, emptying: Database, made: dict[str, Any]
) -> None:
    templates = [api.template(**made).id for _ in range(4)]
    assert operations.note(SYSTEM, Hints(templates), before=operations.switch(SYSTEM, is_on=True), after="1")
    operations.compare(SYSTEM)
    with taken_for_small(emptying, "assistants"):
        taken = [operations.take(SYSTEM, 60) for _ in templates]
    assert {held.template_id for held in taken if held is not None} == set(templates)


@pytest.mark.soak
def test_a_type_with_many_templates_is_copied_in_order_and_no_faster_than_the_server_allows(
    api: Api, start: Start, in_step: Wait, stand_in: StandIn, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, wait = TEMPLATES_OF_A_TYPE, 0.2
    for _ in range(count):
        api.template(**made)
    asked: list[tuple[float, str, Fault | None]] = []
    of = stand_in.faults.of

    def noting(request: str) -> Fault | None:
        fault = of(request)
        asked.append((time.monotonic(), request, fault))
        return fault

    monkeypatch.setattr(stand_in.faults, "of", noting)
    stand_in.faults.retry_after = str(wait)
    stand_in.faults.next.append(Fault.BUSY)
    with start():
        in_step()
        assert asked[1][0] - asked[0][0] >= wait, "whatever it is that it is too busy for"
        asked.clear()
        stand_in.faults.by_chance(1, {Fault.RATE_LIMITED: 0.1})
        tool = TemplateTool(template_type=made["template_type"], name="run")
        tool.type = OpenAIToolType.OPEN_AI_TOOL_TYPE_CODE_INTERPRETER
        api.types.CreateTemplateTool(CreateTemplateToolRequest(template_tool=tool))
        eventually(lambda: len([fault for *_, fault in asked if fault is None]) >= count, within=10 * SECONDS)
        in_step()
    done = [request for _, request, fault in asked if fault is None]
    assert len(done) == len(set(done)) == count, "each once"
    refused = [number for number, (*_, fault) in enumerate(asked) if fault is Fault.RATE_LIMITED]
    assert refused
    for number in refused:
        (before, request, _), (after, again, _) = asked[number : number + 2]
        assert request == again, "it keeps its place"
        assert after - before >= wait, "nothing else is asked before"
    ids = {
        f"POST /v1/assistants/{each.told['id']}": each.told["metadata"]["template_id"] for each in stand_in.assistants
    }
    assert [ids[request] for request in done] == sorted(ids.values()), "as the change reached them"


def test_the_sweep_leaves_alone_what_is_not_ours_young_or_recorded(
    api: Api,
    start: Start,
    in_step: Wait,
    stand_in: StandIn,
    made: dict[str, Any],
    database: Database,
    there: Assistants,
) -> None:
    template = api.template(**made)
    with start():
        in_step()
        ((epoch,),) = database.query("select epoch::text from registry")
        ours = metadata_of(epoch, "gone", "attempt")
        foreign = [
            {},
            {"system": "other"},
            {**ours, "epoch": str(uuid4())},
            {**ours, "system": "x"},
            {**ours, "template_id": ""},
            {key: value for key, value in ours.items() if key != "attempt_id"},
        ]
        for metadata in [*foreign, *[{**ours, "attempt_id": str(n)} for n in range(25)]]:
            make(stand_in, metadata)
        for each in stand_in.assistants:
            stand_in.assistants.age(each.told["id"], 100)
        young = make(stand_in, {**ours, "attempt_id": "young"})
        deleted = [sweep(there, Event(), age_seconds=50)["deleted"] for _ in range(4)]
        assert deleted == [0, 20, 5, 0], "listed twice, and not all at once"
    left = [each.told for each in stand_in.assistants]
    assert [told["metadata"] for told in left[1:-1]] == foreign
    assert (left[0]["metadata"]["template_id"], left[-1]) == (template.id, young)


def test_an_assistant_that_a_template_came_with_is_adopted_unless_it_is_anothers(
    api: Api, start: Start, stand_in: StandIn, made: dict[str, Any], database: Database
) -> None:
    templates = [api.template(**made) for _ in range(4)]
    metadata = [{}, metadata_of(str(uuid4()), templates[1].id, "a"), {}, {}]
    ids = [make(stand_in, each)["id"] for each in metadata]
    ids[2], ids[3] = "asst_gone", ids[0]
    before = list(stand_in.assistants)
    for template, id in zip(templates, ids, strict=True):
        database.query("update templates set assistant_id = %s where id = %s", (id, template.id))
    with start():
        eventually(lambda: list(states(database).values()) == ["synced"] * 4, within=SECONDS)
    recorded = dict(database.query("select template_id, assistant_id from assistants"))
    assert {recorded[templates[0].id], recorded[templates[3].id]} & {ids[0]}, "one of the two has it"
    assert len(set(recorded.values())) == 4
    assert ids[1] not in recorded.values()
    assert before[1:] == [
        each for each in stand_in.assistants if each.told["id"] in {it.told["id"] for it in before[1:]}
    ]


def test_a_restored_database_touches_nothing_of_the_one_that_it_was(
    api: Api,
    start: Start,
    in_step: Wait,
    stand_in: StandIn,
    made: dict[str, Any],
    database: Database,
    there: Assistants,
) -> None:
    template = api.template(**made)
    with start():
        in_step()
    before = list(stand_in.assistants)
    owner = Database(database.url)
    owner.query("update registry set system_identifier = 1")
    owner.close()
    update(api, template, title="Restored")
    with start():
        eventually(
            lambda: set(states(database).values()) == {"synced"} and len(list(stand_in.assistants)) == 2, within=SECONDS
        )
        for _ in range(2):
            sweep(there, Event(), age_seconds=0)
    assert next(iter(stand_in.assistants)) == before[0]
    assert len(list(stand_in.assistants)) == 2


@pytest.mark.parametrize("fault", [Fault.NOT_FOUND, Fault.GONE], ids=str)
def test_a_server_without_the_api_ends_the_copying_until_the_next_start(
    fault: Fault, api: Api, start: Start, in_step: Wait, stand_in: StandIn, made: dict[str, Any], database: Database
) -> None:
    api.template(**made)
    with stand_in.failing(fault), capture_logs() as lines, start():
        eventually(lambda: any(line.get("is_on") is False for line in lines), within=SECONDS)
        eventually(lambda: set(states(database).values()) == {"none"}, within=SECONDS)
        assert not assistant_states.is_on(SYSTEM)
    assert [line["event"] for line in lines if line.get("is_on") is False] == ["assistants"], "one line"
    assert database.query("select * from assistants where hold_time > clock_timestamp()") == [], "it has let go"
    with start():
        in_step()
    with off():
        assert set(states(database).values()) == {"none"}
    with start():
        in_step()
    assert len(list(stand_in.assistants)) == 1, "it was known all the time"


@contextmanager
def off() -> Iterator[None]:
    part = Off()
    part.start()
    eventually(lambda: not assistant_states.is_on(SYSTEM), within=SECONDS)
    yield
    part.stop()


def test_what_changes_while_nobody_copies_is_copied_later_and_a_refusal_is_said(
    api: Api, start: Start, in_step: Wait, stand_in: StandIn, made: dict[str, Any], database: Database
) -> None:
    first, second = api.template(**made), api.template(**made)
    with start():
        in_step()
    delete(api, first)
    update(api, second, title="Meanwhile")
    third = api.template(title="Refused", **made | {"model": api.model().openai_id})
    with start():
        eventually(lambda: states(database) == {second.id: "synced", third.id: "failed"}, within=SECONDS)
        assert the_one(stand_in, second)["name"] == "Meanwhile"
        assert database.query("select error_code from assistants where state = 'failed'") == [("invalid_request",)]
        update(api, third, model="gpt-4o")
        in_step()
    # Where nobody can know what has changed, everything is looked at.
    database.query("update assistant_copying set position = 'x'")
    database.query("delete from assistants")
    with start():
        eventually(lambda: set(states(database).values()) == {"synced"}, within=SECONDS)


def test_callers_see_the_state_of_a_copy_and_can_have_it_written_again(
    api: Api, start: Start, in_step: Wait, stand_in: StandIn, made: dict[str, Any], database: Database
) -> None:
    created = api.template(**made)
    assert created.assistant_state == AssistantState.ASSISTANT_STATE_NONE

    def sync() -> Template:
        return api.templates.SyncTemplate(SyncTemplateRequest(id=created.id)).template

    def cached() -> Template:
        return api.templates.GetTemplate(GetTemplateRequest(id=created.id))

    def listed(state: str) -> list[str]:
        request = ListTemplatesRequest(assistant_state=AssistantState.Value(f"ASSISTANT_STATE_{state}"))
        return [template.id for template in api.templates.ListTemplates(request).templates]

    assert sync().assistant_state == AssistantState.ASSISTANT_STATE_NONE, "nothing is copied"
    assert (cached().assistant_id, listed("NONE"), listed("SYNCED")) == ("", [created.id], [])
    with start():
        in_step()
        eventually(lambda: cached().assistant_state == AssistantState.ASSISTANT_STATE_SYNCED, within=SECONDS)
        shown = cached()
        assert (shown.etag, shown.revision, shown.update_time) == (created.etag, 1, created.update_time)
        assert shown.assistant_id == the_one(stand_in, created)["id"]
        assert (listed("NONE"), listed("SYNCED")) == ([], [created.id])
        told = "select after ->> 'assistant_state' from changes where method = 'CopyTemplate' order by seq"
        assert database.query(told)[-1] == ("synced",)
        stand_in.assistants.write(shown.assistant_id, {"name": "Somebody else's"})
        with stand_in.failing(Fault.SERVER_ERROR):
            assert sync().assistant_state == AssistantState.ASSISTANT_STATE_PENDING
            assert listed("PENDING") == [created.id]
        in_step()
        stand_in.assistants.delete(shown.assistant_id)
        sync()
        in_step()
        assert the_one(stand_in, created)["id"] != shown.assistant_id
    with off():
        eventually(lambda: cached().assistant_state == AssistantState.ASSISTANT_STATE_NONE, within=SECONDS)


def test_a_server_that_is_told_of_no_copies_reads_none(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = api.user()
    template = api.template(select=True, user_id=user.id)
    place: dict[str, Any] = {"user_id": user.id, "template_type": template.template_type}
    database.query(
        "insert into assistants (template_id, epoch, state) select id, epoch, 'failed' from templates, registry"
    )

    def read() -> list[str]:
        strong = (("x-omniflo-consistency", "strong"),)
        found = [
            api.templates.GetTemplate(GetTemplateRequest(id=template.id), metadata=strong),
            api.selections.ResolveTemplate(ResolveTemplateRequest(**place), metadata=strong).template,
        ]
        assert api.selections.GetSelection(GetSelectionRequest(**place), metadata=strong).template_id == template.id
        states = [AssistantState.Name(one.assistant_state).removeprefix("ASSISTANT_STATE_") for one in found]
        for state in ("NONE", "FAILED"):
            request = ListTemplatesRequest(assistant_state=AssistantState.Value(f"ASSISTANT_STATE_{state}"))
            states += [state for _ in api.templates.ListTemplates(request).templates]
        return states

    assert set(read()) == {"FAILED"}
    monkeypatch.setattr(Copies, "are_shown", False)
    assert set(read()) == {"NONE"}


def test_the_copies_are_counted(start: Start, in_step: Wait, api: Api, made: dict[str, Any]) -> None:
    class Heard(Counted):
        def __init__(self) -> None:
            self.last: Any = None

        def count(self, states: Any, oldest_seconds: float) -> None:
            self.last = dict(states), oldest_seconds

    heard = Heard()
    api.template(**made)
    with start(metrics=heard):
        in_step()
        eventually(lambda: heard.last == ({"synced": 1}, 0.0), within=SECONDS)


def test_the_sweep_is_a_task_where_templates_are_copied(start: Start, stand_in: StandIn, url: str) -> None:
    (task,) = (task for task in TASKS if task.name == "sweep_assistants")
    settings = Settings(openai_api_key=SecretStr(KEY), openai_base_url=stand_in.url)
    assert (task.lacks(settings), schedule(task, settings)) == ("OMNIFLO_ASSISTANTS=on", None)
    settings = settings.model_copy(update={"assistants": "on"})
    assert schedule(task, settings) == task.schedule
    run = Run(settings, url, Event())
    assert task.run(run) == {"is_on": False}
    with start():
        eventually(lambda: assistant_states.is_on(SYSTEM), within=SECONDS)
        assert task.run(run) == {"ours": 0, "deleted": 0}
        with stand_in.failing(Fault.GONE):
            assert task.run(run) == {"is_on": False}
