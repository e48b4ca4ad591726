"""ModelService, through its stub."""

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from grpc import StatusCode

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ListModelsRequest,
    UpdateModelRequest,
)
from omniflo.templates.v1.template_service_pb2 import DeleteTemplateRequest
from tests.conftest import Api, Failure, fails
from tests.contract.walks import walk

pytestmark = pytest.mark.modes

DAY = Date(year=2027, month=3, day=31)


def create(api: Api, **fields: Any) -> Model:
    body = Model(**{"openai_id": "gpt-5.5", "name": "GPT 5.5", **fields})
    return api.models.CreateModel(CreateModelRequest(model=body))


def get(api: Api, model: Model) -> Model:
    return api.models.GetModel(GetModelRequest(id=model.id))


def update(api: Api, model: Model, *paths: str, **fields: Any) -> Model:
    request = UpdateModelRequest(model=Model(id=model.id, **fields), update_mask=FieldMask(paths=paths))
    return api.models.UpdateModel(request)


def assert_invalid(failure: Failure, *names: str) -> None:
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(failure.violations) == {f"model.{name}" for name in names}


def test_create_answers_the_model_as_it_was_sent(api: Api) -> None:
    created = create(api, description="Good at reading.", shutdown_date=DAY)
    assert created.id
    assert created.etag
    assert (created.openai_id, created.name, created.description) == ("gpt-5.5", "GPT 5.5", "Good at reading.")
    assert created.shutdown_date == DAY
    assert get(api, created) == created


def test_an_unknown_day_is_unset(api: Api) -> None:
    created = create(api)
    assert not created.HasField("shutdown_date")
    assert created.description == ""


def test_create_refuses_an_openai_id_that_is_taken(api: Api) -> None:
    created = create(api)
    failure = fails(create, api, name="Another name")
    assert (failure.code, failure.reason) == (StatusCode.ALREADY_EXISTS, "MODEL_ALREADY_EXISTS")
    assert failure.metadata == {"field": "model.openai_id"}
    assert list(api.models.ListModels(ListModelsRequest()).models) == [created]


def test_create_wants_an_openai_id_and_a_name(api: Api) -> None:
    failure = fails(create, api, openai_id="", name="")
    assert_invalid(failure, "openai_id", "name")
    assert set(failure.violations.values()) == {"is required"}


@pytest.mark.parametrize("openai_id", ["x", "gpt-5.5", "ft:gpt-4o:org::7p", "org/model@2", "~!", "x" * 128])
def test_an_openai_id_is_printable_ascii(api: Api, openai_id: str) -> None:
    assert create(api, openai_id=openai_id).openai_id == openai_id


@pytest.mark.parametrize("openai_id", ["gpt 5", " gpt", "gpt\n", "gpté", "\x7f", "x" * 129])
def test_another_openai_id_is_refused(api: Api, openai_id: str) -> None:
    assert_invalid(fails(create, api, openai_id=openai_id), "openai_id")


@pytest.mark.parametrize("day", [(1, 1, 1), (9999, 12, 31), (2028, 2, 29)])
def test_a_shutdown_date_is_a_day(api: Api, day: tuple[int, int, int]) -> None:
    date = Date(year=day[0], month=day[1], day=day[2])
    created = create(api, shutdown_date=date)
    assert created.shutdown_date == date
    assert get(api, created) == created


@pytest.mark.parametrize(
    "day",
    [
        *((0, 0, 0), (2027, 0, 0), (2027, 3, 0), (0, 3, 31), (2027, 13, 1), (2027, 1, 32), (-1, 1, 1), (10000, 1, 1)),
        *((2027, 2, 29), (2027, 4, 31), (1900, 2, 29)),
    ],
)
def test_what_is_no_day_is_refused(api: Api, day: tuple[int, int, int]) -> None:
    date = Date(year=day[0], month=day[1], day=day[2])
    assert_invalid(fails(create, api, shutdown_date=date), "shutdown_date")
    model = create(api, shutdown_date=DAY)
    assert_invalid(fails(update, api, model, shutdown_date=date), "shutdown_date")
    assert get(api, model) == model


def test_get_answers_by_either_key(api: Api) -> None:
    model = create(api)
    api.model()
    assert get(api, model) == model
    assert api.models.GetModel(GetModelRequest(openai_id="gpt-5.5")) == model


@pytest.mark.parametrize("key", ["id", "openai_id"])
def test_get_names_the_key_that_no_model_has(api: Api, key: str) -> None:
    request = GetModelRequest(id="none") if key == "id" else GetModelRequest(openai_id="none")
    failure = fails(api.models.GetModel, request)
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert failure.metadata == {key: "none"}


def test_get_wants_a_key(api: Api) -> None:
    failure = fails(api.models.GetModel, GetModelRequest())
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["key"]


def test_list_is_by_name_in_the_order_of_bytes(api: Api) -> None:
    names = ["a", "B", "é", "b", "a b", "\N{ROCKET}", "\uff5e", "a"]
    models = [create(api, openai_id=f"m{number}", name=name) for number, name in enumerate(names)]
    models.sort(key=lambda model: (model.name.encode(), model.id.encode()))
    assert list(api.models.ListModels(ListModelsRequest()).models) == models


@pytest.mark.parametrize("character", ["x", '"', "é", "\N{ROCKET}", "\x7f", "\x01"])
def test_a_walk_over_the_longest_names_meets_every_model(api: Api, character: str) -> None:
    models = [create(api, openai_id=f"m{number}", name=character * 256) for number in range(3)]
    pages = walk(api.models.ListModels, ListModelsRequest(page_size=1))
    assert [model.id for page in pages for model in page.models] == sorted(model.id for model in models)


def test_update_writes_what_is_writable(api: Api) -> None:
    model = create(api)
    after = update(api, model, name="Another name", description="Better.", shutdown_date=DAY, etag=model.etag)
    assert (after.name, after.description, after.shutdown_date) == ("Another name", "Better.", DAY)
    assert after.etag != model.etag
    assert get(api, model) == after


def test_a_mask_empties_a_day_and_a_description(api: Api) -> None:
    model = create(api, description="Good.", shutdown_date=DAY)
    after = update(api, model, "shutdown_date", "description")
    assert not after.HasField("shutdown_date")
    assert after.description == ""
    assert after.name == model.name


def test_update_names_an_unknown_id(api: Api) -> None:
    failure = fails(update, api, Model(id="none"), name="Another name")
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert failure.metadata == {"id": "none"}


def test_delete_makes_the_openai_id_free_again(api: Api) -> None:
    old = create(api)
    assert api.models.DeleteModel(DeleteModelRequest(id=old.id, etag=old.etag)) == Empty()
    assert fails(get, api, old).reason == "MODEL_NOT_FOUND"
    new = create(api)
    assert new.id != old.id
    assert new.etag != old.etag


def test_delete_refuses_a_model_that_templates_name(api: Api) -> None:
    model = create(api)
    templates = [api.template(model=model.openai_id) for _ in range(2)]
    failure = fails(api.models.DeleteModel, DeleteModelRequest(id=model.id))
    assert (failure.code, failure.reason) == (StatusCode.FAILED_PRECONDITION, "MODEL_IN_USE")
    assert failure.metadata == {"templates": "2"}
    assert get(api, model) == model
    for template in templates:
        api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
    assert api.models.DeleteModel(DeleteModelRequest(id=model.id)) == Empty()


def test_delete_names_an_unknown_id(api: Api) -> None:
    failure = fails(api.models.DeleteModel, DeleteModelRequest(id="none"))
    assert (failure.code, failure.reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert failure.metadata == {"id": "none"}
