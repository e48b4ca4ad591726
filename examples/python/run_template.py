"""Ask the registry what to send for a user and a type, send it to OpenAI, and print what the model says as it comes.

    python run_template.py USER_ID TEMPLATE_TYPE 'What the document says'

Needs the stubs of omniflo.templates.v1, grpcio and openai. The registry is at OMNIFLO_ADDRESS (127.0.0.1:50051 unless
set); OPENAI_API_KEY and OPENAI_BASE_URL are the SDK's own.
"""

import json
import os
import sys

import grpc
import openai

from omniflo.templates.v1.template_service_pb2 import RenderTemplateRequest, ResolutionKey
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub


def main(user_id: str, template_type: str, text: str) -> None:
    with grpc.insecure_channel(os.environ.get("OMNIFLO_ADDRESS", "127.0.0.1:50051")) as channel:
        rendered = TemplateServiceStub(channel).RenderTemplate(
            RenderTemplateRequest(resolve=ResolutionKey(user_id=user_id, template_type=template_type)), timeout=5
        )
    for adjustment in rendered.adjustments:
        print(f"left out: {adjustment.field}: {adjustment.reason}", file=sys.stderr)
    for warning in rendered.warnings:
        print(f"warning: {warning.message}", file=sys.stderr)
    with openai.OpenAI().responses.stream(**json.loads(rendered.responses_request), input=text) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
