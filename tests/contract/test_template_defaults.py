"""TemplateService, through its stub: at most one default for each type, whoever asks for it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from tests.conftest import Api, fails

pytestmark = pytest.mark.modes

CLIENTS = 8
ROUNDS = 4


def get(api: Api, template: Template) -> Template:
    return api.templates.GetTemplate(GetTemplateRequest(id=template.id))


def update(api: Api, template: Template, *paths: str, **fields: Any) -> Template:
    body = Template(id=template.id, **fields)
    return api.templates.UpdateTemplate(UpdateTemplateRequest(template=body, update_mask=FieldMask(paths=paths)))


def defaults(api: Api, template_type: str) -> list[str]:
    request = ListTemplatesRequest(template_type=template_type, is_default=True)
    return [template.id for template in api.templates.ListTemplates(request).templates]


def test_a_type_starts_without_a_default(api: Api) -> None:
    assert defaults(api, api.template().template_type) == []


@pytest.mark.parametrize("by", ["create", "update", "mask"])
def test_a_new_default_takes_it_away_from_the_old_one(api: Api, by: str) -> None:
    old = api.template(is_default=True)
    elsewhere = api.template(is_default=True)
    if by == "create":
        new = api.template(template_type=old.template_type, is_default=True)
    else:
        new = api.template(template_type=old.template_type)
        new = update(api, new, *["is_default"] * (by == "mask"), is_default=True)
    assert new.is_default
    assert defaults(api, old.template_type) == [new.id]
    assert defaults(api, elsewhere.template_type) == [elsewhere.id]


def test_who_loses_the_default_has_changed(api: Api) -> None:
    old = api.template(is_default=True)
    api.template(template_type=old.template_type, is_default=True)
    after = get(api, old)
    assert after.etag != old.etag
    assert after.update_time.ToNanoseconds() > old.update_time.ToNanoseconds()
    assert (after.title, after.create_time) == (old.title, old.create_time)
    assert fails(update, api, old, title="Another", etag=old.etag).reason == "ETAG_MISMATCH"


def test_who_is_no_default_stays_as_it_is(api: Api) -> None:
    old = api.template()
    api.template(template_type=old.template_type, is_default=True)
    api.template(template_type=old.template_type, is_default=True)
    assert get(api, old) == old


def test_false_on_the_default_leaves_the_type_without_one(api: Api) -> None:
    old = api.template(is_default=True)
    api.template(template_type=old.template_type)
    assert not update(api, old, "is_default").is_default
    assert defaults(api, old.template_type) == []


def test_false_on_another_template_leaves_the_default(api: Api) -> None:
    old = api.template(is_default=True)
    other = api.template(template_type=old.template_type)
    assert update(api, other, "is_default") == other
    assert get(api, old) == old


def test_an_update_of_something_else_leaves_the_default(api: Api) -> None:
    old = api.template(is_default=True)
    assert update(api, old, title="Another title").is_default


def test_true_on_the_default_changes_nothing(api: Api) -> None:
    old = api.template(is_default=True)
    assert update(api, old, is_default=True) == old


def test_a_default_that_changes_its_type_stops_being_one(api: Api) -> None:
    moved = api.template(is_default=True)
    there = api.template(is_default=True)
    after = update(api, moved, template_type=there.template_type)
    assert (after.template_type, after.is_default) == (there.template_type, False)
    assert defaults(api, moved.template_type) == []
    assert get(api, there) == there


@pytest.mark.parametrize("paths", [(), ("template_type", "is_default"), ("is_default", "template_type")])
@pytest.mark.parametrize("was_default", [False, True])
def test_a_type_change_that_says_default_holds_in_the_new_type(
    api: Api, paths: tuple[str, ...], was_default: bool
) -> None:
    here = api.template(is_default=True)
    moved = api.template(template_type=here.template_type, is_default=was_default)
    there = api.template(is_default=True)
    after = update(api, moved, *paths, template_type=there.template_type, is_default=True)
    assert (after.template_type, after.is_default) == (there.template_type, True)
    assert defaults(api, there.template_type) == [moved.id]
    # The type that it left keeps its default, unless that was the one.
    assert defaults(api, here.template_type) == ([] if was_default else [here.id])


def test_a_type_change_that_says_no_default_is_none_in_either_type(api: Api) -> None:
    moved = api.template(is_default=True)
    there = api.template(is_default=True)
    after = update(api, moved, "template_type", "is_default", template_type=there.template_type)
    assert not after.is_default
    assert defaults(api, moved.template_type) == []
    assert defaults(api, there.template_type) == [there.id]


def test_a_default_that_is_sent_with_the_type_it_has_stays_one(api: Api) -> None:
    old = api.template(is_default=True)
    assert update(api, old, template_type=old.template_type) == old


def test_a_template_that_moves_does_not_become_a_default(api: Api) -> None:
    moved = api.template()
    there = api.template()
    assert not update(api, moved, template_type=there.template_type).is_default
    assert defaults(api, there.template_type) == []


def test_a_stale_etag_leaves_the_default_where_it_was(api: Api) -> None:
    old = api.template(is_default=True)
    other = api.template(template_type=old.template_type)
    assert fails(update, api, other, is_default=True, etag="stale").reason == "ETAG_MISMATCH"
    assert get(api, old) == old
    assert get(api, other) == other


def test_deleting_the_default_leaves_the_type_without_one(api: Api) -> None:
    old = api.template(is_default=True)
    other = api.template(template_type=old.template_type)
    api.templates.DeleteTemplate(DeleteTemplateRequest(id=old.id))
    assert defaults(api, old.template_type) == []
    assert get(api, other) == other


@pytest.mark.parametrize("by", ["create", "update", "move"])
def test_all_who_ask_at_once_succeed_and_every_reader_sees_one_default(api: Api, by: str) -> None:
    first = api.template(is_default=True)
    fields: dict[str, Any] = {"user_id": first.user_id, "model": first.model, "template_type": first.template_type}
    elsewhere = {**fields, "template_type": api.type().name}
    asking = [api.template(**(elsewhere if by == "move" else fields)) for _ in range(CLIENTS * ROUNDS)]
    start = threading.Barrier(CLIENTS + 1)
    done = threading.Event()

    def ask(client: int) -> None:
        start.wait(10)
        for template in asking[client::CLIENTS]:
            if by == "create":
                assert api.template(**fields, is_default=True).is_default
            else:
                assert update(api, template, template_type=first.template_type, is_default=True).is_default

    def watch() -> set[int]:
        start.wait(10)
        seen = set()
        while not done.is_set():
            seen.add(len(defaults(api, first.template_type)))
        return seen

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        watching = pool.submit(watch)
        try:
            list(pool.map(ask, range(CLIENTS)))
        finally:
            done.set()
        assert watching.result() == {1}
    assert len(defaults(api, first.template_type)) == 1
