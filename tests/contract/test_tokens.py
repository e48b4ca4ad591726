"""Tokens of writes: every write returns one, and a read that is sent one shows that write."""

from typing import Any

import grpc
import pytest

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest, UpdateTemplateRequest
from omniflo.templates.v1.user_service_pb2 import ProvisionUserRequest
from service.positions import Write
from tests.conftest import Api, Database, fails
from tests.contract import samples
from tests.contract.methods import READS, RECORDED, Method

TOKEN = "x-omniflo-token"  # noqa: S105 - a header
AT_LEAST = "x-omniflo-at-least"


def trailing(method: Method, api: Api, request: Any) -> dict[str, Any]:
    """Make a call and answer its trailing metadata."""
    _, call = method.on(api).with_call(request)
    return dict(call.trailing_metadata())


@pytest.mark.parametrize("method", RECORDED, ids=str)
def test_every_write_returns_the_transaction_that_the_log_has(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    request.request_id = "once"  # type: ignore[attr-defined]
    first = trailing(method, api, request)
    written = database.query(
        "select distinct epoch::text, transaction_id::text::bigint from changes where request_id = 'once'"
    )
    assert written == [Write.of(first[TOKEN])]
    # A retry repeats the first one, whatever has happened since.
    api.user()
    assert trailing(method, api, request)[TOKEN] == first[TOKEN]


def test_a_write_that_changes_nothing_returns_a_token_that_is_seen(api: Api, database: Database) -> None:
    user = api.user()
    _, call = api.users.ProvisionUser.with_call(ProvisionUserRequest(clerk_id=user.clerk_id))
    token = Write.of(str(dict(call.trailing_metadata())[TOKEN]))
    assert database.query("select pg_visible_in_snapshot(%s::text::xid8, pg_current_snapshot())", (str(token[1]),)) == [
        (True,)
    ]


@pytest.mark.parametrize("method", [method for method in READS if not method.descriptor.server_streaming], ids=str)
def test_no_read_returns_one(api: Api, method: Method) -> None:
    assert TOKEN not in trailing(method, api, samples.of(api, method))


@pytest.mark.parametrize(
    "metadata",
    [
        ((AT_LEAST, "x"),),
        ((AT_LEAST, ""),),
        ((AT_LEAST, Write("e", 1).token()), (AT_LEAST, Write("e", 1).token())),
    ],
)
def test_a_token_that_never_was_one_is_refused(api: Api, metadata: Any) -> None:
    failure = fails(api.templates.GetTemplate, GetTemplateRequest(id=api.template().id), metadata=metadata)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == [AT_LEAST]


def test_a_token_of_another_log_is_no_error(api: Api) -> None:
    id = api.template().id
    token = Write("00000000-0000-0000-0000-000000000000", 1).token()
    assert api.templates.GetTemplate(GetTemplateRequest(id=id), metadata=((AT_LEAST, token),)).id == id


def test_a_read_shows_the_write_of_its_token(api: Api) -> None:
    """The other processes are in tests/e2e/test_cache.py."""
    id = api.template().id
    for number in range(50):
        api.templates.GetTemplate(GetTemplateRequest(id=id))
        body = Template(id=id, title=f"title {number}")
        _, call = api.templates.UpdateTemplate.with_call(UpdateTemplateRequest(template=body))
        token = dict(call.trailing_metadata())[TOKEN]
        found = api.templates.GetTemplate(GetTemplateRequest(id=id), metadata=((AT_LEAST, token),))
        assert found.title == body.title
