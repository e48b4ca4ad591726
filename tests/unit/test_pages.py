"""Page sizes and page tokens."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import protovalidate
import pytest
from google.protobuf.message import Message

from omniflo.templates.v1.model_service_pb2 import ListModelsRequest
from omniflo.templates.v1.selection_service_pb2 import ListSelectionsRequest
from omniflo.templates.v1.template_pb2 import TemplateView
from omniflo.templates.v1.template_service_pb2 import ListTemplatesRequest
from omniflo.templates.v1.template_type_service_pb2 import ListTemplateToolsRequest, ListTemplateTypesRequest
from omniflo.templates.v1.user_service_pb2 import ListUsersRequest
from service.errors import InvalidArgument
from service.operations.listing import Key, Page
from service.servicers import pages

BY_TIME = (datetime(2026, 11, 23, 23, 59, 59, 999_999, tzinfo=UTC), "tz4a98xxat96iws9zmbrgj3a")
FILTERED = ListTemplatesRequest(template_type="data-export", model="gpt-5.5", is_default=False, query="a b")


def followed(request: Any, token: str) -> Any:
    """Answer the same request with the token."""
    again = type(request)()
    again.CopyFrom(request)
    again.page_token = token
    return again


def token_of(request: Message, key: Key | None) -> str:
    return pages.token(request, Page([], key))


@pytest.mark.parametrize(
    ("asked", "size"), [(0, 50), (1, 1), (50, 50), (999, 999), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_a_page_has_as_many_rows_as_asked_for_within_bounds(asked: int, size: int) -> None:
    assert pages.size(ListUsersRequest(page_size=asked)) == size


def test_the_first_page_begins_anywhere_and_the_last_has_no_token() -> None:
    assert pages.after(ListUsersRequest(), datetime, str) is None
    assert token_of(ListUsersRequest(), None) == ""


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (ListUsersRequest(), BY_TIME),
        (ListUsersRequest(), (datetime(1, 1, 1, tzinfo=UTC), "x")),
        (ListUsersRequest(), (datetime(9999, 12, 31, tzinfo=UTC), "x")),
        (ListTemplateTypesRequest(), ("data-export",)),
        (ListTemplateToolsRequest(template_type="data-export"), ("a_tool", "id")),
        (ListModelsRequest(), ("Modèle \u2603 \U0001f600 \" \\ '", "id")),
        # Of a platform-wide selection.
        (ListSelectionsRequest(user_id="u1"), ("data-export", "")),
        (FILTERED, BY_TIME),
    ],
)
def test_a_token_brings_its_key_back(request_: Any, key: Key) -> None:
    token = token_of(request_, key)
    assert pages.after(followed(request_, token), *map(type, key)) == key
    assert token.isascii()


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", '"', "\x01"])
def test_the_token_of_the_longest_name_is_one_that_a_request_may_carry(character: str) -> None:
    token = token_of(ListModelsRequest(), (character * 256, "x" * 64))
    protovalidate.validate(ListModelsRequest(page_token=token))


def test_the_size_of_the_page_may_change_on_the_way() -> None:
    token = token_of(ListUsersRequest(page_size=10), BY_TIME)
    assert pages.after(ListUsersRequest(page_size=20, page_token=token), datetime, str) == BY_TIME


def refused(request: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        pages.after(request, datetime, str)
    return caught.value


def test_a_refused_token_is_named() -> None:
    error = refused(followed(ListUsersRequest(), "x"))
    assert error.reason == "PAGE_TOKEN_INVALID"
    assert [field for field, _ in error.violations] == ["page_token"]


@pytest.mark.parametrize(
    "other",
    [
        ListTemplatesRequest(),
        ListTemplatesRequest(template_type="data-export", model="gpt-5.5", query="a b"),
        ListTemplatesRequest(template_type="data-export", model="gpt-5.5", is_default=True, query="a b"),
        ListTemplatesRequest(template_type="data-export", model="gpt-5.5", is_default=False, query="a"),
        ListTemplatesRequest(template_type="gpt-5.5", model="data-export", is_default=False, query="a b"),
        ListTemplatesRequest(
            template_type="data-export",
            model="gpt-5.5",
            is_default=False,
            query="a b",
            view=TemplateView.TEMPLATE_VIEW_FULL,
        ),
    ],
)
def test_a_token_of_other_filters_is_refused(other: ListTemplatesRequest) -> None:
    assert refused(followed(other, token_of(FILTERED, BY_TIME))).reason == "PAGE_TOKEN_INVALID"


def test_a_token_of_another_method_is_refused() -> None:
    token = token_of(ListUsersRequest(), BY_TIME)
    assert refused(ListTemplatesRequest(page_token=token)).reason == "PAGE_TOKEN_INVALID"


TOKEN = token_of(ListUsersRequest(), BY_TIME)


@pytest.mark.parametrize(
    "changed",
    [
        "!",
        "Jw==",
        "é",
        TOKEN[:-1],
        TOKEN[:-4],
        TOKEN[4:],
        TOKEN * 2,
        TOKEN + "AAAA",
        TOKEN + "=",
        TOKEN + "!",
        f" {TOKEN}",
        f"{TOKEN}\n",
        f"{TOKEN[:5]}!{TOKEN[5:]}",
        TOKEN.swapcase(),
        *(
            TOKEN[:index] + ("A" if letter != "A" else "B") + TOKEN[index + 1 :]
            for index, letter in enumerate(TOKEN)
            if letter != "="
        ),
    ],
)
def test_a_changed_token_is_refused(changed: str) -> None:
    assert refused(ListUsersRequest(page_token=changed)).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b'["x", "x"]',
        b'[1, "x", "x"]',
        b"[1, 1]",
        b'[true, "x"]',
        b'[1.5, "x"]',
        b'[99999999999999999999, "x"]',
        b'[1, "a\\u0000b"]',
        b'[1, "\\ud800"]',
        b'{"1": "x"}',
        b"[" * 2000,
    ],
)
def test_a_token_that_somebody_made_is_refused_unless_it_holds_a_key(key: bytes) -> None:
    request = ListUsersRequest()
    request.page_token = urlsafe_b64encode(pages._digest(request, key) + key).decode()
    assert refused(request).reason == "PAGE_TOKEN_INVALID"
