"""Asks a server for its health, as probes do."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub


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
            return f"{error.code().name} {error.details()}".rstrip()
    return str(HealthCheckResponse.ServingStatus.Name(response.status))
