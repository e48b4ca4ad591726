"""Have a rendered template answered by OpenAI: print what the model says as it comes, and record what that has used.

    python run_template.py USER_ID TEMPLATE_TYPE 'What the document says' [VARIABLE=VALUE …]

Needs the wheel of the registry, and openai. The registry is at TEMPLATES_ADDRESS (127.0.0.1:50051 unless set).
TEMPLATES_KEY is an API key, with which an empty USER_ID means the owner of the key. OPENAI_API_KEY and OPENAI_BASE_URL
are the SDK's own.
"""

import json
import os
import sys
import time
from datetime import timedelta
from importlib.resources import files

import grpc
import openai
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from openai.types.responses import Response

from omniflo.templates.v1.template_service_pb2 import RenderTemplateRequest, RenderTemplateResponse, ResolutionKey
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from omniflo.templates.v1.usage_pb2 import Usage
from omniflo.templates.v1.usage_service_pb2 import RecordUsageRequest
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceStub


def open_channel() -> grpc.Channel:
    """Open a channel that retries what may be retried. A program keeps it for all of its calls."""
    service_config = files("omniflo.templates.v1").joinpath("service_config.json").read_text()
    address = os.environ.get("TEMPLATES_ADDRESS", "127.0.0.1:50051")
    return grpc.insecure_channel(address, [("grpc.service_config", service_config)])


def credentials() -> tuple[tuple[str, str], ...]:
    """Return the metadata that says who calls."""
    key = os.environ.get("TEMPLATES_KEY")
    return (("authorization", f"Bearer {key}"),) if key else ()


def render(
    templates: TemplateServiceStub, user_id: str, template_type: str, variables: dict[str, str]
) -> RenderTemplateResponse:
    """Ask what to send, or say why there is nothing."""
    resolve = ResolutionKey(user_id=user_id, template_type=template_type)
    request = RenderTemplateRequest(resolve=resolve, variables=variables)
    try:
        return templates.RenderTemplate(request, timeout=5, metadata=credentials())
    except grpc.RpcError as error:
        # Nothing, when it is not the registry that answered.
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(error)
        reasons = [info.reason for detail in status.details if detail.Unpack(info)] if status else []
        sys.exit(f"{error.code().name} {' '.join(reasons)}: {error.details()}")


def ask(rendered: RenderTemplateResponse, text: str) -> Response:
    """Send it to OpenAI, and print what comes."""
    with openai.OpenAI().responses.stream(**json.loads(rendered.responses_request), input=text) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
        print()
        return events.get_final_response()


def usage_of(rendered: RenderTemplateResponse, response: Response, user_id: str, seconds: float) -> Usage:
    """Return what a request has used. With the id of the response, it counts once, however often it is sent."""
    usage = Usage(
        event_id=response.id,
        template_id=rendered.template.id,
        template_revision=rendered.revision,
        user_id=user_id,
        model=rendered.template.model,
        success=response.status == "completed",
    )
    usage.duration.FromTimedelta(timedelta(seconds=seconds))
    if response.usage is not None:
        usage.input_tokens = response.usage.input_tokens
        usage.cached_tokens = response.usage.input_tokens_details.cached_tokens
        usage.output_tokens = response.usage.output_tokens
        usage.reasoning_tokens = response.usage.output_tokens_details.reasoning_tokens
    return usage


def main(user_id: str, template_type: str, text: str, *assignments: str) -> None:
    variables = dict(assignment.split("=", 1) for assignment in assignments)
    with open_channel() as channel:
        rendered = render(TemplateServiceStub(channel), user_id, template_type, variables)
        for adjustment in rendered.adjustments:
            print(f"left out: {adjustment.field}: {adjustment.reason}", file=sys.stderr)
        for warning in rendered.warnings:
            print(f"warning: {warning.message}", file=sys.stderr)
        began = time.monotonic()
        response = ask(rendered, text)
        usage = usage_of(rendered, response, user_id, time.monotonic() - began)
        # A program that must not fail for this collects usages, and sends up to 1,000 of them at once.
        UsageServiceStub(channel).RecordUsage(RecordUsageRequest(usages=[usage]), timeout=5, metadata=credentials())


if __name__ == "__main__":
    if len(sys.argv) < 4 or not all("=" in argument for argument in sys.argv[4:]):  # noqa: PLR2004 - itself and its own
        sys.exit(__doc__)
    main(*sys.argv[1:])
