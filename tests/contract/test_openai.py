"""What asks OpenAI: importing, listing and refreshing models, through the stubs and against a stand-in."""

import time
from datetime import date
from typing import Any

import grpc
import pytest
from google.type.date_pb2 import Date
from grpc import StatusCode

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import (
    AvailableModel,
    CreateModelRequest,
    ImportModelRequest,
    ListAvailableModelsRequest,
    ListModelsRequest,
    RefreshModelsRequest,
    UpdateModelRequest,
)
from omniflo.templates.v1.model_service_pb2_grpc import ModelServiceStub
from omniflo.templates.v1.template_service_pb2 import ListTemplatesRequest
from service.config import Settings
from service.server import wiring
from tests.conftest import Api, Database, fails
from tests.openai_stand_in import MODELS, Fault, StandIn, listed


def day(text: str) -> Date:
    value = date.fromisoformat(text)
    return Date(year=value.year, month=value.month, day=value.day)


def test_import_describes_the_model_as_openai_does(api: Api) -> None:
    model = api.models.ImportModel(ImportModelRequest(openai_id="o3"))
    assert (model.openai_id, model.name, model.description) == ("o3", "o3", "OpenAI o3 model")
    assert model.shutdown_date == day("2026-12-11")
    assert list(api.models.ListModels(ListModelsRequest()).models) == [model]


def test_importing_again_keeps_an_edited_name_and_refreshes_the_date(api: Api, stand_in: StandIn) -> None:
    model = api.models.ImportModel(ImportModelRequest(openai_id="o3"))
    edited = Model(id=model.id, name="Our favourite", description="Thinks.")
    edited = api.models.UpdateModel(UpdateModelRequest(model=edited))
    assert api.models.ImportModel(ImportModelRequest(openai_id="o3")) == edited
    stand_in.models["o3"] = "2027-02-01"
    again = api.models.ImportModel(ImportModelRequest(openai_id="o3"))
    assert (again.id, again.name, again.description) == (model.id, "Our favourite", "Thinks.")
    assert again.shutdown_date == day("2027-02-01")
    assert again.etag != edited.etag


def test_an_import_that_is_sent_again_asks_openai_once(api: Api, stand_in: StandIn) -> None:
    request = ImportModelRequest(openai_id="o3", request_id="import-1")
    model = api.models.ImportModel(request)
    assert api.models.ImportModel(request) == model
    with stand_in.failing(Fault.SERVER_ERROR):
        assert api.models.ImportModel(request) == model
    assert stand_in.calls["/v1/models/o3"] == 1
    failure = fails(api.models.ImportModel, ImportModelRequest(openai_id="gpt-5", request_id="import-1"))
    assert failure.reason == "REQUEST_ID_REUSED"
    assert stand_in.calls["/v1/models/gpt-5"] == 0


FAILURES = {
    Fault.RATE_LIMITED: (StatusCode.RESOURCE_EXHAUSTED, "OPENAI_RATE_LIMITED", "rate_limit_exceeded", 7),
    Fault.SERVER_ERROR: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", "server_error", 1),
    Fault.BUSY: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", "overloaded", 7),
    Fault.SILENT: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", None, 1),
    Fault.CUT: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", None, 1),
    Fault.TRUNCATED: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", None, 1),
    Fault.UNAUTHORIZED: (StatusCode.FAILED_PRECONDITION, "OPENAI_REFUSED", "invalid_api_key", None),
    Fault.FORBIDDEN: (StatusCode.FAILED_PRECONDITION, "OPENAI_REFUSED", "unsupported_country", None),
    Fault.NOT_FOUND: (StatusCode.NOT_FOUND, "OPENAI_MODEL_NOT_FOUND", "model_not_found", None),
    Fault.DRIPPING: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", None, 1),
    Fault.REDIRECT: (StatusCode.UNAVAILABLE, "OPENAI_UNAVAILABLE", None, 1),
}


@pytest.mark.parametrize("fault", FAILURES)
def test_every_fault_of_openai_has_its_error_in_time_and_leaves_nothing_behind(
    fault: Fault, api: Api, stand_in: StandIn, database: Database
) -> None:
    code, reason, openai_code, retry_seconds = FAILURES[fault]
    other = StandIn()
    stand_in.redirect_to = f"{other.url}/models/o3"
    start = time.monotonic()
    with stand_in.failing(fault):
        failure = fails(api.models.ImportModel, ImportModelRequest(openai_id="o3", request_id="1"), timeout=3)
    # The answer is the service's: its own details came before the caller gave up.
    assert (failure.code, failure.reason) == (code, reason)
    assert time.monotonic() - start < 3
    assert failure.metadata.get("openai_code") == openai_code
    assert failure.retry_seconds == retry_seconds
    assert "A text of OpenAI's" not in failure.message
    assert database.query("select count(*) from openai_models") == [(0,)]
    assert database.query("select count(*) from idempotency_keys") == [(0,)]
    # The key went to nobody else.
    assert not other.calls
    other.close()


def test_no_transaction_is_open_while_openai_is_asked(api: Api, stand_in: StandIn, database: Database) -> None:
    with stand_in.failing(Fault.SILENT):
        asked = api.models.ImportModel.future(ImportModelRequest(openai_id="o3", request_id="1"), timeout=5)
        while not stand_in.calls["/v1/models/o3"]:
            time.sleep(0.01)
        busy = database.query(
            "select state, query from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'"
        )
        asked.cancel()
    assert [row for row in busy if "pg_stat_activity" not in row[1]] == []


@pytest.mark.parametrize("fault", [fault for fault in FAILURES if fault not in {Fault.SILENT, Fault.DRIPPING}])
def test_only_what_may_be_answered_otherwise_is_asked_again(fault: Fault, api: Api, stand_in: StandIn) -> None:
    with stand_in.failing(fault):
        fails(api.models.ImportModel, ImportModelRequest(openai_id="o3"))
    # A rate limit is the caller's to wait for, and so is whatever else lasts longer than a moment.
    assert stand_in.calls["/v1/models/o3"] == (3 if fault in {Fault.SERVER_ERROR, Fault.CUT} else 1)


def test_without_a_key_the_missing_variable_is_named(url: str) -> None:
    keyless = wiring.build(Settings(auth="none", openai_api_key=None, drain_seconds=0), url)
    with grpc.insecure_channel(f"127.0.0.1:{keyless.start({'listen': '127.0.0.1:0'})['listen']}") as channel:
        failure = fails(ModelServiceStub(channel).ImportModel, ImportModelRequest(openai_id="o3"))
    keyless.drain()
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "OPENAI_NOT_CONFIGURED")
    assert failure.metadata == {"variable": "OPENAI_API_KEY"}


def test_what_openai_serves_is_listed_with_whether_it_is_here(api: Api) -> None:
    api.models.ImportModel(ImportModelRequest(openai_id="o3"))
    found: list[AvailableModel] = []
    request = ListAvailableModelsRequest(page_size=4)
    while True:
        page = api.models.ListAvailableModels(request)
        assert len(page.available_models) <= 4
        found += page.available_models
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [model.openai_id for model in found] == sorted(MODELS)
    assert [model.openai_id for model in found if model.imported] == ["o3"]
    assert {model.openai_id for model in found if not model.HasField("shutdown_date")} == {
        name for name, end in MODELS.items() if end is None
    }


def test_refresh_answers_what_changed_and_what_openai_does_not_list(api: Api, stand_in: StandIn) -> None:
    for name in ("o3", "gpt-5", "gpt-5.5"):
        api.models.ImportModel(ImportModelRequest(openai_id=name))
    api.models.CreateModel(CreateModelRequest(model=Model(openai_id="claude-5", name="Another's")))
    assert not api.models.RefreshModels(RefreshModelsRequest()).changed_models
    stand_in.models["gpt-5.5"] = "2027-06-01"
    stand_in.models["gpt-5"] = None
    del stand_in.models["o3"]
    refreshed = api.models.RefreshModels(RefreshModelsRequest(request_id="monthly"))
    # A date that OpenAI does not give stays.
    assert [model.openai_id for model in refreshed.changed_models] == ["gpt-5.5"]
    assert refreshed.changed_models[0].shutdown_date == day("2027-06-01")
    assert list(refreshed.unlisted_openai_ids) == ["claude-5", "o3"]
    assert api.models.RefreshModels(RefreshModelsRequest(request_id="monthly")) == refreshed


NO_MODELS: dict[str, Any] = {
    "an id with a space": listed("my model"),
    "an id that is not ASCII": listed("modèle"),
    "an empty id": listed(""),
    "an id of 140 characters": listed("m" * 140),
    "an id with a line break": listed("gpt-5\n"),
    "half of a character as the id": listed("\ud83d"),
    "a number as the id": listed(5),
    "null as the id": listed(None),
    "no id": {"object": "model"},
    "null": None,
    "a word": "gpt-5",
    "a list": [],
}
"""What a list may hold that is no model which a template could name."""

NO_DAYS: dict[str, Any] = {
    "an epoch": 1_796_947_200,
    "an epoch as a word": "1796947200",
    "American": "12/11/2026",
    "no day of the calendar": "2026-02-30",
    "without its dashes": "20261211",
    "followed by more": "2026-12-11, perhaps",
    "a word": "soon",
    "empty": "",
    "an object": {"year": 2026},
    "true": True,
}
"""What stands where the day is on which a model ends, and is none."""


@pytest.mark.parametrize("odd", NO_MODELS)
def test_an_entry_that_is_no_model_is_left_out(odd: str, api: Api, stand_in: StandIn) -> None:
    stand_in.odd = [NO_MODELS[odd]]
    api.models.ImportModel(ImportModelRequest(openai_id="gpt-5.5"))
    stand_in.models["gpt-5.5"] = "2027-06-01"
    found = api.models.ListAvailableModels(ListAvailableModelsRequest()).available_models
    assert [model.openai_id for model in found] == sorted(MODELS)
    refreshed = api.models.RefreshModels(RefreshModelsRequest())
    assert [model.openai_id for model in refreshed.changed_models] == ["gpt-5.5"]
    assert not refreshed.unlisted_openai_ids
    assert stand_in.calls["/v1/models"] == 2


@pytest.mark.parametrize("odd", NO_DAYS)
def test_a_day_that_is_none_leaves_its_model_without_one(odd: str, api: Api, stand_in: StandIn) -> None:
    model = api.models.ImportModel(ImportModelRequest(openai_id="o3"))
    stand_in.models["o3"] = NO_DAYS[odd]
    found = {
        model.openai_id: model
        for model in api.models.ListAvailableModels(ListAvailableModelsRequest()).available_models
    }
    assert found.keys() == MODELS.keys()
    assert not found["o3"].HasField("shutdown_date")
    # OpenAI lists it, and what is known of its end stays.
    refreshed = api.models.RefreshModels(RefreshModelsRequest())
    assert not refreshed.changed_models
    assert not refreshed.unlisted_openai_ids
    assert api.models.ImportModel(ImportModelRequest(openai_id="o3")) == model
    assert stand_in.calls == {"/v1/models": 2, "/v1/models/o3": 2}


def test_a_model_that_is_listed_twice_or_whose_owner_is_no_text_is_one_model(api: Api, stand_in: StandIn) -> None:
    twice = [listed("gpt-5", "2027-01-01"), listed("gpt-5")]
    owners = [{**listed(f"owned-{number}"), "owned_by": owner} for number, owner in enumerate(["\ud83d", None, 5])]
    stand_in.odd = [*twice, *owners]
    found = api.models.ListAvailableModels(ListAvailableModelsRequest()).available_models
    assert [model.openai_id for model in found] == sorted([*MODELS, "owned-0", "owned-1", "owned-2"])
    assert [model.owned_by for model in found if model.openai_id.startswith("owned")] == ["?", "", ""]


@pytest.mark.parametrize("openai_id", [".", "..", "../files", "models/../../files", "a//b", "/a", "a/", "a/."])
def test_an_id_that_would_ask_for_something_else_is_no_model_of_openai(
    openai_id: str, api: Api, stand_in: StandIn
) -> None:
    failure = fails(api.models.ImportModel, ImportModelRequest(openai_id=openai_id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "OPENAI_MODEL_NOT_FOUND")
    assert failure.metadata == {"openai_id": openai_id}
    assert not stand_in.calls


@pytest.mark.parametrize(
    ("openai_id", "path"),
    [
        ("a/b", "a%2Fb"),
        ("?x", "%3Fx"),
        ("a#b", "a%23b"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        ("a\\..\\b", "a%5C..%5Cb"),
        ("ft:gpt-5:acme::1", "ft:gpt-5:acme::1"),
    ],
)
def test_an_id_is_asked_for_as_one_part_of_the_path(openai_id: str, path: str, api: Api, stand_in: StandIn) -> None:
    failure = fails(api.models.ImportModel, ImportModelRequest(openai_id=openai_id))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "OPENAI_MODEL_NOT_FOUND")
    assert stand_in.calls == {f"/v1/models/{path}": 1}


def test_lists_find_what_ends_before_a_day(api: Api) -> None:
    for name in ("o3", "gpt-4.1", "gpt-5.5"):
        api.models.ImportModel(ImportModelRequest(openai_id=name))
        api.template(model=name)
    for before, expected in (("2026-12-11", []), ("2026-12-12", ["o3"]), ("2028-01-01", ["gpt-4.1", "o3"])):
        models = api.models.ListModels(ListModelsRequest(shutting_down_before=day(before))).models
        assert [model.openai_id for model in models] == expected
        templates = api.templates.ListTemplates(ListTemplatesRequest(model_shutting_down_before=day(before))).templates
        assert sorted(template.model for template in templates) == expected


def test_no_day_of_the_calendar_is_named(api: Api) -> None:
    request = ListModelsRequest(shutting_down_before=Date(year=2027, month=2, day=30))
    assert list(fails(api.models.ListModels, request).violations) == ["shutting_down_before"]
