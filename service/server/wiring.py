"""The server of one process: the one place where things are constructed and wired."""

import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME

from omniflo.templates.v1 import (
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    change_service_pb2,
    change_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    organization_service_pb2,
    organization_service_pb2_grpc,
    processing_service_pb2,
    processing_service_pb2_grpc,
    selection_service_pb2,
    selection_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
    template_type_service_pb2,
    template_type_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)
from service.cache import Cache
from service.config import Settings
from service.database.feed import Feed
from service.database.handle import database
from service.database.slots import Slots
from service.identity.clerk import Keys, Sessions
from service.identity.identities import TRUST_SECONDS, Identities
from service.interceptors import limits
from service.interceptors.admission import Admission
from service.interceptors.authentication import Authentication
from service.interceptors.caching import Caching
from service.interceptors.calls import Calls
from service.interceptors.deadlines import Deadlines
from service.interceptors.errors import Errors
from service.interceptors.interceptor import OPEN_SERVICES
from service.interceptors.logging import Logging
from service.interceptors.messages import Messages
from service.interceptors.receiving import Receiving
from service.interceptors.shares import Shares
from service.interceptors.streams import Streams
from service.interceptors.working import Working
from service.metrics import Metrics
from service.models.assistants import Copies
from service.openai_gateway import Gateway
from service.operations import protected_labels, quotas, usages
from service.operations.record_watches import RecordWatches
from service.operations.watches import Watches
from service.server import reflection, tls, tracing
from service.server.health import Health, Probe
from service.server.hearing import Hearing
from service.server.listening import Listening
from service.server.parts import Parts
from service.server.pool import Pool
from service.server.sampling import Sampling, figures
from service.server.upkeep import Upkeep, ending, missing, noting, statement_times, waiting
from service.servicers.api_keys import ApiKeyServicer
from service.servicers.changes import ChangeServicer
from service.servicers.openai_models import ModelServicer
from service.servicers.organizations import OrganizationServicer
from service.servicers.processing import ProcessingServicer
from service.servicers.selections import SelectionServicer
from service.servicers.template_types import TemplateTypeServicer
from service.servicers.templates import TemplateServicer
from service.servicers.uploads import Uploads
from service.servicers.usages import UsageServicer
from service.servicers.users import UserServicer

_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (user_service_pb2, "UserService"),
        (template_type_service_pb2, "TemplateTypeService"),
        (model_service_pb2, "ModelService"),
        (template_service_pb2, "TemplateService"),
        (selection_service_pb2, "SelectionService"),
        (organization_service_pb2, "OrganizationService"),
        (api_key_service_pb2, "ApiKeyService"),
        (change_service_pb2, "ChangeService"),
        (usage_service_pb2, "UsageService"),
        (processing_service_pb2, "ProcessingService"),
    )
)

SERVICES = tuple(service.full_name for service in _SERVICES)
"""The full names of the services of this project."""

METHODS = tuple(f"/{service.full_name}/{method.name}" for service in _SERVICES for method in service.methods)
"""The full paths of their methods."""

MAX_WAITING = 64
"""How many calls may wait for their message; the next one ends the oldest of the caller that has the most of them."""
SPARE_THREADS = 8
"""For calls that need no connection: those that the cache has, and those that are rejected."""
APART_THREADS = 16
"""Of health, and of reflection, on each listener."""
STREAM_SECONDS = 1800.0
"""The longest that a call with a stream may take; callers open another."""

_log = structlog.get_logger()


class Server:
    """A gRPC server with all that runs beside it, in this process."""

    def __init__(self, settings: Settings, url: str, *, trust_seconds: float, measures: bool) -> None:
        self._settings = settings
        # For good: the whole process has one database.
        Copies.are_shown |= settings.assistants == "on"
        metrics = Metrics(METHODS) if measures else None
        cache = Cache(settings.cache_mb * 1024 * 1024) if settings.cache_mb else None
        # Anybody can make callers wait for keys, so half of the threads never do.
        url_of_keys = None if settings.auth == "none" else settings.clerk_jwks_url
        keys = None if url_of_keys is None else Keys(url_of_keys, waiters=max(1, settings.threads // 2))
        self.identities = None if settings.auth == "none" else _identities(settings, keys, trust_seconds)
        streams = Streams(STREAM_SECONDS)
        gateway = Gateway(settings.openai_api_key, settings.openai_base_url)
        self._health = health = Health(SERVICES)
        slots = Slots(settings.threads)
        receiving = _receiving(SERVICES, settings, MAX_WAITING)
        direct_url = url if settings.database_direct_url is None else settings.database_direct_url.get_secret_value()
        watches = Watches(direct_url, hours=settings.watch_hours)
        record_watches = RecordWatches()
        # Whatever happens to calls, these answer.
        open_receiving, plain_receiving = (_receiving(OPEN_SERVICES, settings, APART_THREADS // 2) for _ in range(2))
        shares = Shares(max(1, settings.threads // 2))
        # Nobody who makes one kind of wait as long as may be takes the threads of another.
        most = shares.room + SPARE_THREADS + MAX_WAITING + settings.uploads
        pool = Pool(settings.threads, most, "call", initializer=slots.assign)
        rejecting = ThreadPoolExecutor(1, "rejecting")
        # The first sees the code that callers see, of every call, also of one that is rejected. With the second,
        # whatever those below raise becomes a status.
        logging = Logging([] if metrics is None else [metrics.calls])
        outer = [logging, Errors()]
        self._main = Listening(
            [pool, rejecting],
            # Outermost first.
            interceptors=[
                Admission(pool.waiting, settings.queue, inside=outer, pool=rejecting),
                *outer,
                Calls(),
                # The time runs for all that follows, authentication too, which asks the database.
                Deadlines(settings.deadline_seconds, STREAM_SECONDS),
                streams,
                # Below it, somebody is known to call.
                Authentication(self.identities, trusts_xfcc=settings.trust_xfcc == "on", cache=cache),
                # Nobody's bytes are taken in before that. Below it are bytes in and bytes out.
                receiving,
                open_receiving,
                # Its key is the request's bytes and the caller's rights. What it has needs no connection.
                *([] if cache is None else [Caching(cache)]),
                Working(shares),
                Messages(),
            ],
            slots=slots,
            drain_seconds=settings.drain_seconds,
        )
        uploads = Uploads(
            gateway,
            most=settings.uploads,
            max_bytes=settings.max_file_mb * 1024 * 1024,
            receive_seconds=settings.receive_seconds,
        )
        _add_services(
            self._main.server,
            ModelServicer(gateway),
            ChangeServicer(watches),
            ProcessingServicer(gateway, uploads, record_watches),
        )
        # Probes are answered while all other threads wait for the database.
        self._main.add_apart(health_pb2_grpc.add_HealthServicer_to_server, health, threads=APART_THREADS)
        if settings.serves_reflection:
            # A stream of it holds its thread for as long as it is open.
            reflected = reflection.servicer([*SERVICES, SERVICE_NAME])
            self._main.add_apart(reflection.register, reflected, threads=APART_THREADS)
        # For probes that cannot do TLS, with a thread that the main server's probes cannot take.
        self._plain = Listening(
            [ThreadPoolExecutor(APART_THREADS, "probes")], interceptors=[Errors(), plain_receiving, Messages()]
        )
        health_pb2_grpc.add_HealthServicer_to_server(health, self._plain.server)
        probe = Probe(health)
        chores = [*([] if self.identities is None else [noting(self.identities)]), missing(metrics), statement_times()]
        if metrics is not None:
            chores += [figures(metrics), waiting(metrics), ending(metrics)]
        hearing = None if cache is None else Hearing(cache)
        feed = Feed([*([] if hearing is None else [hearing]), watches], direct_url)
        watches.hurry = feed.hurry
        self._parts = Parts(
            [
                # What calls use is there before the first of them, and until the last has ended.
                logging,
                *tracing.parts(settings),
                gateway,
                *([] if keys is None else [keys]),
                *([] if hearing is None else [hearing]),
                watches,
                record_watches,
                feed,
                # It asks from the start on, and the upkeep waits for what it finds.
                probe,
                Upkeep(chores, probe.is_reachable),
                *(
                    []
                    if metrics is None
                    else [
                        Sampling(
                            metrics,
                            cache=cache,
                            feed=feed,
                            watches=watches,
                            gateway=gateway,
                            uploads=uploads,
                            pool=pool,
                            health=health,
                        )
                    ]
                ),
                # It still says NOT_SERVING to probes while calls finish on the other one.
                receiving,
                open_receiving,
                plain_receiving,
                self._plain,
                self._main,
                # Started last, these are the first to stop. Health says NOT_SERVING and ends its watches, and
                # streams end, for all of which the listeners would wait.
                health,
                streams,
            ]
        )

    def start(self, listeners: Mapping[str, str]) -> dict[str, int]:
        """Serve on the addresses, by their settings, and return the ports; health follows the database."""
        add = {"listen": self._add_main, "listen_mtls": self._add_mtls, "health_listen": self._plain.add}
        ports = {name: add[name](address) for name, address in listeners.items()}
        self._parts.start()
        _log.info("serving", **ports, process=os.getpid())
        return ports

    def drain(self) -> None:
        """Say NOT_SERVING, accept nothing more after a delay, and end when running calls have, or their time is up."""
        self._health.leave()
        time.sleep(self._settings.drain_delay_seconds)
        self._parts.stop()
        _log.info("drained", process=os.getpid())

    def _add_main(self, address: str) -> int:
        is_plain = self._settings.tls_cert is None
        return self._main.add(address, None if is_plain else tls.credentials(self._settings, wants_client=False))

    def _add_mtls(self, address: str) -> int:
        return self._main.add(address, tls.credentials(self._settings, wants_client=True))


def build(settings: Settings, url: str, *, trust_seconds: float = TRUST_SECONDS, measures: bool = False) -> Server:
    """Wire a server to the database of that URL; nothing listens and nothing connects yet.

    With `measures` it keeps metrics, where `metrics.join` has said.
    """
    database.configure(url, prepares=settings.prepare == "on")
    quotas.configure(quotas.Limits(*(getattr(settings, f"max_{kind}") for kind in quotas.Limits._fields)))
    protected_labels.configure(settings.protected_labels)
    usages.configure(settings.usage_days)
    return Server(settings, url, trust_seconds=trust_seconds, measures=measures)


def _receiving(services: Iterable[str], settings: Settings, most: int) -> Receiving:
    pool = descriptor_pool.Default()
    found = [pool.FindServiceByName(name) for name in services]
    senders = Pool(1, most + 1, "send")
    return Receiving(
        limits.of_services(found),
        seconds=settings.receive_seconds,
        most=most,
        most_open=settings.watches,
        senders=senders,
    )


def _identities(settings: Settings, fetched: Keys | None, trust_seconds: float) -> Identities:
    sessions = None
    keys = settings.clerk_jwt_key if fetched is None else fetched
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


def _add_services(
    server: grpc.Server, models: ModelServicer, changes: ChangeServicer, processing: ProcessingServicer
) -> None:
    user_service_pb2_grpc.add_UserServiceServicer_to_server(UserServicer(), server)
    template_type_service_pb2_grpc.add_TemplateTypeServiceServicer_to_server(TemplateTypeServicer(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    template_service_pb2_grpc.add_TemplateServiceServicer_to_server(TemplateServicer(), server)
    selection_service_pb2_grpc.add_SelectionServiceServicer_to_server(SelectionServicer(), server)
    organization_service_pb2_grpc.add_OrganizationServiceServicer_to_server(OrganizationServicer(), server)
    api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server(ApiKeyServicer(), server)
    change_service_pb2_grpc.add_ChangeServiceServicer_to_server(changes, server)
    usage_service_pb2_grpc.add_UsageServiceServicer_to_server(UsageServicer(), server)
    processing_service_pb2_grpc.add_ProcessingServiceServicer_to_server(processing, server)
