"""Health: the servicer, and the thread that asks the database whether to say SERVING."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH

from service import errors
from service.actor import SYSTEM
from service.database import migrate
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.interceptors.interceptor import Send
from service.operations import maintenance

LIVENESS = "liveness"
"""A name that is SERVING for as long as the server answers at all, whatever becomes of its database."""
PROBE_SECONDS = 1.0
LOOK_SECONDS = 10.0
"""After how long the schema and the role's rights are looked at again."""
_STATUS = health_pb2.HealthCheckResponse.ServingStatus

_log = structlog.get_logger()


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # It comes without types.
    """One status for the whole server and for each service.

    grpcio's own keeps every name that is watched for ever, and accepts watches while a drain waits for their end.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._services = {OVERALL_HEALTH, *services}
        self._status = _STATUS.NOT_SERVING
        self._watches: dict[Send, bool] = {}
        """What sends to each watch, and whether it is of one of the services."""
        self._is_leaving = self._is_over = False
        self._lock = threading.Lock()

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's
        status = self._status_of(request.service)
        if status == _STATUS.SERVICE_UNKNOWN:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=status)

    def Watch(self, request: Any, context: Any, send_response_callback: Send) -> None:  # noqa: N802 - the proto's
        with self._lock:
            # Nothing is waited for here: the message goes into a queue.
            send_response_callback(health_pb2.HealthCheckResponse(status=self._status_of(request.service)))
            if self._is_over:
                send_response_callback(None)
                return
            self._watches[send_response_callback] = request.service in self._services
        if not context.add_callback(lambda: self._watches.pop(send_response_callback, None)):
            self._watches.pop(send_response_callback, None)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def is_serving(self) -> bool:
        """Whether it says SERVING of the whole server."""
        return bool(self._status == _STATUS.SERVING)

    def say(self, *, is_serving: bool) -> None:
        """Tell it of the whole server and of each service, until `leave`."""
        with self._lock:
            if not self._is_leaving:
                self._tell(_STATUS.SERVING if is_serving else _STATUS.NOT_SERVING)

    def start(self) -> None:
        """Do nothing: it is the listeners that answer."""

    def leave(self) -> None:
        """Say NOT_SERVING from now on, while calls are still accepted."""
        with self._lock:
            self._is_leaving = True
            self._tell(_STATUS.NOT_SERVING)

    def stop(self) -> None:
        """Say NOT_SERVING from now on, and end the watches."""
        self.leave()
        with self._lock:
            self._is_over = True
            for send in list(self._watches):
                send(None)

    def _status_of(self, service: str) -> int:
        if service == LIVENESS:
            return int(_STATUS.SERVING)
        return self._status if service in self._services else int(_STATUS.SERVICE_UNKNOWN)

    def _tell(self, status: int) -> None:
        if status == self._status:
            return
        self._status = status
        for send, is_known in self._watches.copy().items():
            if is_known:
                send(health_pb2.HealthCheckResponse(status=status))


class Probe:
    """A thread that asks the database every second, and nothing else: health is never later than that.

    What is seldom in the way is looked at once a connection, every LOOK_SECONDS, and when a call was refused.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._migrations = migrate.load()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._is_reachable = False
        self._connection: object = None
        """The one on which nothing was in the way."""
        self._look_at = 0.0
        """When to look again, on the clock of `time.monotonic`."""

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
                is_known = database.current() is self._connection and time.monotonic() < self._look_at
                if not is_known or database.is_doubted:
                    database.is_doubted, self._connection = False, None
                    if obstacles := maintenance.obstacles(SYSTEM, self._migrations):
                        return {"is_reachable": True, **obstacles}
                    self._connection, self._look_at = database.current(), time.monotonic() + LOOK_SECONDS
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
                self._health.say(is_serving=is_ready)
                known = found
                _log.log(20 if is_ready else 40, "database", **found)
            if self._stopped.wait(PROBE_SECONDS):
                database.drop()
                return
