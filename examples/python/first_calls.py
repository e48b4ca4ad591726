"""The first calls of a caller: render a template, change one field of it with a mask, and read an error.

    python first_calls.py TEMPLATE_TYPE [USER_ID]

../README.md says how to run it. The registry is at TEMPLATES_ADDRESS (127.0.0.1:50051 unless set). TEMPLATES_KEY is an
API key, whose owner is the user if no other is given.
"""

import os
import sys
import uuid
from pathlib import Path

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import RenderTemplateRequest, ResolutionKey, UpdateTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub

# Says which calls the channel may retry. Where the wheel of the service is installed, it is
# importlib.resources.files("omniflo.templates.v1") / "service_config.json".
SERVICE_CONFIG = Path(__file__).parents[2] / "docs" / "service_config.json"
SECONDS = 5.0


def main(template_type: str, user_id: str = "") -> None:
    key = os.environ.get("TEMPLATES_KEY")
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
    # On a network: grpc.secure_channel(address, grpc.ssl_channel_credentials(), options).
    with grpc.insecure_channel(os.environ.get("TEMPLATES_ADDRESS", "127.0.0.1:50051"), options) as channel:
        templates = TemplateServiceStub(channel)

        resolve = ResolutionKey(user_id=user_id, template_type=template_type)
        rendered = templates.RenderTemplate(RenderTemplateRequest(resolve=resolve), timeout=SECONDS, metadata=metadata)
        print(f"send to OpenAI: {rendered.responses_request}")
        for adjustment in rendered.adjustments:
            print(f"left out: {adjustment.field}: {adjustment.reason}")

        # Only what the mask names is changed, and with the etag only if nobody else has changed the template since. A
        # write with a request_id can be sent again.
        update = UpdateTemplateRequest(
            template=Template(id=rendered.template.id, etag=rendered.template.etag, description="Used from Python"),
            update_mask=FieldMask(paths=["description"]),
            request_id=str(uuid.uuid4()),
        )
        updated = templates.UpdateTemplate(update, timeout=SECONDS, metadata=metadata)
        print(f"description: {updated.description}")

        wrong = UpdateTemplateRequest(
            template=Template(id=rendered.template.id, temperature=3), update_mask=FieldMask(paths=["temperature"])
        )
        try:
            templates.UpdateTemplate(wrong, timeout=SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            print(explain(error))


def explain(error: grpc.RpcError) -> str:
    """Say what an error says: its code, its reason, and which fields are wrong."""
    status = rpc_status.from_call(error)
    if status is None:
        # It comes from gRPC: no server, for example.
        return f"{error.code().name}: {error.details()}"
    info, bad_request = ErrorInfo(), BadRequest()
    for detail in status.details:
        # Each is unpacked into the message of its type.
        detail.Unpack(info)
        detail.Unpack(bad_request)
    # The reason is a value of ErrorReason without its prefix: ERROR_REASON_FIELD_INVALID is FIELD_INVALID.
    lines = [f"{error.code().name} {info.reason}: {status.message}"]
    return "\n".join([*lines, *(f"  {each.field}: {each.description}" for each in bad_request.field_violations)])


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(explain(error))
