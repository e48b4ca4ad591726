"""gRPC servers: what they allow, and where they listen."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, cast

import grpc

from service.database.slots import Slots

MAX_MESSAGE_BYTES = 1536 * 1024
"""More than honest requests have. A method may have a higher limit; gRPC rejects what is larger than this."""
MAX_METADATA_BYTES = 8 * 1024
CANCEL_SECONDS = 2.0
"""For how long calls that are cancelled at the end of a drain are waited for."""

_OPTIONS = {
    "grpc.so_reuseport": 1,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    # gRPC rejects metadata of this size, so it is one byte more than what is accepted.
    "grpc.max_metadata_size": MAX_METADATA_BYTES + 1,
    "grpc.absolute_max_metadata_size": MAX_METADATA_BYTES + 1,
    # What one connection may ask for at once, and how long it may live. An idle one lives as long: gRPC would close it
    # with INTERNAL_ERROR, also while a call is on its way; an old one is closed with NO_ERROR after its last call.
    "grpc.max_concurrent_streams": 100,
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.max_connection_age_ms": 30 * 60_000,
    "grpc.max_connection_age_grace_ms": 60_000,
    # A peer that vanished without a word is noticed, also between calls.
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # Clients in Go and Java send a ping at most each 10 s, some of which arrive a little early. The third ping that is
    # earlier than this ends the connection.
    "grpc.http2.min_ping_interval_without_data_ms": 5_000,
}


class Listening:
    """A gRPC server as a part: it accepts calls from start to stop, and lets those that run finish."""

    def __init__(
        self,
        pools: Sequence[Executor],
        *,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        slots: Slots | None = None,
        drain_seconds: float = 0.0,
    ) -> None:
        """Run calls on the first pool; the others are of the interceptors. All end with this."""
        # grpcio does not end the threads that it is given.
        self._pools = [*pools]
        self._slots = slots
        self.server = grpc.server(
            # All that it does with a pool is to submit.
            cast("ThreadPoolExecutor", pools[0]),
            interceptors=list(interceptors),
            options=list(_OPTIONS.items()),
        )
        self._drain_seconds = drain_seconds

    def add_apart(self, register: Callable[[Any, grpc.Server], None], servicer: object, *, threads: int) -> None:
        """Serve a service on threads of its own: it neither waits for those that calls need, nor takes them."""
        pool = ThreadPoolExecutor(threads, type(servicer).__name__)
        self._pools.append(pool)
        register(_Apart(servicer, pool), self.server)

    def add(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address from `start` on, in plain text without credentials, and return its port."""
        if credentials is None:
            return self.server.add_insecure_port(address)
        return self.server.add_secure_port(address, credentials)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        """Accept nothing more, and end when running calls have, or when their time is up."""
        self.server.stop(self._drain_seconds).wait(self._drain_seconds + CANCEL_SECONDS)
        for pool in self._pools:
            pool.shutdown(wait=False)
        if self._slots is not None:
            self._slots.close()


class _Apart:
    """A servicer as this server alone sees it: with its methods on a pool."""

    def __init__(self, servicer: object, pool: ThreadPoolExecutor) -> None:
        self._servicer = servicer
        self._pool = pool

    def __getattr__(self, method: str) -> "_Behaviour":
        return _Behaviour(getattr(self._servicer, method), self._pool)


class _Behaviour:
    """A method with what grpcio looks for on it. On the servicer's own it would be every server's of the process."""

    def __init__(self, behaviour: Callable[..., Any], pool: ThreadPoolExecutor) -> None:
        self._behaviour = behaviour
        self.experimental_thread_pool = pool
        self.experimental_non_blocking = getattr(behaviour, "experimental_non_blocking", False)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._behaviour(*arguments, **options)
