"""What every field of every request promises: its bounds to the character, and text that comes back as it was sent."""

from copy import deepcopy
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message
from grpc import StatusCode

from omniflo.templates.v1.template_type_pb2 import OpenAIToolType
from tests.conftest import Api, Failure, fails
from tests.contract import samples
from tests.contract.methods import IMMUTABLE, METHODS, OUTPUT_ONLY, UPDATES, Field, Method, behaviour

TEXTS = {
    "emoji": "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL} plan \N{ROCKET}",
    "right-to-left": "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627",
    "all that may be mistaken": " e\u0301\ufeff\u2028\r\n\t%s {} \\ ' \" ; -- </a> ",
}

FIELDS = [(method, field) for method in METHODS for field in method.fields()]
STRINGS = [(method, field) for method in METHODS for field in method.strings()]
BOUNDED = [(method, field) for method, field in STRINGS if field.rules.string.max_len or field.rules.string.max_bytes]
FORMED = {"schema", "response_format", "results", "page_token", "resume_token", "etag"}
"""Texts that have a form of their own."""
FREE = [(method, field) for method, field in BOUNDED if not field.rules.string.pattern and field.name not in FORMED]


_SAMPLES: dict[Method, Message] = {}


def name(value: object) -> str:
    return value.name if isinstance(value, Method) else str(value)


def each(fields: list[tuple[Method, Field]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("method", "field"), fields, ids=name)


class Refusing:
    """A server, and a sample of each method that is made once and whose rows may be gone.

    What breaks a rule is refused without them.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def sample(self, method: Method) -> Any:
        if method not in _SAMPLES:
            _SAMPLES[method] = samples.of(self._request.getfixturevalue("api"), method)
        return deepcopy(_SAMPLES[method])

    def fails(self, method: Method, request: Message) -> Failure:
        return fails(method.on(Api(self._request.getfixturevalue("channel"))), request)

    def fails_with(self, method: Method, field: Field, *values: Any) -> Failure:
        """Send something else in the field of the sample, which must be refused."""
        return self.fails(method, changed(self.sample(method), method, field, *values))


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Refusing:
    return Refusing(request)


def request_with(api: Api, method: Method, field: Field, *values: Any) -> Any:
    """Answer the sample of a method with something else in the field."""
    return changed(samples.of(api, method), method, field, *values)


def changed(request: Any, method: Method, field: Field, *values: Any) -> Any:
    """Put something else into the field of a sample, and answer it."""
    for config in ("file_search", "code_interpreter"):
        if field.way[1:2] and field.way[1].name == config:
            tool = request.template_tool
            tool.type = OpenAIToolType.Value(f"OPEN_AI_TOOL_TYPE_{config.upper()}")
            tool.schema = ""
            tool.ClearField("strict")
            if method in UPDATES:
                request.update_mask.paths.append("*")
    samples.put(request, field, *values)
    return request


def longest(field: Field, text: str = "a") -> str:
    """Answer the longest text that the rules of the field allow."""
    if field.name in {"schema", "response_format"}:
        empty = '{"type": "object", "properties": {}, "title": ""}'
        return empty.replace('""', f'"{"a" * (field.rules.string.max_bytes - len(empty))}"')
    if field.name == "results":
        return f'"{"a" * (field.rules.string.max_bytes - 2)}"'
    return text * int(field.rules.string.max_len or field.rules.string.max_bytes)


def outcome(method: Method, api: Api, request: Message) -> Any:
    """Answer the response, or how the call was refused."""
    try:
        return method.on(api)(request)
    except grpc.RpcError as error:
        return Failure(error)


def assert_only_names(failure: Failure, field: Field) -> None:
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(failure.violations) == [str(field)]
    assert failure.metadata == {}


@each(STRINGS)
def test_a_text_that_a_caller_writes_has_a_bound(method: Method, field: Field) -> None:
    del method
    rules = field.rules.string
    assert rules.max_len or rules.max_bytes or getattr(rules, "in") or OUTPUT_ONLY in behaviour(field.last)


@each(BOUNDED)
def test_a_text_at_its_limit_is_accepted(api: Api, method: Method, field: Field) -> None:
    answer = outcome(method, api, request_with(api, method, field, longest(field)))
    if isinstance(answer, Failure):
        # A token is more than a text that is not too long.
        assert answer.reason != "FIELD_INVALID" or field.name == "resume_token", answer.violations
        assert "at most" not in str(answer.violations)
        assert answer.reason.endswith(("_NOT_FOUND", "ETAG_MISMATCH", "PAGE_TOKEN_INVALID", "FIELD_INVALID"))


@each([(method, field) for method, field in FREE if field.rules.string.max_len])
def test_a_limit_counts_characters_and_not_bytes(api: Api, method: Method, field: Field) -> None:
    answer = outcome(method, api, request_with(api, method, field, longest(field, "😀")))
    if isinstance(answer, Failure):
        assert answer.reason.endswith("_NOT_FOUND")


@each(BOUNDED)
def test_a_text_over_its_limit_is_named(refusing: Refusing, method: Method, field: Field) -> None:
    failure = refusing.fails_with(method, field, longest(field) + "a")
    assert_only_names(failure, field)
    limit = field.rules.string.max_len or field.rules.string.max_bytes
    assert str(limit) in failure.violations[str(field)]


@each(BOUNDED)
def test_a_text_with_the_character_zero_is_named(refusing: Refusing, method: Method, field: Field) -> None:
    failure = refusing.fails_with(method, field, "a\0b")
    assert_only_names(failure, field)
    assert "\0" not in failure.violations[str(field)]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@each([(method, field) for method, field in FREE if field not in method.references()])
def test_any_text_comes_back_as_it_was_sent(api: Api, method: Method, field: Field, text: str) -> None:
    answer = method.on(api)(request_with(api, method, field, text))
    is_kept = not method.is_read and not {OUTPUT_ONLY, IMMUTABLE} & set(behaviour(field.last))
    # The revision has it, and not the template; or OpenAI is sent it.
    is_kept = is_kept and field.name not in {"message", "input_text"}
    # What it tells of usages is how many there are.
    is_kept = is_kept and method.name != "RecordUsage"
    if is_kept:
        kept = Field(field.way[1:] or field.way).value(method.resource_of(answer))
        assert (list(kept) if field.last.is_repeated else kept) == ([text] if field.last.is_repeated else text)


REFERENCES = [(method, field) for method in METHODS for field in method.references()]


@each([(method, field) for method, field in REFERENCES if field.name != "template_types"])
@pytest.mark.parametrize("key", ["not-there", TEXTS["emoji"]], ids=["ASCII", "emoji"])
def test_what_nobody_has_is_not_found(api: Api, method: Method, field: Field, key: str) -> None:
    if field.rules.string.pattern:
        key = "not-there"
    failure = fails(method.on(api), request_with(api, method, field, key))
    assert failure.code == StatusCode.NOT_FOUND
    assert key in failure.metadata.values()
    assert key not in failure.message
    assert failure.violations == {}


@each(
    [
        (method, field)
        for method in METHODS
        for field in method.required_references()
        if method not in UPDATES or field.name == "id"
    ]
)
def test_a_reference_must_not_be_empty(refusing: Refusing, method: Method, field: Field) -> None:
    assert_only_names(refusing.fails_with(method, field, ""), field)


@each(REFERENCES)
def test_a_reference_of_10_kilobytes_is_refused(refusing: Refusing, method: Method, field: Field) -> None:
    failure = refusing.fails_with(method, field, "mine" * 2560)
    assert_only_names(failure, field)
    assert "mine" not in failure.message + failure.violations[str(field)]


@each([(method, field) for method, field in STRINGS if field.name == "request_id"])
@pytest.mark.parametrize("text", ["é", "\n", "\x7f", "😀"])
def test_a_request_id_is_printable_ascii(refusing: Refusing, method: Method, field: Field, text: str) -> None:
    assert_only_names(refusing.fails_with(method, field, text), field)


@each(
    [
        (method, field)
        for method in METHODS
        for field in method.fields()
        if field.last.enum_type and OUTPUT_ONLY not in behaviour(field.last)
    ]
)
@pytest.mark.parametrize("number", [99, -1])
def test_a_value_that_an_enum_does_not_have_is_named(
    refusing: Refusing, method: Method, field: Field, number: int
) -> None:
    failure = refusing.fails_with(method, field, number)
    assert_only_names(failure, field)


@each([(method, field) for method, field in STRINGS if getattr(field.rules.string, "in")])
def test_one_of_some_texts_is_accepted_and_no_other(api: Api, method: Method, field: Field) -> None:
    for text in getattr(field.rules.string, "in"):
        method.on(api)(request_with(api, method, field, text))
    for text in ("other", "1G", " 1g"):
        assert_only_names(fails(method.on(api), request_with(api, method, field, text)), field)


@each([(method, field) for method, field in FIELDS if field.last.is_repeated and field.last.name != "paths"])
def test_a_list_that_a_caller_sends_has_a_most(method: Method, field: Field) -> None:
    assert field.max_items or OUTPUT_ONLY in behaviour(field.last), "buf.validate max_items"
    if field.last.type == field.last.TYPE_STRING and OUTPUT_ONLY not in behaviour(field.last):
        rules = field.rules.string
        assert rules.min_len or rules.pattern, "buf.validate items.string.min_len"
    del method


@each([(method, field) for method, field in FIELDS if field.container.repeated.max_items])
def test_a_repeated_field_has_a_most(api: Api, method: Method, field: Field) -> None:
    most = field.container.repeated.max_items
    item: Any = "a" if field.last.enum_type is None else field.last.enum_type.values[-1].number
    if field.last.message_type is not None:
        item = message_factory.GetMessageClass(field.last.message_type)()
    name = str(field).removesuffix("[0]")
    answer = outcome(method, api, request_with(api, method, field, *[item] * most))
    # The items may break rules of their own.
    assert not isinstance(answer, Failure) or name not in answer.violations
    failure = fails(method.on(api), request_with(api, method, field, *[item] * (most + 1)))
    assert list(failure.violations) == [name]


@each([(method, field) for method, field in FIELDS if field.container.repeated.min_items])
def test_a_repeated_field_has_a_least(refusing: Refusing, method: Method, field: Field) -> None:
    failure = refusing.fails_with(method, field)
    assert list(failure.violations) == [str(field).removesuffix("[0]")]


@each([(method, field) for method, field in FIELDS if field.rules.string.min_len and field.last.is_repeated])
def test_many_violations_are_cut_and_counted(refusing: Refusing, method: Method, field: Field) -> None:
    many = min(90, field.container.repeated.max_items or 90)
    failure = refusing.fails_with(method, field, *[""] * many)
    assert failure.reason == "FIELD_INVALID"
    path = str(field).removesuffix("[0]")
    assert list(failure.violations) == [f"{path}[{index}]" for index in range(min(20, many))]
    assert failure.metadata == ({"more_violations": str(many - 20)} if many > 20 else {})


@pytest.mark.parametrize("method", UPDATES, ids=name)
def test_an_error_stays_small_however_much_is_wrong(api: Api, method: Method) -> None:
    request: Any = samples.of(api, method)
    request.update_mask.paths.extend(["é" * 80] * 100)
    with pytest.raises(grpc.RpcError) as caught:
        method.on(api)(request)
    failure = Failure(caught.value)
    assert failure.violations
    assert len(failure.violations) + int(failure.metadata["more_violations"]) == 100
    call: Any = caught.value
    (details,) = [entry.value for entry in call.trailing_metadata() if entry.key == "grpc-status-details-bin"]
    assert len(details) <= 4096


def _bounded(method: Method) -> list[Field]:
    """Answer the fields that can all be wrong together."""
    return [
        field
        for method_, field in BOUNDED
        if method_ == method and not any(step.containing_oneof for step in field.way)
    ]


@pytest.mark.parametrize("method", [method for method in METHODS if _bounded(method)], ids=name)
def test_all_that_is_wrong_comes_back_at_once(refusing: Refusing, method: Method) -> None:
    request = refusing.sample(method)
    for field in _bounded(method):
        field.put(request, longest(field) + "a")
    failure = refusing.fails(method, request)
    assert sorted(failure.violations) == sorted(map(str, _bounded(method)))
    assert failure.metadata == {}
