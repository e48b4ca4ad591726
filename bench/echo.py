"""The bare gRPC server that the service is compared with: `python -m bench.echo FILE` answers the template in FILE."""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc import ServicerContext

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import (
    TemplateServiceServicer,
    add_TemplateServiceServicer_to_server,
)

THREADS = 8
"""As many as a process of the service has."""


class Echo(TemplateServiceServicer):
    def __init__(self, answer: Template) -> None:
        self._answer = answer

    def GetTemplate(self, request: GetTemplateRequest, context: ServicerContext) -> Template:  # noqa: N802 - the proto's
        del request, context
        return self._answer


def main() -> None:
    """Serve on a free port until SIGTERM."""
    answer = Template.FromString(Path(sys.argv[1]).read_bytes())
    server = grpc.server(ThreadPoolExecutor(THREADS))
    add_TemplateServiceServicer_to_server(Echo(answer), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    print(f"listening {port}", flush=True)
    stop.wait()
    server.stop(0).wait(10)


if __name__ == "__main__":
    main()
