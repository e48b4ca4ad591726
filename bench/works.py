"""The kinds of calls: what is sent, and what a right answer is, field for field."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message

from bench import content
from bench.content import Database
from bench.http2 import Call
from omniflo.templates.v1.selection_service_pb2 import (
    ResolutionReason,
    ResolveTemplateRequest,
    ResolveTemplateResponse,
)
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    GetTemplateRequest,
    ListTemplatesRequest,
    ListTemplatesResponse,
    RenderTemplateRequest,
    RenderTemplateResponse,
    ResolutionKey,
)

GET = "GetTemplate"
RESOLVE = "ResolveTemplate"
RENDER = "RenderTemplate"
LIST = "ListTemplates"

PAGE_SIZE = 20
NUMBER = 500
"""The template that is asked for."""
ETAG_SIZE = 12
DEADLINE_SECONDS = 10.0


class WrongAnswerError(Exception):
    """A target answered something else than it should, so its speed means nothing."""


@dataclass(frozen=True)
class Work:
    path: str
    request: Message
    check: Callable[[bytes], None]
    """Raises WrongAnswerError unless the message is what is expected."""

    def call(self, channel: grpc.Channel) -> Call:
        """Make the call with a real client, check its answer, and answer what load is to send and to get."""
        # Without its own serializers, for the octets are what counts.
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.path, None, None)
        request = self.request.SerializeToString()
        answer = method(request, timeout=DEADLINE_SECONDS)
        self.check(answer)
        return Call(self.path, request, len(answer))


def works(database: Database) -> dict[str, Work]:
    """Answer all kinds of calls, and what the content of the service's database makes of them."""
    expected = content.template(database, NUMBER)
    [[user_id]] = database.query(
        "select user_id from user_template_selections where template_id = %s limit 1", [expected.id]
    )
    newest = content.newest(database, PAGE_SIZE)
    package = "/omniflo.templates.v1"
    return {
        GET: Work(
            f"{package}.TemplateService/GetTemplate",
            GetTemplateRequest(id=expected.id),
            lambda octets: _same(Template.FromString(octets), expected),
        ),
        RESOLVE: Work(
            f"{package}.SelectionService/ResolveTemplate",
            ResolveTemplateRequest(user_id=user_id, template_type=expected.template_type),
            lambda octets: _check_resolution(ResolveTemplateResponse.FromString(octets), expected),
        ),
        RENDER: Work(
            f"{package}.TemplateService/RenderTemplate",
            RenderTemplateRequest(resolve=ResolutionKey(user_id=user_id, template_type=expected.template_type)),
            lambda octets: _check_rendering(RenderTemplateResponse.FromString(octets), expected),
        ),
        LIST: Work(
            f"{package}.TemplateService/ListTemplates",
            ListTemplatesRequest(page_size=PAGE_SIZE),
            lambda octets: _check_list(ListTemplatesResponse.FromString(octets), newest),
        ),
    }


def _same(answer: Template, expected: Template) -> None:
    """Compare all fields; the etag is the server's own affair, but must have the size of the service's."""
    if len(answer.etag) != ETAG_SIZE:
        raise WrongAnswerError(f"the etag {answer.etag!r} has not {ETAG_SIZE} characters")
    bare = Template()
    bare.CopyFrom(answer)
    bare.etag = ""
    _equal(bare, expected)


def _check_resolution(answer: ResolveTemplateResponse, expected: Template) -> None:
    _equal(answer.reason, ResolutionReason.RESOLUTION_REASON_SELECTED)
    _same(answer.template, expected)


def _check_rendering(answer: RenderTemplateResponse, expected: Template) -> None:
    summary = Template()
    summary.CopyFrom(expected)
    summary.instructions = ""
    _same(answer.template, summary)
    _equal(answer.reason, ResolutionReason.RESOLUTION_REASON_SELECTED)
    body = json.loads(answer.responses_request)
    _equal(body["model"], expected.model)
    _equal(body["instructions"], expected.instructions)
    _equal(body["temperature"], expected.temperature)
    _equal(
        body["metadata"],
        {
            "template_id": expected.id,
            "template_type": expected.template_type,
            "template_revision": str(expected.revision),
            "template_type_revision": str(answer.template_type_revision),
        },
    )
    # The file search has no stores to search, so it is left out.
    _equal(sorted(tool["type"] for tool in body["tools"]), ["code_interpreter", "function"])
    _equal([adjustment.field.split(".")[0] for adjustment in answer.adjustments], ["tools"])


def _check_list(answer: ListTemplatesResponse, expected: list[Template]) -> None:
    # Whether there is a next_page_token is not compared: the seed has no pages.
    _equal(len(answer.templates), len(expected))
    for template, right in zip(answer.templates, expected, strict=True):
        _same(template, right)


def _equal(answer: object, expected: object) -> None:
    if answer != expected:
        raise WrongAnswerError(f"answered\n{answer}\ninstead of\n{expected}")
