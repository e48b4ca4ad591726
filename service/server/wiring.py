"""The server of one process: the one place where things are constructed and wired."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer
from grpc_reflection.v1alpha import reflection

from omniflo.templates.v1 import (
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    organization_service_pb2,
    organization_service_pb2_grpc,
    selection_service_pb2,
    selection_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
    template_type_service_pb2,
    template_type_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)
from service import errors
from service.actor import SYSTEM
from service.cache import Cache
from service.config import Settings
from service.database.feed import Listener
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.identity.clerk import Keys, Sessions
from service.identity.identities import TRUST_SECONDS, Identities
from service.interceptors.authentication import Authentication
from service.interceptors.caching import Caching
from service.interceptors.deadlines import Deadlines
from service.interceptors.errors import Errors
from service.interceptors.logging import Logging
from service.interceptors.streams import Streams
from service.interceptors.validation import Validation
from service.openai_gateway import Gateway
from service.operations import api_keys, maintenance
from service.server import tls
from service.servicers.api_keys import ApiKeyServicer
from service.servicers.openai_models import ModelServicer
from service.servicers.organizations import OrganizationServicer
from service.servicers.selections import SelectionServicer
from service.servicers.template_types import TemplateTypeServicer
from service.servicers.templates import TemplateServicer
from service.servicers.users import UserServicer

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (user_service_pb2, "UserService"),
        (template_type_service_pb2, "TemplateTypeService"),
        (model_service_pb2, "ModelService"),
        (template_service_pb2, "TemplateService"),
        (selection_service_pb2, "SelectionService"),
        (organization_service_pb2, "OrganizationService"),
        (api_key_service_pb2, "ApiKeyService"),
    )
)
"""The full names of the services of this project."""

MAX_MESSAGE_OCTETS = 4 * 1024 * 1024
MAX_METADATA_OCTETS = 8 * 1024
PROBE_SECONDS = 1.0
STREAM_SECONDS = 1800.0
PURGE_SECONDS = 600.0

_OPTIONS = {
    "grpc.so_reuseport": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_OCTETS,
    # The first that is refused.
    "grpc.max_metadata_size": MAX_METADATA_OCTETS + 1,
    "grpc.absolute_max_metadata_size": MAX_METADATA_OCTETS + 1,
    # What one connection may ask for at once, and how long it may say nothing, or live.
    "grpc.max_concurrent_streams": 100,
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.max_connection_idle_ms": 5 * 60_000,
    "grpc.max_connection_age_ms": 30 * 60_000,
    "grpc.max_connection_age_grace_ms": 60_000,
    # A peer that vanished without a word is noticed; one that pings more often than this is sent away.
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.http2.min_ping_interval_without_data_ms": 10_000,
}

_log = structlog.get_logger()


class Health(HealthServicer):  # type: ignore[misc]  # It comes without types.
    """grpcio's own health, whose watches can be ended: a drain would wait for them as it does for calls."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[Callable[[Any], None]] = set()

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802 - the proto's
        self._watches.add(send_response_callback)
        context.add_callback(lambda: self._watches.discard(send_response_callback))
        return super().Watch(request, context, send_response_callback)

    def end_watches(self) -> None:
        for send_response in list(self._watches):
            send_response(None)


class Server:
    """A gRPC server with its health, in this process."""

    def __init__(self, settings: Settings, url: str, trust_seconds: float) -> None:
        self._settings = settings
        self._cache = Cache(settings.cache_mb * 1024 * 1024) if settings.cache_mb else None
        self._listener = None
        if self._cache is not None:
            database.on_change.append(self._cache.change)
            direct = settings.database_direct_url
            self._listener = Listener(self._cache, url if direct is None else direct.get_secret_value())
        self._health = Health()
        # Probes are answered while all other threads wait for the database, and a reflection stream, which holds its
        # thread for as long as it is open, holds none of those that calls need.
        HealthServicer.Check.experimental_thread_pool = ThreadPoolExecutor(1, "health")
        streams = reflection.ReflectionServicer.ServerReflectionInfo
        streams.experimental_thread_pool = ThreadPoolExecutor(2, "reflection")
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self.identities = None if settings.auth == "none" else _identities(settings, trust_seconds)
        self._streams = Streams(STREAM_SECONDS)
        self._server = grpc.server(
            ThreadPoolExecutor(settings.threads, "call"),
            interceptors=[
                Logging(),
                Errors(),
                Deadlines(settings.deadline_seconds, STREAM_SECONDS),
                self._streams,
                Authentication(self.identities, trusts_xfcc=settings.trust_xfcc == "on", cache=self._cache),
                *([] if self._cache is None else [Caching(self._cache)]),
                Validation(),
            ],
            options=list(_OPTIONS.items()),
            maximum_concurrent_rpcs=settings.queue,
        )
        user_service_pb2_grpc.add_UserServiceServicer_to_server(UserServicer(), self._server)
        template_type_service_pb2_grpc.add_TemplateTypeServiceServicer_to_server(TemplateTypeServicer(), self._server)
        self._gateway = Gateway(settings.openai_api_key, settings.openai_base_url)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self._gateway), self._server)
        template_service_pb2_grpc.add_TemplateServiceServicer_to_server(TemplateServicer(), self._server)
        selection_service_pb2_grpc.add_SelectionServiceServicer_to_server(SelectionServicer(), self._server)
        organization_service_pb2_grpc.add_OrganizationServiceServicer_to_server(OrganizationServicer(), self._server)
        api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server(ApiKeyServicer(), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.serves_reflection:
            health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
            reflection.enable_server_reflection([*SERVICES, health, reflection.SERVICE_NAME], self._server)
        # For probes that cannot do TLS.
        self._probes = grpc.server(ThreadPoolExecutor(1, "probes"), options=list(_OPTIONS.items()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probes)
        self._set_health(is_serving=False)

    def start(self, listeners: Mapping[str, str]) -> dict[str, int]:
        """Serve on the addresses, by their settings, and answer the ports; health follows the database."""
        add = {
            "listen": self._add_main,
            "listen_mtls": self._add_mtls,
            "health_listen": self._probes.add_insecure_port,
        }
        ports = {name: add[name](address) for name, address in listeners.items()}
        self._server.start()
        self._probes.start()
        self._keeper.start()
        self._streams.start()
        if self._listener is not None:
            self._listener.start()
        _log.info("serving", **ports, process=os.getpid())
        return ports

    def _add_main(self, address: str) -> int:
        if self._settings.tls_cert is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, tls.credentials(self._settings, wants_client=False))

    def _add_mtls(self, address: str) -> int:
        return self._server.add_secure_port(address, tls.credentials(self._settings, wants_client=True))

    def drain(self) -> None:
        """Say NOT_SERVING, accept nothing more, and end when running calls have, or when their time is up."""
        self._stopped.set()
        self._health.enter_graceful_shutdown()
        self._health.end_watches()
        self._streams.stop()
        self._server.stop(self._settings.drain_seconds).wait()
        self._probes.stop(0).wait()
        self._gateway.close()
        if self._listener is not None:
            self._listener.stop()
        if self._cache is not None:
            database.on_change.remove(self._cache.change)
        self._keeper.join(2 * PROBE_SECONDS)
        _log.info("drained", process=os.getpid())

    def _keep(self) -> None:
        """Ask for the database every second, and forget old request ids every ten minutes."""
        next_purge = time.monotonic()
        was_reachable = None
        while True:
            is_reachable = _is_reachable()
            if is_reachable != was_reachable:
                _log.log(20 if is_reachable else 40, "database", is_reachable=is_reachable)
                self._set_health(is_serving=is_reachable)
                was_reachable = is_reachable
            if is_reachable:
                self._note_keys()
            if is_reachable and time.monotonic() >= next_purge:
                next_purge = time.monotonic() + PURGE_SECONDS
                self._purge()
            if self._stopped.wait(PROBE_SECONDS):
                database.drop()
                return

    def _note_keys(self) -> None:
        """Write which API keys were used in the last second, off the path of the calls that used them."""
        if self.identities is not None and (used := self.identities.used_keys()):
            with _kept_going("API keys"), time_limit(PROBE_SECONDS):
                api_keys.note_use(SYSTEM, used)

    def _purge(self) -> None:
        purged = 0
        with _kept_going("purge"), time_limit(PURGE_SECONDS):
            while not self._stopped.is_set() and (deleted := maintenance.purge_batch(SYSTEM)):
                purged += deleted
        _log.info("purge", purged=purged)

    def _set_health(self, *, is_serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.ServingStatus
        for service in (OVERALL_HEALTH, *SERVICES):
            self._health.set(service, status.SERVING if is_serving else status.NOT_SERVING)


def build(settings: Settings, url: str, *, trust_seconds: float = TRUST_SECONDS) -> Server:
    """Wire a server to the database of that URL; nothing listens and nothing connects yet."""
    database.configure(url, prepares=settings.prepare == "on")
    return Server(settings, url, trust_seconds)


def _identities(settings: Settings, trust_seconds: float) -> Identities:
    sessions = None
    keys = Keys(settings.clerk_jwks_url) if settings.clerk_jwks_url is not None else settings.clerk_jwt_key
    if settings.clerk_issuer is not None and keys is not None:
        sessions = Sessions(
            settings.clerk_issuer,
            keys,
            settings.clerk_authorized_parties,
            allow_no_party=settings.clerk_allow_no_azp,
        )
    return Identities(
        sessions=sessions,
        admins=settings.admins,
        services=settings.services,
        proxies=settings.proxies,
        trust_seconds=trust_seconds,
    )


@contextmanager
def _kept_going(task: str) -> Iterator[None]:
    """Log what goes wrong in the block: the thread that watches health must not end."""
    try:
        yield
    except errors.Error as error:
        _log.warning(task, reason=error.reason)
    except Exception as fault:  # noqa: BLE001 - whatever it is
        _log.error(task, error=type(fault).__name__, sqlstate=sqlstate(fault))


def _is_reachable() -> bool:
    try:
        with time_limit(PROBE_SECONDS):
            maintenance.ping(SYSTEM)
    except errors.Error:
        return False
    except Exception as fault:  # noqa: BLE001 - the thread that watches health must not end
        _log.error("probe", error=type(fault).__name__, sqlstate=sqlstate(fault))
        database.drop()
        return False
    return True
