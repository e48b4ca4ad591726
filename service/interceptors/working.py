"""As many calls work at once as there are connections. One that waits for a message or a slow reader does not work."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc

from service import actor
from service.database.slots import working
from service.interceptors.interceptor import Interceptor, behaviour_of, is_callback, like
from service.interceptors.shares import Shares


class _Sharing:
    """Holds a connection in the block, as one of the caller's share."""

    def __init__(self, shares: Shares, name: str) -> None:
        self._shares, self._name, self._working = shares, name, working()

    def __enter__(self) -> None:
        self._caller = self._shares.take(self._name)
        try:
            self._working.__enter__()
        except BaseException:
            self._shares.give(self._name, self._caller)
            raise

    def __exit__(self, *_: object) -> None:
        self._working.__exit__()
        self._shares.give(self._name, self._caller)


class Working(Interceptor):
    def __init__(self, shares: Shares) -> None:
        self._shares = shares

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        del method, context
        caller = actor.current()
        # Services are the operator's own, and have no share.
        return working() if caller.is_trusted or caller.role is not None else _Sharing(self._shares, caller.name)

    def wrap(self, method: str, handler: Any) -> Any:
        if is_callback(handler) or not (handler.request_streaming or handler.response_streaming):
            return super().wrap(method, handler)
        behaviour = behaviour_of(handler)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            # Each step to the next message is work; between them others have the connection.
            messages = iter(behaviour(request, context))
            while True:
                with working():
                    message = next(messages, None)
                if message is None:
                    return
                yield message

        # A method that takes a stream works when its operations do.
        return like(handler, stream if handler.response_streaming else behaviour)
