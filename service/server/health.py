"""Health: the servicer, and the thread that asks the database whether to say SERVING."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer

from service import errors
from service.actor import SYSTEM
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.operations import maintenance

T = TypeVar("T")

PROBE_SECONDS = 1.0

_log = structlog.get_logger()


class Health(HealthServicer):  # type: ignore[misc]  # It comes without types.
    """grpcio's own health, whose watches can be ended: a drain would wait for them as it does for calls."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__()
        self._services = (OVERALL_HEALTH, *services)
        self._watches: set[Callable[[Any], None]] = set()
        self.say(is_serving=False)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802 - the proto's
        self._watches.add(send_response_callback)
        context.add_callback(lambda: self._watches.discard(send_response_callback))
        return super().Watch(request, context, send_response_callback)

    def say(self, *, is_serving: bool) -> None:
        """Tell it of the whole server and of each service, until `stop`."""
        status = health_pb2.HealthCheckResponse.ServingStatus
        for service in self._services:
            self.set(service, status.SERVING if is_serving else status.NOT_SERVING)

    def start(self) -> None:
        """Do nothing: it is the listeners that answer."""

    def stop(self) -> None:
        """Say NOT_SERVING from now on, and end the watches."""
        self.enter_graceful_shutdown()
        for send_response in list(self._watches):
            send_response(None)


class Probe:
    """A thread that asks the database every second, and nothing else: health is never later than that."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._is_reachable: bool | None = None
        self._connection: object = None
        """The one on which nothing was missing."""

    def is_reachable(self) -> bool:
        """Whether the database was there when it was last asked."""
        return bool(self._is_reachable)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(2 * PROBE_SECONDS)

    def _missing(self) -> Sequence[str] | None:
        """Return what the database's role lacks; None when that cannot be asked. It is asked once a connection."""
        if database.current() is self._connection and not database.is_doubted:
            return ()
        database.is_doubted, self._connection = False, None
        found = _missing()
        if found == ():
            self._connection = database.current()
        return found

    def _run(self) -> None:
        known: object = None
        while True:
            is_reachable = _is_reachable()
            missing = self._missing() if is_reachable else ()
            if missing is None:
                is_reachable, missing = False, ()
            if (is_reachable, missing) != known:
                is_ready = is_reachable and not missing
                more = {"missing": missing} if missing else {}
                _log.log(20 if is_ready else 40, "database", is_reachable=is_reachable, **more)
                self._health.say(is_serving=is_ready)
                self._is_reachable = is_reachable
                known = (is_reachable, missing)
            if self._stopped.wait(PROBE_SECONDS):
                database.drop()
                return


def _is_reachable() -> bool:
    def ask() -> bool:
        maintenance.ping(SYSTEM)
        return True

    return _asked(ask) or False


def _missing() -> Sequence[str] | None:
    return _asked(lambda: tuple(maintenance.missing(SYSTEM)))


def _asked(ask: Callable[[], T]) -> T | None:
    """Return what the database answers, or None."""
    try:
        with time_limit(PROBE_SECONDS):
            return ask()
    except errors.Error:
        return None
    except Exception as fault:  # noqa: BLE001 - the thread that watches health must not end
        _log.error("probe", error=type(fault).__name__, sqlstate=sqlstate(fault))
        database.drop()
        return None
