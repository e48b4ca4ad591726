"""Reflection as clients ask for it: in both versions, for every kind of symbol, and through real clients."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.conftest import ROOT, Failure
from tests.e2e.serving import serving

SECONDS = 30.0
PACKAGE = "omniflo.templates.v1"
FOLDER = "omniflo/templates/v1"
GRPCURL = shutil.which("grpcurl")
needs_grpcurl = pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")

both_versions = pytest.mark.parametrize("version", ["v1", "v1alpha"])


@pytest.fixture(scope="module")
def address(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a process that knows no more descriptors than the service needs."""
    with serving(new_database(), tmp_path_factory.mktemp("serving") / "log") as service:
        yield service.address


@pytest.fixture(scope="module")
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


def ask(channel: grpc.Channel, version: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
    # The versions differ in the name of the package alone, so one has the messages of the other.
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    (response,) = method(iter([request]), timeout=SECONDS)
    assert response.original_request == request
    return response


def files(response: ServerReflectionResponse) -> list[str]:
    """Return the names of the files, of which the first is what was asked for."""
    found = response.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file).name for file in found]


@both_versions
@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        (f"{PACKAGE}.TemplateService", f"{FOLDER}/template_service.proto"),
        (f"{PACKAGE}.TemplateService.RenderTemplate", f"{FOLDER}/template_service.proto"),
        (f"{PACKAGE}.UserService.ProvisionUser", f"{FOLDER}/user_service.proto"),
        (f"{PACKAGE}.Template", f"{FOLDER}/template.proto"),
        (f"{PACKAGE}.Template.title", f"{FOLDER}/template.proto"),
        (f"{PACKAGE}.RenderTemplateRequest.key", f"{FOLDER}/template_service.proto"),
        (f"{PACKAGE}.TemplateView", f"{FOLDER}/template.proto"),
        (f"{PACKAGE}.TEMPLATE_VIEW_FULL", f"{FOLDER}/template.proto"),
        (f"{PACKAGE}.ErrorReason", f"{FOLDER}/error_reason.proto"),
        (f"{PACKAGE}.ERROR_REASON_CONFLICT", f"{FOLDER}/error_reason.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("google.rpc.BadRequest.FieldViolation", "google/rpc/error_details.proto"),
        ("google.protobuf.FieldDescriptorProto.TYPE_STRING", "google/protobuf/descriptor.proto"),
        ("buf.validate.field", "buf/validate/validate.proto"),
        ("grpc.health.v1.Health.Check", "grpc_health/v1/health.proto"),
    ],
)
def test_every_kind_of_symbol_is_found_with_what_its_file_imports(
    channel: grpc.Channel, version: str, symbol: str, file: str
) -> None:
    response = ask(channel, version, ServerReflectionRequest(file_containing_symbol=symbol))
    assert files(response)[0] == file
    found = [FileDescriptorProto.FromString(each) for each in response.file_descriptor_response.file_descriptor_proto]
    assert {name for each in found for name in each.dependency} <= {each.name for each in found}


@both_versions
@pytest.mark.parametrize("symbol", ["", PACKAGE, f"{PACKAGE}.Nothing", f"{PACKAGE}.TemplateService.Nothing"])
def test_an_unknown_symbol_is_not_found(channel: grpc.Channel, version: str, symbol: str) -> None:
    response = ask(channel, version, ServerReflectionRequest(file_containing_symbol=symbol))
    assert response.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@both_versions
def test_every_service_that_is_listed_is_described(channel: grpc.Channel, version: str) -> None:
    response = ask(channel, version, ServerReflectionRequest(list_services=""))
    names = [service.name for service in response.list_services_response.service]
    assert {f"grpc.reflection.{each}.ServerReflection" for each in ("v1", "v1alpha")} < set(names)
    for name in names:
        assert files(ask(channel, version, ServerReflectionRequest(file_containing_symbol=name)))


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@both_versions
def test_buf_lists_methods(address: str, version: str) -> None:
    buf = Path(sys.executable).parent / "buf"
    flags = ("--http2-prior-knowledge", "--reflect-protocol", f"grpc-{version}", "--list-methods")
    listed = run(buf, "curl", "--protocol", "grpc", *flags, f"http://{address}").split()
    assert f"{PACKAGE}.TemplateService/RenderTemplate" in listed


@needs_grpcurl
def test_grpcurl_describes_all_services_and_a_method(address: str) -> None:
    assert f"{PACKAGE}.TemplateService is a service" in run(GRPCURL, "-plaintext", address, "describe")
    method = f"{PACKAGE}.TemplateService.RenderTemplate"
    assert f"{method} is a method" in run(GRPCURL, "-plaintext", address, "describe", method)


@needs_grpcurl
def test_grpcurl_reads_the_details_of_errors_from_third_party(address: str) -> None:
    includes = ("-import-path", ROOT / "protos", "-import-path", ROOT / "third_party")
    sources = ("-proto", f"{FOLDER}/user_service.proto", "-proto", "google/rpc/error_details.proto")
    command = [GRPCURL, "-plaintext", *includes, *sources, address, f"{PACKAGE}.UserService/GetUser"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert '"reason": "FIELD_INVALID"' in done.stderr
    assert '"field": "key"' in done.stderr


@both_versions
def test_a_stream_that_goes_on_asking_does_not_hold_up_the_end(
    new_database: Callable[[], str], tmp_path: Path, version: str
) -> None:
    def asking() -> Iterator[ServerReflectionRequest]:
        while True:
            yield ServerReflectionRequest(list_services="*")
            time.sleep(0.05)

    with (
        serving(new_database(), tmp_path / "log", drain_seconds=10) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        responses = method(asking())
        assert next(responses)
        service.signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            list(responses)
        # When the drain has lasted its longest, what is left is cancelled, and nobody is told why.
        assert Failure(caught.value).reason == "STREAM_ENDED"
        service.wait(SECONDS)
