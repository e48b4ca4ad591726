"""Asks a server for its health, as probes do."""

from pathlib import Path

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from service.config import ConfigurationError, Settings, variable


def ask(
    address: str,
    service: str,
    *,
    seconds: float,
    tls: tuple[bytes | None, bytes | None, bytes | None] | None,
    name: str | None,
) -> str:
    """Return `SERVING`, or whatever else the server says or why it says nothing.

    With `tls`, a CA or None for those that come with grpcio, a key and a certificate chain, the server must have a
    certificate for its host, or for the `name`.
    """
    # A probe is for this server, whatever proxy the environment names for others.
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    if name is not None:
        options.append(("grpc.ssl_target_name_override", name))
    if tls is None:
        channel = grpc.insecure_channel(address, options)
    else:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*tls), options)
    with channel:
        try:
            response = HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=seconds)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"no answer within {seconds:g} s"
            # A server that does not know the name says nothing else.
            return f"{error.code().name} {error.details() or service}"
    return str(HealthCheckResponse.ServingStatus.Name(response.status))


def own_certificate(settings: Settings) -> tuple[bytes | None, str | None]:
    """Return what to trust of the server that has these settings, its certificate itself, and a name that is in it.

    Whoever signed it, and whatever names it has, nobody else has its key.
    """
    if settings.tls_cert is None:
        return None, None
    content = read(settings.tls_cert)
    try:
        certificate = x509.load_pem_x509_certificate(content)
        names = _names(certificate)
    except ValueError as error:
        raise ConfigurationError(f"{variable('tls_cert')}: {error}") from None
    return content, next(iter(names), None)


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    addresses = [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    # A wildcard stands for any name in its place.
    return [*(each.replace("*", "any") for each in found.get_values_for_type(x509.DNSName)), *addresses]
