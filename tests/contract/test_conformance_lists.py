"""What every List promises: pages, in one order, of which none is lost and none comes twice."""

from collections.abc import Iterator
from itertools import islice, permutations
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from grpc import StatusCode

from tests.conftest import Api, Database, Failure, empty, fails
from tests.contract import samples
from tests.contract.methods import LISTS, REVISIONS, Field, Method
from tests.contract.walks import walk

NAME = "{0.name}".format
NO_FILTERS = {"page_size", "page_token", "view"}
LARGEST = 2**31 - 1
ALPHABET = f"{ascii_uppercase}{ascii_lowercase}{digits}-_"
"""Of URL-safe base64."""

REMOVABLE = [method for method in LISTS if method.name != "ListChanges" and method not in REVISIONS]
"""The lists of what can be taken back."""

lists = pytest.mark.parametrize("method", LISTS, ids=NAME)

Tokens = dict[Method, tuple[Message, str]]
"""A request of each list, and the token of its second page."""


def pages(api: Api, method: Method, request: Message, size: int) -> Iterator[list[str]]:
    """Walk to the end and answer the ids of each page."""
    for page in walk(method.on(api), with_(request, page_size=size)):
        yield [str(row.revision) if method in REVISIONS else row.id for row in rows_of(page)]


def with_(request: Message, **fields: Any) -> Any:
    changed = type(request)()
    changed.CopyFrom(request)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def rows_of(answer: Message) -> Any:
    return getattr(answer, answer.DESCRIPTOR.fields[0].name)


def assert_is_no_token(failure: Failure) -> None:
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    assert list(failure.violations) == ["page_token"]
    assert failure.metadata == {}


class Filled(NamedTuple):
    """A list with rows that no test changes, which several of them read."""

    api: Api
    method: Method
    rows: samples.Rows
    ids: list[str]
    """Of those that were made by a call each."""

    def pages(self, size: int) -> Iterator[list[str]]:
        return pages(self.api, self.method, self.rows.request, size)

    def token(self) -> str:
        """Return the token of a second page."""
        token: str = self.method.on(self.api)(with_(self.rows.request, page_size=1)).next_page_token
        assert token
        return token


def assert_refuses_token(some: Filled, token: str) -> None:
    assert_is_no_token(fails(some.method.on(some.api), with_(some.rows.request, page_token=token)))


def filled(request: pytest.FixtureRequest, method: Method, count: int) -> Filled:
    empty(request.getfixturevalue("emptying"))
    api = Api(request.getfixturevalue("channel"))
    rows = samples.ROWS[method.name](api)
    return Filled(api, method, rows, [rows.add() for _ in range(count)])


@pytest.fixture(scope="module", params=LISTS, ids=NAME)
def some(request: pytest.FixtureRequest) -> Filled:
    """Each list with 14 rows."""
    return filled(request, request.param, 14)


@pytest.fixture(scope="module")
def tokens(request: pytest.FixtureRequest) -> Tokens:
    """Made once, and the rows are gone: what is refused needs none."""
    made = {}
    for method in LISTS:
        list_ = filled(request, method, 2)
        made[method] = list_.rows.request, list_.token()
    return made


@pytest.fixture(scope="module", params=LISTS, ids=NAME)
def many(request: pytest.FixtureRequest, database_session: Database) -> Filled:
    """Each list with 1,002 rows."""
    made = filled(request, request.param, 1)
    database_session.query(made.rows.copy, (made.ids[0],))
    return made


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_walk_meets_every_row_once(some: Filled, size: int) -> None:
    walked = [id for page in some.pages(size) for id in page]
    assert sorted(walked) == sorted(some.ids)


def test_the_order_does_not_depend_on_the_size_of_pages(some: Filled) -> None:
    walks = [[id for page in some.pages(size) for id in page] for size in (1, 3, 1000)]
    assert walks[0] == walks[1] == walks[2]


@pytest.mark.parametrize("size", [1, 7])
def test_the_last_page_has_no_token_even_when_it_is_full(some: Filled, size: int) -> None:
    assert [len(page) for page in some.pages(size)] == [size] * (14 // size)


# An organization has a member at any time.
@pytest.mark.parametrize("method", [method for method in REMOVABLE if method.name != "ListMembers"], ids=NAME)
def test_nothing_to_list_is_one_empty_page(api: Api, method: Method) -> None:
    rows = samples.ROWS[method.name](api)
    rows.remove(rows.add())
    request = rows.request
    for row in rows_of(method.on(api)(request)):
        rows.remove(row.id)
    assert method.on(api)(request) == method.response()


@pytest.mark.parametrize(("size", "first"), [(0, 50), (999, 999), (1000, 1000), (1001, 1000), (LARGEST, 1000)])
def test_a_page_has_50_rows_by_default_and_1000_at_most(many: Filled, size: int, first: int) -> None:
    walk = list(islice(many.pages(size), 2))
    assert len(walk[0]) == first
    assert walk[1]


def test_a_walk_of_pages_of_1000_meets_every_row_once(many: Filled) -> None:
    walked = [id for page in many.pages(1000) for id in page]
    assert len(walked) == len(set(walked)) == 1002


@pytest.mark.parametrize("size", [-1, -LARGEST - 1])
@lists
def test_a_negative_size_is_refused(tokens: Tokens, channel: grpc.Channel, method: Method, size: int) -> None:
    request, _ = tokens[method]
    failure = fails(method.on(Api(channel)), with_(request, page_size=size))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == ["page_size"]


@pytest.mark.parametrize("method", REMOVABLE, ids=NAME)
def test_rows_that_stay_are_met_once_while_others_come_and_go(api: Api, method: Method) -> None:
    rows = samples.ROWS[method.name](api)
    order = [rows.add() for _ in range(12)]
    staying, leaving = set(order[::2]), order[1::2]
    walked = []
    for page in pages(api, method, rows.request, 2):
        walked += page
        # Also the row that the token was made of goes.
        for id in {id for id in page if id in leaving} or set(leaving[-1:]):
            rows.remove(id)
            leaving.remove(id)
        if len(walked) < 12:
            rows.add()
    assert len(walked) == len(set(walked))
    assert staying <= set(walked)
    assert not leaving


def test_a_token_with_any_character_changed_is_refused(some: Filled) -> None:
    token = some.token()
    for index, character in enumerate(token):
        # The neighbours differ in the lowest bit, which a last character may have to spare.
        for other in {"A", "B", ALPHABET[ALPHABET.find(character) ^ 1]} - {character}:
            assert_refuses_token(some, token[:index] + other + token[index + 1 :])


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1],
        lambda token: token[1:],
        lambda token: token + token,
        lambda token: token + "!",
        lambda token: token + "=",
        lambda token: token[:8] + "\n" + token[8:],
        lambda token: token.swapcase(),
        lambda _: "é😀",
        lambda _: "W10=",
        lambda _: "x" * 2048,
    ],
    ids=["shorter", "headless", "twice", "tail", "padding", "newline", "case", "non-ASCII", "JSON", "long"],
)
def test_a_token_of_another_shape_is_refused(some: Filled, change: Any) -> None:
    assert_refuses_token(some, change(some.token()))


@pytest.mark.parametrize(("method", "other"), [*permutations(LISTS, 2)], ids=NAME)
def test_a_token_is_of_one_method(tokens: Tokens, channel: grpc.Channel, method: Method, other: Method) -> None:
    (request, _), (_, token) = tokens[method], tokens[other]
    assert_is_no_token(fails(method.on(Api(channel)), with_(request, page_token=token)))


def filters(method: Method) -> list[Field]:
    return [field for field in method.fields() if field.name not in NO_FILTERS]


@pytest.mark.parametrize(
    ("method", "filter_"),
    [(method, filter_) for method in LISTS for filter_ in filters(method)],
    ids=str,
)
def test_a_token_is_of_one_set_of_filters(
    tokens: Tokens, channel: grpc.Channel, method: Method, filter_: Field
) -> None:
    request, token = tokens[method]
    changed = with_(request, page_token=token)
    last = filter_.last
    if last.message_type is not None:
        other = Date(year=2030, month=1, day=1) if last.message_type.name == "Date" else Timestamp(seconds=5)
        getattr(changed, filter_.name).CopyFrom(other)
    elif last.enum_type is not None:
        filter_.put(changed, last.enum_type.values[1].number)
    else:
        filter_.put(changed, True if last.type == FieldDescriptor.TYPE_BOOL else "other")
    assert_is_no_token(fails(method.on(Api(channel)), changed))


def test_a_token_goes_with_any_size_of_page(some: Filled) -> None:
    request = with_(some.rows.request, page_token=some.token(), page_size=3)
    assert len(rows_of(some.method.on(some.api)(request))) == 3
