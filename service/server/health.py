"""Health: the servicer, and the thread that asks the database whether to say SERVING."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer

from service import errors
from service.actor import SYSTEM
from service.database import migrate
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.operations import maintenance

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
        self._migrations = migrate.load()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._is_reachable = False
        self._connection: object = None
        """The one on which nothing was in the way."""

    def is_reachable(self) -> bool:
        """Whether the database was there when it was last asked."""
        return self._is_reachable

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(2 * PROBE_SECONDS)

    def _ask(self) -> Mapping[str, Any]:
        """Return what is logged of the database: whether it is reachable, and what else is in the way, if anything."""
        try:
            with time_limit(PROBE_SECONDS):
                maintenance.ping(SYSTEM)
                # That is asked once a connection.
                if database.current() is not self._connection or database.is_doubted:
                    database.is_doubted, self._connection = False, None
                    if obstacles := maintenance.obstacles(SYSTEM, self._migrations):
                        return {"is_reachable": True, **obstacles}
                    self._connection = database.current()
        except errors.Error as error:
            return {"is_reachable": False, "error": str(error.__cause__ or error).strip()}
        except Exception as fault:  # noqa: BLE001 - the thread that watches health must not end
            _log.error("probe", error=type(fault).__name__, sqlstate=sqlstate(fault))
            database.drop()
            return {"is_reachable": False, "error": type(fault).__name__}
        return {"is_reachable": True}

    def _run(self) -> None:
        known: Mapping[str, Any] = {}
        while True:
            found = self._ask()
            self._is_reachable = found["is_reachable"]
            if found != known:
                is_ready = found == {"is_reachable": True}
                _log.log(20 if is_ready else 40, "database", **found)
                self._health.say(is_serving=is_ready)
                known = found
            if self._stopped.wait(PROBE_SECONDS):
                database.drop()
                return
