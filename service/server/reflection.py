"""Reflection in both of its versions, which differ in the name of their package alone."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

import omniflo.templates.v1.error_reason_pb2  # noqa: F401 - described like the rest, though no service refers to it

_POOL = descriptor_pool.Default()


def _add_v1() -> str:
    """Add v1, which grpcio-reflection does not have yet, to what is known, and return the name of its service."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    _POOL.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
    return str(reflection.SERVICE_NAME.replace("v1alpha", "v1"))


_V1 = _add_v1()


def servicer(services: Iterable[str]) -> reflection.ReflectionServicer:
    """Return a servicer that lists these services, and reflection itself."""
    names = [*services, reflection.SERVICE_NAME, _V1]
    return reflection.ReflectionServicer(names, pool=_Pool(names))


def register(servicer: reflection.ReflectionServicer, server: grpc.Server) -> None:
    """Serve both versions."""
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(_V1, {"ServerReflectionInfo": handler})
    server.add_generic_rpc_handlers((handlers,))


class _Pool:
    """The pool of all descriptors, which finds files also by the names of methods: clients ask for them."""

    def __init__(self, services: Iterable[str]) -> None:
        found = map(_POOL.FindServiceByName, services)
        self._files = {method.full_name: service.file for service in found for method in service.methods}

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - as in descriptor_pool
        return self._files.get(symbol) or _POOL.FindFileContainingSymbol(symbol)

    def __getattr__(self, name: str) -> Any:
        return getattr(_POOL, name)
